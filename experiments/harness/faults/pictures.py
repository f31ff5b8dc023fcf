"""Pictures that are damaged, and one that changes while it is read."""

from __future__ import annotations

import random
import threading
from pathlib import Path

from experiments.harness.faults.verdicts import Verdict, finish, judge, outputs, picture, rows, write_tar
from invert.batch.states import change_of

KINDS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
TARS, READERS = 20, 50


def mutated(folder: Path, count: int, rng: random.Random) -> Verdict:
    """As many damaged pictures as good ones, in turn: each damaged one has a row, and no good one suffers from it."""
    (folder / "in").mkdir(parents=True)
    (folder / "good").mkdir()
    each = count // TARS
    for tar in range(TARS):
        good = {f"g{tar:03d}{i:03d}.{kind.lower()}": picture(1000 * tar + i, 16, kind) for i, kind in _kinds(each)}
        bad = {f"m{name}": mutation(content, rng) for name, content in good.items()}
        mixed = {name: content for pair in zip(good.items(), bad.items(), strict=True) for name, content in pair}
        write_tar(folder / "in" / f"{tar:05d}.tar", mixed)
        write_tar(folder / "good" / f"{tar:05d}.tar", good)
    verdict = Verdict(runs=1)
    for name in ("in", "good"):
        verdict.wrong += finish(folder / f"out-{name}", folder / name)[0] != 0
    wanted = {row["key"]: row["prompt"] for row in rows(folder / "out-good", verdict)}
    found = rows(folder / "out-in", verdict)
    judge(folder / "out-in", {*map(str, wanted), *(f"m{key}" for key in wanted)}, outputs(folder / "out-in"), verdict)
    verdict.wrong += sum(wanted[row["key"]] != row["prompt"] for row in found if row["key"] in wanted)
    errors = sum(row["error"] is not None for row in found)
    verdict.note = f"{TARS * each} mutated, of which {errors} cannot be read"
    return verdict


def _kinds(n: int) -> list[tuple[int, str]]:
    return [(i, KINDS[i % len(KINDS)]) for i in range(n)]


def mutation(content: bytes, rng: random.Random) -> bytes:
    """Bytes flipped, cut off, put in or taken out."""
    mutant = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(mutant)) if mutant else 0
        match rng.randrange(4):
            case 0 if mutant:
                mutant[at] = rng.randrange(256)
            case 1:
                del mutant[at:]
            case 2:
                mutant[at:at] = rng.randbytes(rng.randint(1, 64))
            case _:
                del mutant[at : at + rng.randint(1, 64)]
    return bytes(mutant)


def changing(folder: Path, runs: int, rng: random.Random) -> Verdict:
    """One picture is overwritten all the time, in pieces: its row is one of its states, or its shard is left to another run."""
    (folder / "in").mkdir(parents=True)
    for i in range(READERS):
        (folder / "in" / f"{i:03d}.png").write_bytes(picture(i, 64))
    restless = folder / "in" / "025.png"
    states = [picture(seed, 64) for seed in (1000, 1001)]
    whole = {prompt_of(folder, state) for state in states}
    verdict, out, over = Verdict(), folder / "out", threading.Event()
    writer = threading.Thread(target=_overwrite, args=(restless, states, over, rng))
    writer.start()
    left = 0
    try:
        for _ in range(runs):
            status, said = finish(out, folder / "in", size=10)
            verdict.runs += 1
            left += status != 0
            verdict.wrong += status != 0 and (status, said.splitlines()) != (1, [change_of(str(restless))])
            verdict.wrong += sum(row["key"] == "025.png" and row["prompt"] not in whole for row in rows(out, verdict))
    finally:
        over.set()
        writer.join()
    verdict.wrong += finish(out, folder / "in", size=10)[0] != 0
    finish(folder / "undisturbed", folder / "in", size=10)
    judge(out, {f"{i:03d}.png" for i in range(READERS)}, outputs(folder / "undisturbed"), verdict)
    verdict.note = f"its shard was left in {left} of {runs} runs while it changed"
    return verdict


def prompt_of(folder: Path, content: bytes) -> object:
    """What the stub model says of a picture."""
    one = folder / f"one-{hash(content)}"
    one.mkdir()
    (one / "a.png").write_bytes(content)
    finish(one / "out", one)
    return rows(one / "out", Verdict())[0]["prompt"]


def _overwrite(path: Path, states: list[bytes], over: threading.Event, rng: random.Random) -> None:
    number = 0
    while not over.is_set():
        content = states[number % 2]
        with open(path, "wb" if rng.random() < 0.5 else "r+b", buffering=0) as file:
            for at in range(0, len(content), 1 + len(content) // 4):
                file.write(content[at : at + 1 + len(content) // 4])
                over.wait(rng.uniform(0, 0.004))
            file.truncate(len(content))
        over.wait(rng.uniform(0, 0.3))
        number += 1
