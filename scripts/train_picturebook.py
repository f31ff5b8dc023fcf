"""Train picturebook's CLIP or its judge, in four phases: `python scripts/train_picturebook.py clip scenes`, then
`… clip pictures`, `… clip families`, `… clip drawings`; check the committed weights: `… clip evaluate`.

- scenes: both towers on random scenes, with hard negatives among them.
- pictures: the image tower alone learns to name what it sees, at three quarters of the cost of a step.
- families: both towers on batches of hard-negative groups, scenes that differ in one thing
  (`invert/picturebook/hard_negatives.py`).
- drawings: the CLIP's image tower and the whole judge on what many hands drew of the objects, on photographs and other
  grounds too. First `scripts/make_drawings.py` collects the drawings, then `scripts/write_attributions.py` writes who made
  them into invert/picturebook/licences/: Fluent (MIT, © Microsoft), OpenMoji (CC BY-SA 4.0), FxEmoji (Apache 2.0, Mozilla),
  Noto's blobs (Apache 2.0, Google), EmojiOne 2.3 (CC BY 4.0), the Open Clip Art Library (public domain), Tux Paint's stamps
  (GPL 2), MATE's backgrounds as grounds (GPL 2 and CC BY-SA 4.0). Twemoji, EmojiOne 1 and a third of the clip art and
  stamps are kept for testing.

`--start experiments/starts/clip-drawings-start.safetensors` goes on with the CLIP's drawings where 7,900 steps of 256 pictures
ended (`scripts/average_towers.py` averages a tower with the one that it began from). Its weights are not those that ship yet: it
names 46 % of an unseen font's drawings where those that ship name 18 %, and the world's own scenes as well as they do.

Scenes are sampled by seed and step, so a resumed run sees exactly the data of an uninterrupted one. Runs on CUDA or on
the CPU (bfloat16 autocast); on CUDA give --workers, which draw the batches ahead.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import torch
from picturebook_batches import PHASES
from picturebook_training import RANKED, Training, retrieval

from invert.models.loading import load_clip
from invert.picturebook import models
from invert.picturebook.grammar import caption
from invert.picturebook.render import render
from invert.picturebook.world import draw_scenes, objects

LOG_EVERY = 100  # steps, also between checkpoints


def evaluate(name: str, n: int, device: torch.device) -> float:
    """`retrieval` of the committed weights, seed 0, loaded as users load them."""
    clip = load_clip("picturebook" if name == "clip" else "picturebook-judge", device)
    return retrieval(clip.encode_image, clip.encode_text, n, 0)


@torch.no_grad()
def objects_found(name: str, n: int, device: torch.device) -> float:
    """Share of the objects of n held-out scenes whose caption beats those with any other object in its place."""
    clip = load_clip("picturebook" if name == "clip" else "picturebook-judge", device)
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


def train(training: Training, folder: Path, weights: Path, workers: int = 0, start: Path | None = None) -> None:
    """Run to the phase's end from where the folder's checkpoint stands; write the weights in fp16.

    start: what to begin from where there is no checkpoint, instead of the phase before.
    """
    checkpoint, log = (folder / f"{training.name}-{training.phase}.{kind}" for kind in ("ckpt", "jsonl"))
    if checkpoint.exists():
        training.load(checkpoint)
    elif training.phase != PHASES[0]:
        before = PHASES[PHASES.index(training.phase) - 1]
        training.start_from(start or folder / f"{training.name}-{before}.ckpt")
    began = time.monotonic()
    for batch in training.batches().stream(training.step, training.steps, workers):
        losses = training.advance(batch)
        last = training.step == training.steps
        if training.step % LOG_EVERY == 0 or last:
            row: dict[str, float] = {"step": training.step, **losses, "seconds": time.monotonic() - began}
            if training.step % (2 * LOG_EVERY) == 0 or last:
                row |= training.held_out(RANKED, 7)
            with log.open("a") as lines:
                lines.write(json.dumps(row) + "\n")
            print(row, flush=True)
            training.save(checkpoint)
    weights.mkdir(parents=True, exist_ok=True)
    models.save_weights(training.model, weights / f"{training.name}.safetensors")
    training.save_start(weights / f"{training.name}-{training.phase}-start.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=sorted(models.CONFIGS))
    parser.add_argument("phase", choices=[*PHASES, "evaluate"], help="evaluate: train nothing, measure the committed weights")
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--folder", type=Path, default=Path("training"), help="checkpoints and logs")
    parser.add_argument("--weights", type=Path, default=models.WEIGHTS, help="where the trained weights go")
    parser.add_argument(
        "--start", type=Path, help="begin from this file, which an earlier run of the phase left beside its weights"
    )
    parser.add_argument("--workers", type=int, default=0, help="processes that draw batches ahead; 0 draws them in turn")
    parser.add_argument("--drawings", type=Path, default=Path("training/drawings"), help="where make_drawings.py wrote them")
    parser.add_argument(
        "--compile", action="store_true", help="compile the image tower: a minute once, then a judge's step takes two thirds"
    )
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
        share = evaluate(options.model, options.scenes, device)
        print(f"{options.model}: {share:.1%} of {options.scenes} held-out scenes rank first among {RANKED}")
        found = objects_found(options.model, options.scenes // 10, device)
        print(f"{options.model}: {found:.1%} of the objects of {options.scenes // 10} of them among all that could stand there")
        return
    if options.new_vocabulary:
        models.rewrite_token_list()
    options.folder.mkdir(parents=True, exist_ok=True)
    drawings = options.drawings if options.phase == "drawings" else None
    training = Training(
        options.model, options.phase, options.steps, options.batch, options.rate, device, drawings, options.compile
    )
    train(training, options.folder, options.weights, options.workers, options.start)


if __name__ == "__main__":
    main()
