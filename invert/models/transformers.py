"""Adapter: transformers' CLIPModel, MetaClip2Model, SiglipModel or Siglip2Model, by folder or as an object → `Clip`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invert.errors import InputError
from invert.models.bidirectional import BidirectionalTower
from invert.models.checks import (
    SAMPLES,
    check_files,
    check_finite,
    check_patches,
    check_sentencepiece,
    check_size,
    check_tokenizer,
    check_vocabulary,
    prepared,
    read_config,
    unsupported,
)
from invert.models.clip import Clip
from invert.models.fitting import processor_fits, processor_normalizes
from invert.models.hub import quiet
from invert.models.linear import frozen_projection
from invert.models.naflex import NaflexImages
from invert.models.partial import Checkpoint, check_no_others, read_clip
from invert.models.subwords import SubwordTokenizer
from invert.models.tokenizer import BytePairTokenizer, Tokenizer
from invert.models.tower import Layer, TextTower, quick_gelu
from invert.models.turns import Placement
from invert.models.weight_files import OF_TRANSFORMERS, saved_by_transformers, variant_options

AGAIN = "download the model again"
SMALL_FILES = ("*.json", "*.txt", "*.model")  # configuration, tokenizer, image processor
WEIGHTS = OF_TRANSFORMERS
FILES = (
    ("weights", (("model*.safetensors",), ("pytorch_model*.bin",))),
    ("tokenizer", (("tokenizer.json",), ("vocab.json", "merges.txt"), ("*.model",))),
    ("image processor", (("preprocessor_config.json",), ("processor_config.json",))),
)
# Model type → the library's classes of the model, its tokenizer and its image processor.
CLASSES = {
    "clip": ("CLIPModel", "CLIPTokenizer", "CLIPImageProcessor"),
    "metaclip_2": ("MetaClip2Model", "AutoTokenizer", "AutoImageProcessor"),
    "siglip": ("SiglipModel", "AutoTokenizer", "AutoImageProcessor"),
    "siglip2": ("Siglip2Model", "AutoTokenizer", "AutoImageProcessor"),
}
HIGHEST = 2  # the `eos_token_id` of CLIP's older configurations, whose text tower is read at the highest token: end-of-text
BIDIRECTIONAL = ("siglip", "siglip2")


def load_transformers(name: str, folder: Path, at: Placement) -> Clip:
    """A model of `CLASSES` with its tokenizer and image processor from a folder; nothing is downloaded.

    Raises:
        InputError: the model is of another kind, or its files are missing, damaged or do not belong together.
    """
    import transformers

    kind = check_kind(name, folder)
    check_files(name, folder, FILES)
    check_sentencepiece(name, folder)
    model_class, tokenizer_class, processor_class = (getattr(transformers, of, None) for of in CLASSES[kind])
    if model_class is None:
        raise InputError(f"the installed transformers knows no {CLASSES[kind][0]}, which {name!r} is: install a newer version")
    files = saved_by_transformers(name, folder)
    tokenizer = _read(name, "tokenizer", tokenizer_class, folder)
    if at.turns is not None:
        processor = _read(name, "image processor", processor_class, folder)
        return _in_turns(name, folder, files, at, model_class, tokenizer, processor)
    model, loading = _read(name, "weights", model_class, folder, output_loading_info=True, **variant_options(folder))
    if loading["missing_keys"]:  # transformers would fill them with random numbers
        raise InputError(f"the weights of {name!r} are damaged or incomplete ({min(loading['missing_keys'])}): {AGAIN}")
    check_no_others(name, loading["unexpected_keys"], ())  # transformers would leave them out
    processor = _read(name, "image processor", processor_class, folder)
    if at.dtype == torch.float16:
        check_finite(name, model, as_stored=True)
    return from_transformers(name, model.to(at.device, at.dtype), tokenizer, processor)


def _in_turns(
    name: str, folder: Path, files: list[Path], at: Placement, model_class: Any, tokenizer: Any, processor: Any
) -> Clip:
    """The model with one tower in memory at a time; its weights are read when they are needed."""
    try:
        with quiet(), torch.device("meta"):
            model = model_class(model_class.config_class.from_pretrained(str(folder)))
    except Exception as error:  # anything that a setting of the wrong type or size ends in
        raise InputError(f"config.json of the model {name!r} is damaged: {AGAIN}") from error
    adapt = partial(from_transformers, name, model, tokenizer, processor)
    of_images = ("vision_model.", "visual_projection.")
    return read_clip(model, Checkpoint(name, files), at, adapt, lambda key: key.startswith(of_images))


def _read(name: str, part: str, kind: Any, folder: Path, **options: Any) -> Any:
    try:
        with quiet():
            return kind.from_pretrained(str(folder), local_files_only=True, **options)
    except Exception as error:  # anything from OSError to errors that safetensors and tokenizers have for themselves
        raise InputError(f"the {part} of {name!r} {_verb(part)} damaged or incomplete: {AGAIN}") from error


def _verb(part: str) -> str:
    return "are" if part.endswith("s") else "is"


def check_kind(name: str, folder: Path) -> str:
    """The model type in config.json, one of `CLASSES`.

    Raises:
        InputError: says of which other kind it is.
    """
    kind = read_config(name, folder / "config.json").get("model_type")
    if kind is None:
        raise InputError(f"config.json of the model {name!r} names no `model_type`: {AGAIN}")
    if str(kind).removesuffix("_text_model").removesuffix("_vision_model") != str(kind):
        raise unsupported(name, f"one tower of a model alone (model type {kind!r})")
    if not isinstance(kind, str) or kind not in CLASSES:
        raise unsupported(name, f"of model type {kind!r}")
    return kind


def from_transformers(name: str, model: Any, tokenizer: Any, processor: Any) -> Clip:
    """Adapt a model of transformers with its tokenizer and image processor.

    Args:
        name: what the model is called in results and errors.
        model: a CLIPModel, MetaClip2Model, SiglipModel or Siglip2Model, on its device already; its weights are frozen.
        tokenizer: its tokenizer.
        processor: its image processor.

    Raises:
        InputError: the model is of another kind, its weights are not finite, or its tokenizer is another model's.
    """
    kind = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
    if kind not in CLASSES or not hasattr(model, "text_model") or not hasattr(model, "vision_model"):
        raise unsupported(name, f"of model type {kind!r}")
    model.eval().requires_grad_(False)
    check_finite(name, model)
    tower = _tower(model, kind, "attention_mask" in getattr(tokenizer, "model_input_names", ()))
    adapted = (_byte_pairs if kind == "clip" else _subwords)(name, tokenizer, tower)
    ends = {"clip": (None, HIGHEST, *adapted.frame.after), "metaclip_2": adapted.frame.after[-1:]}.get(kind)
    if ends is not None and getattr(model.text_model, "eos_token_id", None) not in ends:
        raise InputError(f"the tokenizer of {name!r} ends prompts otherwise than its model reads them (`eos_token_id`): {AGAIN}")
    visual, preprocess, normalize, size = _images(name, model, kind, processor)
    scale, fits = float(model.logit_scale.detach().float().exp()), kind != "siglip2" and processor_fits(processor, size)
    return Clip(name, tower, visual, preprocess, normalize, adapted, size, scale, fits_as_clip=fits)


def _tower(model: Any, kind: str, masks_padding: bool) -> TextTower:
    text = model.text_model
    layers = [_layer(layer) for layer in text.encoder.layers]
    table, positions = text.embeddings.token_embedding.weight, text.embeddings.position_embedding.weight
    if kind in BIDIRECTIONAL:
        head = frozen_projection(text.head)
        return BidirectionalTower(table, positions, layers, text.final_layer_norm, head, "last", masks_padding)
    return TextTower(table, positions, layers, text.final_layer_norm, frozen_projection(model.text_projection))


def _byte_pairs(name: str, tokenizer: Any, tower: TextTower) -> Tokenizer:
    """CLIP's own tokenizer."""

    def encode(prompt: str) -> list[int]:
        return tokenizer(prompt, add_special_tokens=False)["input_ids"]

    start_id, end_id, rows = tokenizer.bos_token_id, tokenizer.eos_token_id, len(tower.table)
    check_tokenizer(name, [encode(sample) for sample in SAMPLES], len(tokenizer), rows, start_id, end_id)
    return BytePairTokenizer(encode, tokenizer.decode, tokenizer.convert_ids_to_tokens, start_id, end_id)


