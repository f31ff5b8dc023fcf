"""picturebook's two models: the CLIP that is inverted, and the held-out judge.

Both are real open_clip models (own config, CLIP's 49,408-token tokenizer). The files store fp16
weights and only the token rows that training touched; the other rows are zero when loaded. Words that mean an
object of the world and were taught afterwards (`scripts/teach_synonyms.py`) have their rows in a file of their own.
`export_open_clip` writes what `open_clip.create_model_and_transforms` reads. open_clip is imported where its classes
are built: `invert.picturebook.clip` reads the CLIP without them.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

if TYPE_CHECKING:
    from open_clip.model import CLIP

WEIGHTS = Path(__file__).parent / "weights"
TOKENS = WEIGHTS / "tokens.txt"
SYNONYMS = WEIGHTS / "synonyms.safetensors"  # "tokens" (M,) int32; of each model rows (M, D) fp16 by its name
VOCAB_SIZE, CONTEXT = 49408, 77
START_OF_TEXT, END_OF_TEXT = 49406, 49407
IMAGE_SIZE = 64  # pixels of the world's own pictures
TOKEN_TABLE = "token_embedding.weight"

NAMES = ("clip", "judge")
TEXT = {
    "clip": {"context_length": CONTEXT, "vocab_size": VOCAB_SIZE, "width": 192, "heads": 3, "layers": 3},
    "judge": {"context_length": CONTEXT, "vocab_size": VOCAB_SIZE, "width": 128, "heads": 2, "layers": 2},
}
# Image towers, by the tensor that only they have. CLIP and judge are never of one kind.
VISION: dict[str, dict[str, Any]] = {
    # An EfficientNet-Lite0 (Tan and Le, arXiv 1905.11946) that learned to see on ImageNet, with attention pooling.
    "visual.trunk.conv_stem.weight": {
        "image_size": 128,
        "timm_model_name": "tf_efficientnet_lite0",
        "timm_model_pretrained": False,
        "timm_pool": "abs_attn",
        "timm_proj": "",
    },
    # A residual net with anti-aliased strides (Radford et al., 2021).
    "visual.attnpool.c_proj.weight": {"image_size": IMAGE_SIZE, "layers": [2, 2, 2, 2], "width": 32, "patch_size": None},
}
EFFICIENT_NET, RESIDUAL_NET = VISION


@cache
def trained_token_ids() -> tuple[int, ...]:
    """Sorted ids of every token that training met, special tokens included: the rows of the stored tables."""
    return tuple(int(line) for line in TOKENS.read_text().split())


def caption_token_ids() -> tuple[int, ...]:
    """Sorted ids of every token that a caption can hold, start and end of text included."""
    import open_clip

    encode = open_clip.get_tokenizer("ViT-B-32").encode
    from invert.picturebook.grammar import phrases  # the weights alone need no world

    ids = {token for phrase in phrases() for token in encode(phrase)}
    return tuple(sorted(ids | {START_OF_TEXT, END_OF_TEXT}))


def rewrite_token_list() -> None:
    """Rewrite the list behind `trained_token_ids` from today's captions; both models must then be retrained."""
    TOKENS.write_text("".join(f"{token}\n" for token in caption_token_ids()))
    trained_token_ids.cache_clear()


def config(name: str, weights: Path = WEIGHTS) -> dict[str, Any]:
    """open_clip's configuration of the "clip" or the "judge", as the stored weights in the folder have it."""
    with safe_open(weights / f"{name}.safetensors", "pt") as stored:
        kind = next(tensor for tensor in VISION if tensor in stored.keys())  # noqa: SIM118
        embed_dim = stored.get_slice("text_projection").get_shape()[1]
    return {"embed_dim": embed_dim, "vision_cfg": VISION[kind], "text_cfg": TEXT[name]}


def build(config: dict[str, Any], vocab_size: int = VOCAB_SIZE) -> CLIP:
    """A fresh, randomly initialized model of open_clip's configuration; a smaller vocab_size is for training."""
    from open_clip.model import CLIP

    return CLIP(
        embed_dim=config["embed_dim"],
        vision_cfg=config["vision_cfg"],
        text_cfg={**config["text_cfg"], "vocab_size": vocab_size},
    )


def save_weights(model: CLIP, path: Path) -> None:
    """Write a model trained on the compact vocabulary `trained_token_ids()`, in fp16."""
    state = {name: value.detach().half() if value.is_floating_point() else value for name, value in model.state_dict().items()}
    save_file({name: value.contiguous() for name, value in state.items()}, path)


def compact_state(path: Path) -> dict[str, Tensor]:
    """The stored weights as a float32 state dict over the compact vocabulary."""
    stored = load_file(path)
    return {key: value.float() if value.is_floating_point() else value for key, value in stored.items()}


def full_state(path: Path) -> dict[str, Tensor]:
    """The stored weights, and the rows of synonyms beside them, as a float32 state dict over the whole 49,408-token table."""
    state = compact_state(path)
    rows = state[TOKEN_TABLE]
    table = torch.zeros(VOCAB_SIZE, rows.shape[1])
    table[list(trained_token_ids())] = rows
    taught = path.with_name(SYNONYMS.name)
    if taught.exists():
        synonyms = load_file(taught)
        table[synonyms["tokens"].long()] = synonyms[path.stem].float()
    return {**state, TOKEN_TABLE: table}


def load(name: str, weights: Path = WEIGHTS) -> CLIP:
    """The trained "clip" or "judge" in the folder, frozen, in eval mode, float32 on the CPU."""
    model = build(config(name, weights))
    model.load_state_dict(full_state(weights / f"{name}.safetensors"))
    return model.eval().requires_grad_(False)


def preprocess(name: str, weights: Path = WEIGHTS) -> Any:
    """open_clip's evaluation transform of the model: the shortest side to its pixels, center crop."""
    import open_clip

    return open_clip.image_transform(config(name, weights)["vision_cfg"]["image_size"], is_train=False)


def export_open_clip(name: str, folder: Path) -> tuple[Path, Path]:
    """Write (config.json, weights.safetensors) for open_clip's own factory; returns both paths.

    >>> open_clip.add_model_config(config); open_clip.create_model_and_transforms(
    ...     "picturebook-clip", pretrained=str(weights))                          # doctest: +SKIP
    """
    folder.mkdir(parents=True, exist_ok=True)
    described, weights = folder / f"picturebook-{name}.json", folder / f"picturebook-{name}.safetensors"
    described.write_text(json.dumps(config(name), indent=2))
    save_file(full_state(WEIGHTS / f"{name}.safetensors"), weights)
    return described, weights
