"""What pictures are said to show, as prompts to start from: captions of a model, of an endpoint, or of a text file beside them.

In: pictures; out: sentences. A caption says what is there as people say it, and a search repairs what it gets wrong and
drops what earns nothing. `Captioned` tells what became of it.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from invert.caption_files import SIDECAR, sidecar_names
from invert.errors import InputError
from invert.images.addresses import is_address, shown

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from invert.models.clip import Clip

log = logging.getLogger(__name__)
Captioner = Callable[[Sequence[Image.Image]], list[str]]
MAX_SENTENCES = 6  # of a caption, that a search starts from
MAX_SIDECAR = 1 << 16  # bytes


@dataclass(frozen=True)
class WordGain:
    """A word of a prompt, and the cosine that the prompt has more with it than without."""

    word: str
    gain: float


@dataclass(frozen=True)
class Captioned:
    """A sentence of a caption and what became of it.

    Attributes:
        text: as the captioner wrote it.
        score: its cosine with the target.
        shortened: what is left when words that earn nothing are dropped; "" where the method did not shorten it.
        shortened_score: the cosine of that.
        words: what each word of the text earned.
    """

    text: str
    score: float
    shortened: str
    shortened_score: float
    words: tuple[WordGain, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def check_caption(caption: Any, model: str | None) -> None:
    """InputError where a captioner is named that cannot be had, as far as that is known without loading it."""
    if model is not None and not (isinstance(caption, str) and is_address(caption)):
        raise InputError("`caption_model` names a model of a caption endpoint: give its address as `caption`, or leave it out")
    if caption is None or callable(caption) or caption == SIDECAR:
        return
    if not isinstance(caption, str) or not caption.strip():
        raise InputError("`caption` is empty: give hf:NAME, a folder, an http(s) address, or sidecar")
    if is_address(caption):
        from invert.caption_api import CaptionApi

        CaptionApi(caption, model)
    elif not caption.startswith("hf:") and not os.path.isdir(os.path.expanduser(caption)):
        raise InputError(
            f"`caption` {caption!r} is no folder: give one that transformers saved, hf:NAME, an http(s) address, or sidecar"
        )


def load_captioner(caption: str, model: str | None, device: torch.device, dtype: torch.dtype | None = None) -> Captioner:
    """The captioner of that name; not for SIDECAR, which reads no pictures.

    dtype: of a model here; None for float32 on processors, float16 on GPUs.

    Raises:
        InputError: it cannot be had.
    """
    check_caption(caption, model)
    if is_address(caption):
        from invert.caption_api import CaptionApi

        return CaptionApi(caption, model)
    from invert.caption_models import load_caption_model

    return load_caption_model(caption, device, dtype)


def sidecar_caption(source: Any) -> str:
    """The text beside a picture: NAME.txt, else NAME.ENDING.txt; "" with a note where there is none.

    source: the picture's path, or a Pillow image that was opened from one.

    Raises:
        InputError: the text cannot be read, or is none.
    """
    path = str(source) if isinstance(source, str | Path) else str(getattr(source, "filename", "") or "")
    if not path or is_address(path):
        raise InputError("`caption` sidecar reads the text beside a picture's file: give a path, or another `caption`")
    for name in sidecar_names(path):
        try:
            with open(name, "rb") as file:
                text = file.read(MAX_SIDECAR).decode()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise InputError(f"the caption {shown(name)} may not be read: check its permissions") from error
        except UnicodeDecodeError as error:
            raise InputError(f"the caption {shown(name)} is no text: save it in UTF-8") from error
        if "\0" in text:
            raise InputError(f"the caption {shown(name)} is no text: save it in UTF-8")
        return text
    log.warning("%s has no caption beside it: the search starts without one", shown(path))
    return ""


def sentences(caption: str) -> tuple[str, ...]:
    """A caption's distinct sentences, without marks that a prompt has no use for."""
    parts = re.split(r"(?<=[.!?])\s+|[\r\n]+", caption)
    plain = (" ".join(re.sub(r"[^\w\s,'’-]|_", " ", part).split()).strip(" ,'’-") for part in parts)
    return tuple(dict.fromkeys(part for part in plain if part))[:MAX_SENTENCES]


def word_gains(clip: Clip, prompt: str, target: Tensor) -> tuple[tuple[WordGain, ...], int]:
    """What each word of a prompt earned, and the token positions that it took to tell.

    target: unit latent (E,).
    """
    words = prompt.split()
    without = [" ".join([*words[:i], *words[i + 1 :]]) for i in range(len(words))]
    texts = [prompt, *without]
    scores = (clip.encode_text(texts).float() @ target).tolist()
    positions = sum(clip.frame.positions(min(len(clip.tokenizer.encode(text)), clip.max_prompt_tokens)) for text in texts)
    return tuple(WordGain(word, scores[0] - score) for word, score in zip(words, scores[1:], strict=True)), positions
