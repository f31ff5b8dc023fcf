"""Adapter: transformers' CLIPModel, by hub name, by folder, or as an object → `Clip`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from invert.errors import InputError
from invert.models.clip import Clip, Tokenizer
from invert.models.hub import quiet
from invert.models.linear import frozen_projection
from invert.models.tower import Layer, TextTower, quick_gelu


def load_transformers(name: str, device: torch.device, dtype: torch.dtype) -> Clip:
    from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

    source = str(Path(name.removeprefix("hf:")).expanduser())
    local = Path(source).is_dir()
    try:
        if local:
            _check_is_clip(name, Path(source))
        with quiet(local):
            loaded: Any = CLIPModel.from_pretrained(source, output_loading_info=True)
            tokenizer: Any = CLIPTokenizer.from_pretrained(source)
            processor: Any = CLIPImageProcessor.from_pretrained(source)
    except InputError:
        raise
    except Exception as error:  # anything from OSError to a safetensors error of its own
        raise InputError(_unusable_transformers(name, local)) from error
    model, loading = loaded
    if loading["missing_keys"]:  # transformers would fill them with random numbers
        raise InputError(_unusable_transformers(name, local))
    return from_transformers(name, model.to(device, dtype), tokenizer, processor)


def _check_is_clip(name: str, folder: Path) -> None:
    kind = json.loads((folder / "config.json").read_text()).get("model_type")
    if kind != "clip":
        raise InputError(
            f"the folder {name!r} holds a model of type {kind!r}, not a CLIP with both of its towers: choose another"
        )


def _unusable_transformers(name: str, local: bool) -> str:
    problem = "are damaged or incomplete" if local else "cannot be reached"
    return (
        f"the weights of {name!r} {problem}: download CLIP's model, tokenizer and image processor "
        "on a connected machine and give the folder, or use --model picturebook"
    )


def from_transformers(name: str, model: Any, tokenizer: Any, processor: Any) -> Clip:
    """Adapt transformers' CLIPModel with its tokenizer and image processor."""
    model.eval().requires_grad_(False)
    text, vision, project = model.text_model, model.vision_model, model.visual_projection
    layers = [_layer(layer) for layer in text.encoder.layers]
    table, positions = text.embeddings.token_embedding.weight, text.embeddings.position_embedding.weight
    tower = TextTower(table, positions, layers, text.final_layer_norm, frozen_projection(model.text_projection))
    mean, std = (torch.tensor(values)[:, None, None] for values in (processor.image_mean, processor.image_std))

    def encode(prompt: str) -> list[int]:
        return tokenizer(prompt, add_special_tokens=False)["input_ids"]

    return Clip(
        name, tower, lambda pixels: project(vision(pixel_values=pixels).pooler_output),
        lambda image: processor(images=image, return_tensors="pt")["pixel_values"][0],
        lambda pixels: (pixels - mean.to(pixels)) / std.to(pixels),
        Tokenizer(encode, tokenizer.decode, tokenizer.convert_ids_to_tokens, tokenizer.bos_token_id, tokenizer.eos_token_id),
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
