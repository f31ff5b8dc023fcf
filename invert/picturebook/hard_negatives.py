"""Groups of hard negatives, scenes that differ in one thing: the batches of picturebook's third training phase.

Scenes drawn at random differ in everything, so contrast among them seldom has to look at the objects: after a
first phase the right caption won among 512 others in 99 %, but among captions that differ in one object alone
only in 18 %. A group holds one scene and its hard negatives, most with one object changed, half of those to
a similar-looking object.
"""

from __future__ import annotations

import random
from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor

from invert.picturebook.grammar import caption
from invert.picturebook.world import Scene, change_one, draw_scene, draw_tints, held_out, objects

N_SIMILAR = 24  # objects that count as similar to one
OTHER_CHANGES = 0.2  # share of hard negatives in which something else than an object changes
STYLE_WEIGHTS = (4, 2, 1, 2, 1, 2, 1)  # details drown in pencil strokes, coarse pixels and neon, so those come more often


def portraits() -> list[Scene]:
    """Every object alone on white, in the atlas's order: what `similar_objects` compares."""
    return [Scene((i,), ("",), "one", "", "plain", ("white",), "plain", i) for i in range(len(objects()))]


def similar_objects(latents: Tensor) -> list[list[int]]:
    """Find for every object the N_SIMILAR others whose portraits' latents (N, E) are nearest to its own."""
    unit = F.normalize(latents.float(), dim=1)
    similar: list[list[int]] = (unit @ unit.T).fill_diagonal_(-1).topk(N_SIMILAR).indices.tolist()
    return similar


def hard_negative(
    scene: Scene, rng: random.Random, similar: list[list[int]], other_changes: float, tint_changes: float = 0.0
) -> Scene:
    """Change one thing in the scene; sometimes nothing can change, and the scene comes back as it was.

    other_changes: the share in which something else than an object changes. tint_changes: the share in which tints alone
    change, of which `other_changes` is a share of the rest.
    """
    if tint_changes and rng.random() < tint_changes:
        return replace(scene, tints=draw_tints(rng, scene), seed=rng.getrandbits(31))
    if rng.random() < other_changes:
        return change_one(scene, rng)
    place = rng.randrange(len(scene.objects))
    old = scene.objects[place]
    new = rng.choice(similar[old]) if rng.random() < 0.5 else rng.randrange(len(objects()))
    thing = objects()[new]
    if new in scene.objects or (scene.layout == "two" and not thing.plural):
        return scene
    chosen, tints = list(scene.objects), list(scene.tints)
    chosen[place] = new
    tints[place] = tints[place] if thing.tint else ""
    return replace(scene, objects=tuple(chosen), tints=tuple(tints), seed=rng.getrandbits(31))


def hard_negative_group(
    rng: random.Random, similar: list[list[int]], size: int, other_changes: float = OTHER_CHANGES, tint_changes: float = 0.0
) -> list[Scene]:
    """`size` scenes of the training split with different captions, all but the first hard negatives of it.

    other_changes, tint_changes: see `hard_negative`.
    """
    first = draw_scene(rng, STYLE_WEIGHTS)
    while held_out(first):
        first = draw_scene(rng, STYLE_WEIGHTS)
    found = {caption(first): first}
    while len(found) < size:
        other = hard_negative(first, rng, similar, other_changes, tint_changes)
        if not held_out(other):
            found.setdefault(caption(other), other)
    return list(found.values())
