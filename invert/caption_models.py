"""Captions by an image-to-text model of transformers: BLIP, BLIP-2, GIT, ViT-GPT-2, Florence-2, LLaVA, Qwen-VL and their like.

The model comes through `AutoModelForImageTextToText` and its processor, from a folder or the hub; no code of the model's
repository is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from invert.caption_api import INSTRUCTION
from invert.errors import InputError
from invert.models.auto import folder_of, load_pair
from invert.models.hub import quiet
from invert.models.overflow import checked_logits

MOST_TOKENS = 60  # of a caption
TASKS = {"florence2": "<DETAILED_CAPTION>"}  # model type → the text that asks for a caption, where an image alone does not
PAIRED = ("vision-encoder-decoder",)  # model types without a processor: an image encoder and a language model, as ViT-GPT-2
WITH_LOGITS = {"return_dict_in_generate": True, "output_logits": True}  # options of `generate`
KINDS = "BLIP, BLIP-2, GIT, ViT-GPT-2, Florence-2, LLaVA, Qwen-VL"


class CaptionModel:
    """A captioner on this machine."""

    def __init__(self, name: str, model: Any, processor: Any) -> None:
        """model, processor: of transformers, the model on its device, frozen."""
        self.called, self.model, self.processor = f"the captioner {name!r}", model, processor

    @torch.inference_mode()
    def __call__(self, images: Sequence[Image.Image]) -> list[str]:
        """A caption of each picture, one at a time, without sampling.

        Raises:
            InputError: the model does not caption pictures, or its numbers overflow.
        """
        return [self.caption(image) for image in images]

    def caption(self, image: Image.Image) -> str:
        """The caption of one picture; may be empty."""
        try:
            with quiet():
                inputs = self.inputs(image).to(self.model.device, self.model.dtype)
                said = self.model.generate(**inputs, max_new_tokens=MOST_TOKENS, do_sample=False, num_beams=1, **WITH_LOGITS)
        except torch.OutOfMemoryError as error:
            raise InputError(f"{self.called} does not fit into the device's memory: take a smaller one") from error
        except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
            raise InputError(f"{self.called} cannot caption a picture ({error}): use one of {KINDS}") from error
        if logits := getattr(said, "logits", None):
            checked_logits(torch.stack(logits), self.called, self.model.dtype)  # of all steps, with one wait for the device
        tokens = getattr(said, "sequences", said)[0]  # kinds with a `generate` of their own give the ids alone
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


class ImagesAndWords:
    """An image processor and a tokenizer, called as a processor of both is."""

    def __init__(self, images: Any, tokenizer: Any) -> None:
        self.images, self.tokenizer = images, tokenizer

    @classmethod
    def from_pretrained(cls, folder: str, **options: Any) -> ImagesAndWords:
        import transformers

        kinds = transformers.AutoImageProcessor, transformers.AutoTokenizer
        return cls(*(kind.from_pretrained(folder, **options) for kind in kinds))

    def __call__(self, images: Image.Image, return_tensors: str) -> Any:
        return self.images(images=images, return_tensors=return_tensors)

    def decode(self, tokens: Any, skip_special_tokens: bool) -> str:
        text: str = self.tokenizer.decode(tokens, skip_special_tokens=skip_special_tokens)
        return text


def load_caption_model(name: str, device: torch.device, dtype: torch.dtype | None = None) -> CaptionModel:
    """The captioner of a folder, or of "hf:NAME" on the hub.

    dtype: None for float32 on processors, float16 on GPUs.

    Raises:
        InputError: it cannot be reached or read, or is of another kind.
    """
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    others = f"captions no pictures: use one of {KINDS}"
    folder, kind = folder_of(name, "caption", MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES, others)
    processor = ImagesAndWords if kind in PAIRED else transformers.AutoProcessor
    classes = transformers.AutoModelForImageTextToText, processor
    return CaptionModel(name, *load_pair(f"the captioner {name!r}", folder, *classes, device, dtype))
