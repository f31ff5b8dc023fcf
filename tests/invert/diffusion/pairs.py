"""A small random Stable Diffusion, and beside it CLIPs whose text encoders are its own, as SDXL's pair is published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

from tests.invert.diffusion.conftest import long_tokenizer, random_pipeline

WORDS = "a fox owl hat tree red blue house cloud cat dog boat river sun moon star photo of the in".split()  # noqa: SIM905


def clip_of(encoder: Any) -> CLIPModel:
    """A CLIP whose text encoder is that of a pipeline, and whose image encoder is random."""
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 32, "patch_size": 16}
    config = CLIPConfig(text_config=encoder.config.to_dict(), vision_config=vision, projection_dim=encoder.config.projection_dim)
    model = CLIPModel(config)
    model.text_model.load_state_dict(getattr(encoder, "text_model", encoder).state_dict())
    if hasattr(encoder, "text_projection"):
        model.text_projection.load_state_dict(encoder.text_projection.state_dict())
    return model


def save_with_clips(kind: str, folder: Path) -> tuple[str, Path]:
    """Save a pipeline of that kind; the name of its CLIPs, joined where there are two, and its folder. Few words are trained."""
    pipeline = random_pipeline(kind)
    trained = [token for word in WORDS for token in long_tokenizer()(word, add_special_tokens=False)["input_ids"]]
    encoders = {"l": pipeline.text_encoder, "g": getattr(pipeline, "text_encoder_2", None)}
    names = []
    for name, encoder in encoders.items():
        if encoder is None:
            continue
        table = encoder.get_input_embeddings().weight
        kept = torch.zeros(len(table), 1)
        kept[[*trained, 49406, 49407]] = 1
        with torch.no_grad():
            table.mul_(kept)
        torch.manual_seed(len(name))
        clip_of(encoder).save_pretrained(folder / name)
        long_tokenizer().save_pretrained(folder / name)
        CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder / name)
        names.append(str(folder / name))
    pipeline.save_pretrained(folder / "pipeline")
    return "+".join(names), folder / "pipeline"
