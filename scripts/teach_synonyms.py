"""Teach picturebook's models words that mean their objects ("automobile" for "car"), after training; minutes on one core:

    python scripts/teach_synonyms.py training           # reads and writes invert/picturebook/weights/

The text towers stay as they are. What is learned are rows of the token table that no caption uses, so that a caption with
the synonym has the latent and the hidden states of the one with the object's own name. A synonym whose tokens all have rows
already cannot be taught and is left out. Synonyms are Unicode CLDR's keywords that belong to one object alone
(`drawing_names.py`). Out: `synonyms.safetensors` beside the weights, for both models, and `experiments/results/synonyms.json`:
how many synonyms are nearest to their own object, before and after, among all captions and all pictures of single objects.
Run it whenever a text tower has changed; to try it on a copy of the weights, give --weights and --results.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
import torch
import torch.nn.functional as F
from drawing_names import synonyms
from make_sprites import CLDR, object_names
from picturebook_batches import normalize
from safetensors.torch import save_file
from torch import Tensor, nn

from experiments.harness.runner import RESULTS
from invert.models.clip import resized
from invert.picturebook import models
from invert.picturebook.grammar import caption, caption_alone, with_article
from invert.picturebook.hard_negatives import portraits
from invert.picturebook.render import render
from invert.picturebook.world import draw_scene, objects
from kernels.once import OnceParser

STEPS, BATCH, SEED = 120, 128, 0
RATE = 0.1  # of Adam, in standard deviations of the rows that are there
STATES = 1.0  # weight of the hidden states' squared distance beside the latents' cosine


class Synonym(NamedTuple):
    """A word and the index of the object that it means."""

    word: str
    thing: int


def with_synonym(text: str, name: str, word: str) -> str | None:
    """A caption with another word for an object, its article to match; None where the name does not stand in it once."""
    pattern = re.compile(rf"\b(?:(an?) )?{re.escape(name)}\b")
    if len(pattern.findall(text)) != 1:
        return None
    return pattern.sub(lambda match: with_article(word) if match[1] else word, text)


def teachable(words: dict[str, str], encode: Any) -> list[Synonym]:
    """The synonyms that have a token without a row; words: word → object."""
    index = {thing.name: i for i, thing in enumerate(objects())}
    known = set(models.trained_token_ids())
    return [Synonym(word, index[name]) for word, name in sorted(words.items()) if not known.issuperset(encode(word))]


class Pair(NamedTuple):
    """Token ids of a caption and of the same one with a synonym, and how many tokens at their ends must mean the same."""

    own: list[int]
    other: list[int]
    shared: int


class Teacher:
    """A text tower with its frozen rows, and the new ones that are learned."""

    def __init__(self, model: nn.Module, known: list[int], found: list[Synonym], encode: Any) -> None:
        """model: with a table of the known rows. known: their token ids, in order."""
        self.model, self.encode, self.found = model.eval().requires_grad_(False), encode, found
        self.new = sorted({token for word, _ in found for token in encode(word)} - set(known))
        self.place = {token: i for i, token in enumerate([*known, *self.new])}
        self.known: Tensor = model.token_embedding.weight.detach()  # type: ignore[union-attr, assignment]
        self.rows = nn.Parameter(self.first_rows())

    def first_rows(self) -> Tensor:
        """Each new row as the mean of those of the names that its synonyms stand for, (M, D)."""
        sums, counts = torch.zeros(len(self.new), self.known.shape[1]), torch.zeros(len(self.new), 1)
        for word, thing in self.found:
            mean = self.known[[self.place[token] for token in self.encode(objects()[thing].name)]].mean(0)
            for token in set(self.encode(word)) & set(self.new):
                sums[self.new.index(token)] += mean
                counts[self.new.index(token)] += 1
        return sums / counts

    def ids(self, text: str) -> list[int]:
        """Places of a caption's tokens in the table, start and end of text included."""
        tokens = [models.START_OF_TEXT, *self.encode(text), models.END_OF_TEXT]
        return [self.place[token] for token in tokens[: models.CONTEXT]]

    def states(self, rows: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Hidden states after the last layer (B, L, D), and unit latents (B, E)."""
        length = max(map(len, rows))
        ids = torch.tensor([[*row, *[0] * (length - len(row))] for row in rows])
        model: Any = self.model
        hidden = torch.cat([self.known, self.rows])[ids] + model.positional_embedding[:length]
        hidden = model.ln_final(model.transformer(hidden, attn_mask=model.attn_mask[:length, :length]))
        ends = torch.tensor([len(row) - 1 for row in rows])
        return hidden, F.normalize(hidden[torch.arange(len(rows)), ends] @ model.text_projection, dim=1)

    def pair(self, rng: random.Random) -> Pair:
        """A random caption with a random synonym's object, said both ways."""
        while True:
            word, thing = rng.choice(self.found)
            scene = replace(draw_scene(rng), layout="one", corner="")
            tint = scene.tints[0] if objects()[thing].tint else ""
            own = caption(replace(scene, objects=(thing,), tints=(tint,)))
            other = with_synonym(own, objects()[thing].name, word)
            if other is not None:
                ids, others = self.ids(own), self.ids(other)
                shared = next(i for i, (a, b) in enumerate(zip(ids[::-1], others[::-1], strict=False)) if a != b)
                return Pair(ids, others, shared + 1)  # and the last token of the name itself

    def loss(self, pairs: list[Pair]) -> Tensor:
        """How far captions with synonyms are from those without."""
        with torch.no_grad():
            wanted, latents = self.states([pair.own for pair in pairs])
        hidden, found = self.states([pair.other for pair in pairs])
        rows = [(i, len(pair.own) - k, len(pair.other) - k) for i, pair in enumerate(pairs) for k in range(1, pair.shared + 1)]
        which, theirs, ours = torch.tensor(rows).T
        return 1 - (found * latents).sum(1).mean() + STATES * F.mse_loss(hidden[which, ours], wanted[which, theirs])

    def learn(self, steps: int, batch: int) -> None:
        """Adam on the new rows, its rate falling along a cosine."""
        rng, rate = random.Random(SEED), RATE * self.known.std().item()
        adam = torch.optim.Adam([self.rows], lr=rate)
        for step in range(steps):
            adam.param_groups[0]["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / steps))
            loss = self.loss([self.pair(rng) for _ in range(batch)])
            adam.zero_grad()
            loss.backward()
            adam.step()
            if step % 20 == 0 or step == steps - 1:
                print(f"step {step:4}  loss {loss.item():.4f}", flush=True)

    @torch.no_grad()
    def latents(self, texts: list[str]) -> Tensor:
        """Unit latents (B, E) of captions."""
        return torch.cat([self.states([self.ids(text) for text in texts[i : i + 256]])[1] for i in range(0, len(texts), 256)])


def ranked_first(teacher: Teacher, pictures: Tensor) -> dict[str, float]:
    """Share of synonyms whose object's own caption, and picture, is the nearest of all; of names, whose picture is.

    pictures: unit latents (N, E) of each object alone.
    """
    things = torch.tensor([thing for _, thing in teacher.found])
    texts = [with_synonym(caption_alone(thing), objects()[thing].name, word) or word for word, thing in teacher.found]
    names, found = teacher.latents([caption_alone(i) for i in range(len(objects()))]), teacher.latents(texts)
    return {
        "among_captions": ((found @ names.T).argmax(1) == things).float().mean().item(),
        "among_pictures": ((found @ pictures.T).argmax(1) == things).float().mean().item(),
        "names_among_pictures": ((names @ pictures.T).argmax(1) == torch.arange(len(names))).float().mean().item(),
    }


def taught(name: str, weights: Path, found: list[Synonym], encode: Any, options: argparse.Namespace) -> tuple[Teacher, Any]:
    """One model's new rows, with its shares before and after."""
    config = models.config(name, weights)
    model = models.build(config, len(models.trained_token_ids()))
    model.load_state_dict(models.compact_state(weights / f"{name}.safetensors"))
    teacher = Teacher(model, list(models.trained_token_ids()), found, encode)
    with torch.no_grad():
        shown = normalize(resized(render(portraits(), models.IMAGE_SIZE), config["vision_cfg"]["image_size"])).split(128)
        pictures = F.normalize(torch.cat([model.visual(part) for part in shown]), dim=1)  # type: ignore[operator]
    rows = teacher.rows.data.clone()
    teacher.rows.data.zero_()  # as tokens without a row are read
    before = ranked_first(teacher, pictures)
    teacher.rows.data.copy_(rows)
    teacher.learn(options.steps, options.batch)
    shares = {"before": before, "after": ranked_first(teacher, pictures)}
    print(name, json.dumps(shares), flush=True)
    return teacher, shares


def main() -> None:
    parser = OnceParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("training"), help="what make_drawings.py filled")
    parser.add_argument("--weights", type=Path, default=models.WEIGHTS, help="folder of both models, and of what is written")
    parser.add_argument("--results", type=Path, default=RESULTS / "synonyms.json", help="where the shares go")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--batch", type=int, default=BATCH)
    options = parser.parse_args()
    cldr, world = options.folder / "debian" / CLDR, {thing.name for thing in objects()}
    emoji = {character: name for character, given in object_names(cldr).items() if (name := given.removeprefix("=")) in world}
    encode = open_clip.get_tokenizer("ViT-B-32").encode
    words = {word: name for word, name in synonyms(cldr, emoji).items() if word not in world}
    found = teachable(words, encode)
    print(f"{len(words)} synonyms, {len(found)} of them with tokens that have no row yet", flush=True)
    both = {name: taught(name, options.weights, found, encode, options) for name in models.NAMES}
    new = next(iter(both.values()))[0].new
    rows = {name: teacher.rows.detach().half().contiguous() for name, (teacher, _) in both.items()}
    save_file({"tokens": torch.tensor(new, dtype=torch.int32), **rows}, options.weights / models.SYNONYMS.name)
    shares = {name: of_model for name, (_, of_model) in both.items()}
    counts = {"synonyms": len(words), "taught": len(found), "rows": len(new)}
    options.results.write_text(json.dumps({**counts, "ranked first": shares}, indent=1) + "\n")


if __name__ == "__main__":
    main()
