"""Captions by an image-to-text model of transformers: BLIP, BLIP-2, GIT, Florence-2, LLaVA, Qwen-VL and their like.

The model comes through `AutoModelForImageTextToText` and its processor, from a folder or the hub; no code of the model's
repository is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from invert.caption_api import INSTRUCTION
from invert.errors import InputError
from invert.models.checks import read_config
from invert.models.hub import Repository, quiet

MOST_TOKENS = 60  # of a caption
SMALL_FILES = ("*.json", "*.txt", "*.model", "*.jinja")  # configuration, tokenizer, image processor, chat template
WEIGHTS = (("model*.safetensors", "*.index.json"), ("pytorch_model*.bin", "*.index.json"))  # the first that is there
TASKS = {"florence2": "<DETAILED_CAPTION>"}  # model type → the text that asks for a caption, where an image alone does not
KINDS = "BLIP, BLIP-2, GIT, Florence-2, LLaVA, Qwen-VL"
AGAIN = "download it again"


class CaptionModel:
    """A captioner on this machine."""

    def __init__(self, name: str, model: Any, processor: Any) -> None:
        """model, processor: of transformers, the model on its device."""
        self.name, self.model, self.processor = name, model.eval().requires_grad_(False), processor

    @torch.inference_mode()
    def __call__(self, images: Sequence[Image.Image]) -> list[str]:
        """A caption of each picture, one at a time, without sampling.

        Raises:
            InputError: the model does not caption pictures.
        """
        return [self.caption(image) for image in images]

    def caption(self, image: Image.Image) -> str:
        """The caption of one picture; may be empty."""
        try:
            with quiet():
                inputs = self.inputs(image).to(self.model.device, self.model.dtype)
                tokens = self.model.generate(**inputs, max_new_tokens=MOST_TOKENS, do_sample=False, num_beams=1)[0]
        except torch.OutOfMemoryError as error:
            raise InputError(f"the captioner {self.name!r} does not fit into the device's memory: take a smaller one") from error
        except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
            raise InputError(f"the captioner {self.name!r} cannot caption a picture ({error}): use one of {KINDS}") from error
        given = inputs["input_ids"].shape[1] if "input_ids" in inputs else 0
        if given and len(tokens) > given and torch.equal(tokens[:given], inputs["input_ids"][0]):
            tokens = tokens[given:]  # models without an encoder repeat the question
        text: str = self.processor.decode(tokens, skip_special_tokens=True)
        return text.strip()

    def inputs(self, image: Image.Image) -> Any:
        """The picture as the model reads it, with the question that its kind needs."""
        if getattr(self.processor, "chat_template", None):
            content = [{"type": "image", "image": image}, {"type": "text", "text": INSTRUCTION}]
            return self.processor.apply_chat_template(
                [{"role": "user", "content": content}],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
            )
        task = TASKS.get(self.model.config.model_type)
        return self.processor(images=image, return_tensors="pt", **({} if task is None else {"text": task}))


def load_caption_model(name: str, device: torch.device) -> CaptionModel:
    """The captioner of a folder, or of "hf:NAME" on the hub.

    Raises:
        InputError: it cannot be reached or read, or is of another kind.
    """
    import transformers

    folder = Path(name.removeprefix("hf:")).expanduser()
    if not folder.is_dir():
        if not name.startswith("hf:"):
            raise InputError(
                f"`caption` {name!r} is no folder: give one that transformers saved, hf:NAME, an http(s) address, or sidecar"
            )
        folder = fetched(name)
    config = read_config(name, folder / "config.json")
    kinds = transformers.models.auto.modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    if config.get("model_type") not in kinds:
        raise InputError(f"the model {name!r}, of type {config.get('model_type')!r}, captions no pictures: use one of {KINDS}")
    dtype = torch.float32 if device.type == "cpu" else torch.float16
    try:
        with quiet():
            processor = transformers.AutoProcessor.from_pretrained(str(folder), local_files_only=True)
            model, loading = transformers.AutoModelForImageTextToText.from_pretrained(
                str(folder), local_files_only=True, dtype=dtype, output_loading_info=True
            )
    except Exception as error:  # anything from OSError to errors that safetensors and tokenizers have for themselves
        raise InputError(f"the captioner {name!r} is damaged or incomplete: {AGAIN}") from error
    if loading["missing_keys"]:  # transformers would fill them with random numbers
        raise InputError(f"the weights of the captioner {name!r} are incomplete ({min(loading['missing_keys'])}): {AGAIN}")
    return CaptionModel(name, model.to(device), processor)


def fetched(name: str) -> Path:
    """The folder of the hub's cache that holds a repository's model, weights in one format only."""
    repository = Repository(name, name.removeprefix("hf:"))
    repository.fetch(SMALL_FILES)
    for patterns in WEIGHTS:
        folder = repository.fetch((*SMALL_FILES, *patterns))
        if any(folder.glob(patterns[0])):
            return folder
    raise repository.unreachable()
