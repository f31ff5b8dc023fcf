"""The node IMAGE → STRING: what ComfyUI asks of a node's class, around `invert.Inverter`.

ComfyUI hands over images as floats (B, H, W, C) in 0..1 and takes back a list of strings. The model stays loaded between
calls until another one is asked for. The same inputs give the same prompts, so ComfyUI's own caching holds.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import Any, ClassVar

from invert.config import InvertConfig
from invert.errors import InputError
from invert.methods import get_method, method_names
from invert.registry import BUNDLES

OWN = "the model's own"  # the choice of bundle that names none
DEFAULT = InvertConfig()
METHODS_OF_A_GENERATOR = ("ph2p", "textual-inversion")  # they learn through one, which the node does not load


class InvertPrompt:
    """Finds the prompt of each image, or one prompt for all."""

    CATEGORY = "image/prompt"
    DESCRIPTION = "Finds the prompt that makes a text-to-image model draw the image again."
    FUNCTION = "invert"
    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("prompt",)
    OUTPUT_IS_LIST = (True,)
    OUTPUT_TOOLTIPS = ("One prompt for each image of the batch.",)
    SEARCH_ALIASES: ClassVar = ["clip interrogator", "image to text", "caption"]

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, tuple[Any, ...]]]:
        methods = [name for name in method_names() if name not in METHODS_OF_A_GENERATOR]
        words = {"default": "", "tooltip": "Words, separated by commas."}
        return {
            "required": {
                "image": ("IMAGE",),
                "model": ("STRING", {"default": "picturebook", "tooltip": "ViT-L-14/openai, hf:NAME, a folder, picturebook."}),
                "bundle": ([OWN, *BUNDLES.names()], {"tooltip": "Words and language for the model."}),
                "method": (methods, {"default": DEFAULT.method}),
                "tokens": ("INT", {"default": DEFAULT.tokens, "min": 1, "max": 75, "tooltip": "Soft tokens per restart."}),
                "max_tokens": ("INT", {"default": DEFAULT.max_tokens, "min": 1, "max": 75, "tooltip": "Of the prompt."}),
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**63 - 1}),
                "seconds": ("FLOAT", {"default": 0.0, "min": 0.0, "max": 3600.0, "tooltip": "For each prompt; 0: no limit."}),
                "together": ("BOOLEAN", {"default": False, "tooltip": "One prompt for what all images share."}),
            },
            "optional": {
                "init_prompt": ("STRING", {"default": "", "multiline": True, "tooltip": "A prompt to start from."}),
                "must_include": ("STRING", words),
                "ban": ("STRING", words),
            },
        }

    @classmethod
    def VALIDATE_INPUTS(cls, model: str | None, method: str | None) -> bool | str:
        """True, or what is wrong, before anything is loaded. None: another node gives it, and it is not known yet."""
        try:
            if method is not None:
                get_method(method).check_extra()
        except InputError as error:
            return str(error)
        return True if model is None or model.strip() else "`model` is empty: give a name or a folder"

    def invert(
        self,
        image: Any,
        model: str,
        bundle: str,
        method: str,
        tokens: int,
        max_tokens: int,
        seed: int,
        seconds: float,
        together: bool,
        init_prompt: str = "",
        must_include: str = "",
        ban: str = "",
    ) -> tuple[list[str]]:
        """The prompts.

        Args:
            image: (B, H, W, C) float in 0..1.

        Raises:
            InputError: one sentence, which ComfyUI shows on the node.
        """
        config = InvertConfig(
            method=method,
            tokens=tokens,
            max_tokens=max_tokens,
            seed=seed,
            seconds=seconds or None,
            init_prompt=init_prompt.strip(),
            must_include=listed(must_include),
            ban=listed(ban),
        )
        inverter = loaded(model.strip(), None if bundle == OWN else bundle)
        images = [pixels.permute(2, 0, 1) for pixels in image]
        groups = [images] if together else [[one] for one in images]
        advance, prompts = progress(len(groups)), []
        for group in groups:
            result = inverter.invert_joint(group, config, stop=interrupted)
            raise_if_interrupted()
            prompts.append(result.prompt)
            advance(1)
        return (prompts,)


@lru_cache(maxsize=1)
def loaded(model: str, bundle: str | None) -> Any:
    """The model, kept until another one is asked for."""
    from invert import Inverter

    management = comfy("model_management")
    return Inverter.load(model, bundle, None if management is None else management.get_torch_device())


def listed(text: str) -> tuple[str, ...]:
    """ "a, b" → ("a", "b")."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def comfy(module: str) -> Any:
    """A module of ComfyUI; None where the node runs without it."""
    return sys.modules.get(f"comfy.{module}")


def progress(total: int) -> Any:
    """A function that moves ComfyUI's progress bar."""
    utils = comfy("utils")
    return (lambda _: None) if utils is None else utils.ProgressBar(total).update


def interrupted() -> bool:
    """Whether the user pressed ComfyUI's cancel button."""
    management = comfy("model_management")
    return management is not None and bool(management.processing_interrupted())


def raise_if_interrupted() -> None:
    """End the workflow as ComfyUI wants it ended."""
    management = comfy("model_management")
    if management is not None:
        management.throw_exception_if_processing_interrupted()
