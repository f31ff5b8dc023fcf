"""Adapter: transformers' CLIPModel, by folder or as an object → `Clip`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from invert.errors import InputError
from invert.models.checks import SAMPLES, check_files, check_finite, check_tokenizer, read_config, unsupported
from invert.models.clip import Clip
from invert.models.hub import quiet
from invert.models.linear import frozen_projection
from invert.models.tokenizer import BytePairTokenizer
from invert.models.tower import Layer, TextTower, quick_gelu

AGAIN = "download the model again"
SMALL_FILES = ("*.json", "*.txt")  # configuration, tokenizer, image processor
WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")  # the first that is there
FILES = (
    ("weights", (("model*.safetensors",), ("pytorch_model*.bin",))),
    ("tokenizer", (("tokenizer.json",), ("vocab.json", "merges.txt"))),
    ("image processor", (("preprocessor_config.json",), ("processor_config.json",))),
)


def load_transformers(name: str, folder: Path, device: torch.device, dtype: torch.dtype) -> Clip:
    """A CLIPModel with its tokenizer and image processor from a folder; nothing is downloaded.

    Raises:
        InputError: the model is of another kind, or its files are missing, damaged or do not belong together.
    """
    from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

    check_kind(name, folder)
    check_files(name, folder, FILES)
    model, loading = _read(name, "weights", CLIPModel, folder, output_loading_info=True)
    if loading["missing_keys"]:  # transformers would fill them with random numbers
        raise InputError(f"the weights of {name!r} are damaged or incomplete ({min(loading['missing_keys'])}): {AGAIN}")
    tokenizer = _read(name, "tokenizer", CLIPTokenizer, folder)
    processor = _read(name, "image processor", CLIPImageProcessor, folder)
    return from_transformers(name, model.to(device, dtype), tokenizer, processor)


def _read(name: str, part: str, kind: Any, folder: Path, **options: Any) -> Any:
    try:
        with quiet():
            return kind.from_pretrained(str(folder), local_files_only=True, **options)
    except Exception as error:  # anything from OSError to errors that safetensors and tokenizers have for themselves
        raise InputError(f"the {part} of {name!r} {_verb(part)} damaged or incomplete: {AGAIN}") from error


def _verb(part: str) -> str:
    return "are" if part.endswith("s") else "is"


def check_kind(name: str, folder: Path) -> None:
    """Whether config.json describes a CLIP with both of its towers.

    Raises:
        InputError: says of which kind it is.
    """
    kind = read_config(name, folder / "config.json").get("model_type")
    if kind is None:
        raise InputError(f"config.json of the model {name!r} names no `model_type`: {AGAIN}")
    if kind in ("clip_text_model", "clip_vision_model"):
        raise unsupported(name, f"one tower of a CLIP alone (model type {kind!r})")
    if kind != "clip":
        raise unsupported(name, f"of model type {kind!r}")


def from_transformers(name: str, model: Any, tokenizer: Any, processor: Any) -> Clip:
    """Adapt transformers' CLIPModel with its tokenizer and image processor.

    Args:
        name: what the model is called in results and errors.
        model: a CLIPModel, on its device already; its weights are frozen.
        tokenizer: its CLIPTokenizer.
        processor: its CLIPImageProcessor.

    Raises:
        InputError: the model is of another kind, its weights are not finite, or its tokenizer is another model's.
    """
    kind = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
    if kind != "clip" or not hasattr(model, "text_model") or not hasattr(model, "vision_model"):
        raise unsupported(name, f"of model type {kind!r}")
    model.eval().requires_grad_(False)
    check_finite(name, model)
    text, vision, project = model.text_model, model.vision_model, model.visual_projection
    layers = [_layer(layer) for layer in text.encoder.layers]
    table, positions = text.embeddings.token_embedding.weight, text.embeddings.position_embedding.weight
    tower = TextTower(table, positions, layers, text.final_layer_norm, frozen_projection(model.text_projection))
    mean, std = (torch.tensor(values)[:, None, None] for values in (processor.image_mean, processor.image_std))

    def encode(prompt: str) -> list[int]:
        return tokenizer(prompt, add_special_tokens=False)["input_ids"]

    start_id, end_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    check_tokenizer(name, [encode(sample) for sample in SAMPLES], len(tokenizer), len(table), start_id, end_id)
    return Clip(
        name, tower, lambda pixels: project(vision(pixel_values=pixels).pooler_output),
        lambda image: processor(images=image, return_tensors="pt")["pixel_values"][0],
        lambda pixels: (pixels - mean.to(pixels)) / std.to(pixels),
        BytePairTokenizer(encode, tokenizer.decode, tokenizer.convert_ids_to_tokens, start_id, end_id),
        model.config.vision_config.image_size, float(model.logit_scale.detach().exp()),
    )  # fmt: skip


def _layer(layer: Any) -> Layer:
    attention, mlp = layer.self_attn, layer.mlp
    parts = (attention.q_proj, attention.k_proj, attention.v_proj)
    weight, bias = torch.cat([p.weight for p in parts]), torch.cat([p.bias for p in parts])
    weights = (weight, bias, attention.out_proj.weight, attention.out_proj.bias)
    act = quick_gelu if "quick" in type(mlp.activation_fn).__name__.lower() else mlp.activation_fn
    norms = (layer.layer_norm1, layer.layer_norm2)
    return Layer(norms, weights, (mlp.fc1, mlp.fc2), attention.num_heads, act)
