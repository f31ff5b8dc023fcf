"""A photograph as ground has no color to name, so that prompts go without one."""

from __future__ import annotations

import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from invert.inverter import Inverter
from invert.picturebook.render import sprites
from invert.picturebook.world import objects


def on_photograph(name: str) -> Image.Image:
    """The world's sprite of an object over a pagoda, 128 pixels square."""
    tile = sprites(torch.device("cpu"), 0)[[thing.name for thing in objects()].index(name)].float()
    colors = (255 * tile[:3] / tile[3:].clamp(min=1)).clamp(0, 255)  # they are premultiplied
    sprite = Image.fromarray(torch.cat([colors, tile[3:]]).byte().permute(1, 2, 0).numpy()).resize((80, 80))
    canvas = Image.fromarray(load_sample_images().images[0]).crop((0, 0, 400, 400)).resize((128, 128))
    canvas.paste(sprite, (24, 24), sprite)
    return canvas


def test_what_stands_on_a_photograph_is_named_without_a_ground(inverter: Inverter) -> None:
    found = inverter.invert_batch([on_photograph("fox"), on_photograph("alarm clock")])
    assert [result.prompt for result in found] == ["a fox", "an alarm clock"]
