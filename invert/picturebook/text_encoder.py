"""picturebook's text tower and tokenizer as transformers' own classes, for diffusers pipelines.

In: the bundled CLIP's weights. Out: a `CLIPTextModel` whose hidden states and pooled latents equal
the open_clip tower's, and a `CLIPTokenizer` with open_clip's merges. Nothing is stored twice: the
bundled generator has no text encoder of its own and takes this one.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import open_clip
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from invert.picturebook import models

PROMPT_LENGTH = 40  # positions, special tokens included: what the generator was trained to look at
SPECIAL = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}  # open_clip's names → transformers'


def text_encoder(weights: Path = models.WEIGHTS) -> CLIPTextModel:
    """The text tower of the folder's CLIP as a frozen `CLIPTextModel`, float32 on the CPU."""
    state = models.full_state(weights / "clip.safetensors")
    config = models.TEXT["clip"]
    model = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=config["vocab_size"],
            hidden_size=config["width"],
            intermediate_size=4 * config["width"],
            num_hidden_layers=config["layers"],
            num_attention_heads=config["heads"],
            max_position_embeddings=config["context_length"],
            hidden_act="gelu",
            projection_dim=state["text_projection"].shape[1],
            bos_token_id=models.START_OF_TEXT,
            eos_token_id=models.END_OF_TEXT,
            pad_token_id=models.END_OF_TEXT,
        )
    )
    own = model.state_dict()
    prefix = "text_model." if "text_model.final_layer_norm.weight" in own else ""
    model.load_state_dict({prefix + name: value for name, value in converted(state, config["layers"]).items()})
    return model.eval().requires_grad_(False)


def fingerprint() -> str:
    """A hash of the stored text tower: a generator trained on other hidden states must not be paired with it."""
    state = load_file(models.WEIGHTS / "clip.safetensors")
    digest = hashlib.sha256()
    for name in sorted(state):
        if not name.startswith("visual."):
            digest.update(name.encode() + state[name].numpy().tobytes())
    return digest.hexdigest()


def converted(state: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """open_clip's names → transformers'; the fused in-projection becomes three matrices."""
    renamed = {
        "embeddings.token_embedding.weight": state["token_embedding.weight"],
        "embeddings.position_embedding.weight": state["positional_embedding"],
        "final_layer_norm.weight": state["ln_final.weight"],
        "final_layer_norm.bias": state["ln_final.bias"],
    }
    for i in range(layers):
        theirs, ours = f"transformer.resblocks.{i}.", f"encoder.layers.{i}."
        for kind in ("weight", "bias"):
            for part, value in zip("qkv", state[f"{theirs}attn.in_proj_{kind}"].chunk(3), strict=True):
                renamed[f"{ours}self_attn.{part}_proj.{kind}"] = value.contiguous()
            for new, old in (
                ("self_attn.out_proj", "attn.out_proj"),
                ("layer_norm1", "ln_1"),
                ("layer_norm2", "ln_2"),
                ("mlp.fc1", "mlp.c_fc"),
                ("mlp.fc2", "mlp.c_proj"),
            ):
                renamed[f"{ours}{new}.{kind}"] = state[f"{theirs}{old}.{kind}"]
    return renamed


def tokenizer() -> CLIPTokenizer:
    """open_clip's byte-pair encoding as transformers' tokenizer; pads and cuts to PROMPT_LENGTH."""
    bpe: SimpleTokenizer = open_clip.get_tokenizer("ViT-B-32")
    return CLIPTokenizer(
        vocab={SPECIAL.get(text, text): token for text, token in bpe.encoder.items()},
        merges=[pair for pair, _ in sorted(bpe.bpe_ranks.items(), key=lambda item: item[1])],
        unk_token=SPECIAL["<end_of_text>"],
        pad_token=SPECIAL["<end_of_text>"],
        model_max_length=PROMPT_LENGTH,
    )