def _subwords(name: str, tokenizer: Any, tower: TextTower) -> Tokenizer:
    """Any other tokenizer, as the library's processor calls it. Lower-cased where the checkpoint says that training was."""
    check_vocabulary(name, tokenizer(list(SAMPLES), add_special_tokens=False)["input_ids"], len(tokenizer), len(tower.table))
    context = len(tower.positions)
    clean = str.lower if getattr(tokenizer, "init_kwargs", {}).get("do_lower_case") else str

    def rows(texts: list[str]) -> list[list[int]]:
        cleaned = [clean(text) for text in texts]
        return tokenizer(cleaned, padding="max_length", truncation=True, max_length=context)["input_ids"]

    return SubwordTokenizer(name, tokenizer, rows, context, clean, isinstance(tower, BidirectionalTower))


Images = tuple[Callable[[Tensor], Tensor], Callable[[Any], Tensor], Callable[[Tensor], Tensor], int]


def _images(name: str, model: Any, kind: str, processor: Any) -> Images:
    """The image side: pixels → latents, picture → normalized pixels, pixels → normalized ones, and their side."""
    vision = model.vision_model
    if kind == "siglip2":
        check_patches(name, processor, model.config.vision_config.patch_size)
        naflex = NaflexImages(vision, processor)
        prepared(name, naflex.preprocess, naflex.patch)
        return naflex.encode, naflex.preprocess, naflex.normalize, naflex.image_size
    project = getattr(model, "visual_projection", torch.nn.Identity())
    size = model.config.vision_config.image_size

    def preprocess(image: Any) -> Tensor:
        # Not every processor is told to convert, and gray pictures have one channel.
        return processor(images=image.convert("RGB"), return_tensors="pt")["pixel_values"][0]

    check_size(name, preprocess, size)
    return lambda pixels: project(vision(pixel_values=pixels).pooler_output), preprocess, processor_normalizes(processor), size


def _layer(layer: Any) -> Layer:
    attention, mlp = layer.self_attn, layer.mlp
    parts = (attention.q_proj, attention.k_proj, attention.v_proj)
    weight, bias = torch.cat([p.weight for p in parts]), torch.cat([p.bias for p in parts])
    weights = (weight, bias, attention.out_proj.weight, attention.out_proj.bias)
    act = quick_gelu if "quick" in type(mlp.activation_fn).__name__.lower() else mlp.activation_fn
    norms = (layer.layer_norm1, layer.layer_norm2)
    return Layer(norms, weights, (mlp.fc1, mlp.fc2), attention.num_heads, act)
