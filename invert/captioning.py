"""Captioners of one inverter, each loaded once; what they say of a task's pictures, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from invert.captions import (
    SIDECAR,
    Captioned,
    Captioner,
    WordGain,
    check_caption,
    load_captioner,
    sentences,
    sidecar_caption,
    word_gains,
)
from invert.config import InvertConfig
from invert.errors import InputError
from invert.methods import get_method
from invert.methods.task import InversionOutput, InversionTask
from invert.target import text_latent


class Captioners:
    """The captioners that were asked for, on one device."""

    def __init__(self, device: torch.device, dtype: torch.dtype | None = None) -> None:
        """dtype: of captioners on a GPU, where one was chosen; processors compute them in float32."""
        self.device, self.dtype = device, None if device.type == "cpu" else dtype
        self._loaded: dict[tuple[str, str | None], Captioner] = {}

    def captioner(self, config: InvertConfig) -> Captioner | None:
        """The captioner that the config names; None where it names none, or the texts beside pictures.

        Raises:
            InputError: it cannot be had.
        """
        check_caption(config.caption, config.caption_model)
        if config.caption in (None, SIDECAR):
            return None
        if callable(config.caption):
            function: Captioner = config.caption
            return function
        key = config.caption, config.caption_model
        if key not in self._loaded:
            self._loaded[key] = load_captioner(*key, self.device, self.dtype)
        return self._loaded[key]

    def said(self, sources: Sequence[Any], pictures: Sequence[Image.Image], config: InvertConfig) -> tuple[str, ...]:
        """The sentences that the config's captioner says of pictures. sources: what they were read from.

        Raises:
            InputError: there is no such captioner, or it says nothing.
        """
        get_method(config.method).check_options(config)  # before a captioner is loaded in vain
        captioner = self.captioner(config)
        if config.caption is None:
            return ()
        texts = [sidecar_caption(source) for source in sources] if captioner is None else captioner(pictures)
        texts = [texts] if isinstance(texts, str) else list(texts)
        if not all(isinstance(text, str) for text in texts):
            raise InputError("`caption` gave something else than text: a captioner returns one string for each picture")
        return tuple(dict.fromkeys(sentence for text in texts for sentence in sentences(text)))


def captioned(task: InversionTask, output: InversionOutput) -> dict[str, Any]:
    """What became of the task's captions, as fields of a `Result`; what that takes is charged to its budget."""
    shortened = output.shortened or [("", 0.0)] * len(task.captions)
    captions = [
        Captioned(text, float(text_latent(task.clip, text) @ task.target), *short, gains(task, text))
        for text, short in zip(task.captions, shortened, strict=True)
    ]
    return {"captions": captions, "words": gains(task, output.prompts[0][0])} if captions else {}


def gains(task: InversionTask, prompt: str) -> tuple[WordGain, ...]:
    """What each word of a prompt earns; charged to the task's budget."""
    words, positions = word_gains(task.clip, prompt, task.target)
    task.budget.spend(forward=positions)
    return words
