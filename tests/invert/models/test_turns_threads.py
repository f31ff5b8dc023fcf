"""Low memory and several threads: a tower that computes keeps its weights until it is done, and is read once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.modules.module import register_module_forward_pre_hook

from invert.models.clip import Clip
from invert.models.loading import load_clip
from invert.models.shared_prefixes import encode_rows, encode_sharing
from invert.models.turns import IMAGES, TEXT, Part, Turns
from tests.invert.conftest import saved_folder

PROMPTS = ["a fox", "two owls on a striped blue and white background"]


class TellingLock:
    """A reentrant lock that tells when a thread has to wait for it."""

    def __init__(self) -> None:
        self.lock, self.waits = threading.RLock(), threading.Event()

    def __enter__(self) -> None:
        if not self.lock.acquire(blocking=False):
            self.waits.set()
            self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_folder(tmp_path_factory.mktemp("small"), width=64, heads=4, layers=2, quick_gelu=True)[1]


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return Image.effect_noise((40, 50), 80).convert("RGB")


def of_pictures(clip: Clip, picture: Image.Image) -> Tensor:
    return clip.encode_image([picture])


def of_texts(clip: Clip, _: Image.Image) -> Tensor:
    return clip.encode_text(PROMPTS)


def sharing(clip: Clip, _: Image.Image) -> Tensor:
    return encode_sharing(clip.tower, *clip.tokenize(PROMPTS))


def slopes(clip: Clip, _: Image.Image) -> Tensor:
    ids, eot = clip.tokenize(PROMPTS)
    rows = clip.embed(ids).requires_grad_()
    (found,) = torch.autograd.grad(encode_rows(clip.tower, rows, eot).sum(), rows)
    return found


@pytest.mark.parametrize(
    ("first", "second"),
    [(of_pictures, of_texts), (of_texts, of_pictures), (sharing, of_pictures), (slopes, of_pictures)],
    ids=lambda function: function.__name__,
)
def test_a_tower_that_computes_keeps_its_weights(
    small: Path, picture: Image.Image, first: Callable[..., Tensor], second: Callable[..., Tensor]
) -> None:
    whole = load_clip(str(small), "cpu")
    turns, lock = Turns(), TellingLock()
    turns.lock = lock  # type: ignore[assignment]
    clip = load_clip(str(small), "cpu", turns=turns)
    computing = threading.current_thread()
    others = []

    def comes_in(module: torch.nn.Module, _: object) -> None:
        """In the midst of the first computation the second one begins, and either waits for its turn or takes it."""
        weights = next(module.parameters(), None) is not None  # what brings pictures to size has none
        if weights and threading.current_thread() is computing and not others:
            others.append(pool.submit(second, clip, picture))
            others[0].add_done_callback(lambda _: lock.waits.set())
            lock.waits.wait()

    with ThreadPoolExecutor(1) as pool:
        hook = register_module_forward_pre_hook(comes_in)
        try:
            found = first(clip, picture)
        finally:
            hook.remove()
    torch.testing.assert_close(found, first(whole, picture))
    torch.testing.assert_close(others[0].result(), second(whole, picture))


def test_a_part_that_two_threads_ask_for_is_made_once() -> None:
    turns, lock, made = Turns(), TellingLock(), []
    turns.lock = lock  # type: ignore[assignment]

    def make() -> object:
        made.append(object())
        if len(made) == 1:  # the other thread asks meanwhile
            others.append(pool.submit(part.get))
            others[0].add_done_callback(lambda _: lock.waits.set())
            lock.waits.wait()
        return made[-1]

    part, others = Part(turns, TEXT, make), []
    with ThreadPoolExecutor(1) as pool:
        own = part.get()
    assert made == [own] and others[0].result() is own and turns.present == [part]
    Part(turns, IMAGES, object).get()
    assert part not in turns.present
