"""What may come of an input: a right answer or one sentence. Everything else is a finding.

A case is watched while it runs: which programs it starts (by Python's audit events), how far memory grows (Linux
tells the peak of a process and lets it be reset), how long it takes.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STARTS = {"subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "os.fork", "os.forkpty", "os.startfile"}
MEMORY = 600  # MiB that one input may take
SECONDS = 60.0  # that one input may take, on a machine that does other work, too
_started: list[str] | None = None  # what was started during a case; None between cases
_hooked = False


@dataclass(frozen=True)
class Case:
    """One input. run: what a user would do with it; errors: the refusals that are one sentence.

    check: given what run returned, why that is wrong, or None. must_fail: whether an answer would be wrong.
    """

    name: str
    run: Callable[[], Any]
    errors: tuple[type[BaseException], ...]
    check: Callable[[Any], str | None] = lambda _: None
    must_fail: bool = False
    starts: bool = False  # a process by itself: the command as users run it
    scikit_learns: bool = False  # refusals may be scikit-learn's own, some of which take several lines


@dataclass(frozen=True)
class Finding:
    """kind: traceback, sentence, wrong, process, memory, or time."""

    kind: str
    case: str
    what: str


@dataclass
class Part:
    """What a part of the fuzzing found."""

    name: str
    seed: int
    tried: int = 0
    answered: int = 0
    refused: int = 0
    findings: list[Finding] = field(default_factory=list)
    peak_mib: int = 0  # the most that one case added
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        kinds = Counter(finding.kind for finding in self.findings)
        names = {"traceback": "tracebacks", "sentence": "unclear_sentences", "wrong": "silent_wrongs"}
        names |= {"process": "processes_started", "memory": "over_memory", "time": "over_time"}
        return {
            "seed": self.seed,
            "inputs": self.tried,
            "answered": self.answered,
            "refused_in_one_sentence": self.refused,
            **{title: kinds[kind] for kind, title in names.items()},
            "peak_mib": self.peak_mib,
            "seconds": round(self.seconds, 1),
            "findings": [vars(finding) for finding in self.findings],
        }


def watch(name: str, seed: int, cases: Iterable[Case], memory: int = MEMORY, seconds: float = SECONDS) -> Part:
    """Run the cases one after the other; every way in which one goes wrong is a finding."""
    part = Part(name, seed)
    began = time.perf_counter()
    for case in cases:
        one = _watched(case, memory, seconds)
        part.tried += 1
        part.answered += one.answered
        part.refused += one.refused
        part.peak_mib = max(part.peak_mib, one.grown)
        part.findings += [Finding(kind, case.name, what) for kind, what in one.problems]
    part.seconds = time.perf_counter() - began
    return part


@dataclass
class _Outcome:
    answered: bool = False
    refused: bool = False
    grown: int = 0
    problems: list[tuple[str, str]] = field(default_factory=list)


def _watched(case: Case, memory: int, seconds: float) -> _Outcome:
    global _started
    _hook()
    outcome = _Outcome()
    before, began = _reset_peak(), time.perf_counter()
    _started = []
    try:
        answer = case.run()
        outcome.answered = True
    except case.errors as error:
        outcome.refused = True
        if why := unclear(" ".join(str(error).split()) if case.scikit_learns else str(error)):
            outcome.problems.append(("sentence", why))
    except BaseException as error:
        outcome.problems.append(("traceback", f"{type(error).__name__}: {str(error)[:200]} {_place(error)}"))
    finally:
        started, _started = _started, None
    outcome.grown = max(0, _peak() - before)
    if outcome.answered:
        why = "it was taken for good" if case.must_fail else _checked(case, answer)
        if why is not None:
            outcome.problems.append(("wrong", why))
    if started and not case.starts:
        outcome.problems.append(("process", ", ".join(started)))
    if outcome.grown > memory:
        outcome.problems.append(("memory", f"{outcome.grown} MiB"))
    if time.perf_counter() - began > seconds:
        outcome.problems.append(("time", f"{time.perf_counter() - began:.0f} s"))
    return outcome


def _checked(case: Case, answer: Any) -> str | None:
    try:
        return case.check(answer)
    except Exception as error:  # an answer of a kind that cannot even be compared
        return f"{type(error).__name__}: {error} {_place(error)}"


def unclear(sentence: str) -> str | None:
    """Why a text is not one readable sentence; None where it is."""
    if not sentence.strip():
        return "an empty message"
    if not sentence.isprintable():
        return f"several lines or control codes: {sentence[:200]!r}"
    if "Traceback" in sentence or "internal error" in sentence:
        return sentence[:200]
    return None


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""


def _hook() -> None:
    """Audit hooks cannot be taken away again: there is one, and it listens during cases only."""
    global _hooked
    if not _hooked:
        _hooked = True
        sys.addaudithook(_listen)


def _listen(event: str, arguments: tuple[Any, ...]) -> None:
    if _started is not None and event in STARTS:
        _started.append(f"{event} {arguments[0] if arguments else ''}"[:200])


def _reset_peak() -> int:
    """Forget the peak of this process's memory; returns what it takes now, in MiB (0 where no system tells it)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _status("VmRSS")
    except OSError:
        return 0


def _peak() -> int:
    try:
        return _status("VmHWM")
    except OSError:
        return 0


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) // 1024
