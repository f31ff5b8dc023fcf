"""`load_clip(name)` → a frozen `Clip`: images and prompts to unit latents, prompts also by embeddings.

Adapters turn open_clip models, transformers' CLIPModel and the bundled picturebook into the same
object; the text side is always our own `TextTower`. Names: "picturebook", "picturebook-judge",
open_clip's "ViT-L-14/openai" or "ViT-L-14/path/to/checkpoint.pt", "hf:openai/clip-vit-large-patch14",
or a local folder that transformers or open_clip saved.
"""

from __future__ import annotations

import difflib
import json
import logging
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from huggingface_hub import constants as hub
from PIL import Image
from torch import Tensor, nn

from invert.errors import InputError
from invert.linear import FrozenLinear
from invert.tower import Layer, TextTower, quick_gelu

NAMES = (
    'picturebook, an open_clip name such as "ViT-L-14/openai", "hf:NAME", a folder that transformers or open_clip saved, '
    'or "ARCHITECTURE/checkpoint.pt"'
)
CHECKPOINT_ENDINGS = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
HUB_TIMEOUT = 5  # seconds
TEXT_BATCH = 256  # prompts in one forward


@dataclass(frozen=True)
class Tokenizer:
    """CLIP's byte-pair encoding without special tokens."""

    encode: Callable[[str], list[int]]
    decode: Callable[[list[int]], str]
    raw: Callable[[int], str]  # a token's own text, with "</w>" where a word ends
    start_id: int  # start-of-text
    end_id: int  # end-of-text


class Clip:
    """A frozen CLIP. All latents are unit vectors (…, E) on `device` in `dtype`."""

    def __init__(
        self,
        name: str,
        tower: TextTower,
        visual: Callable[[Tensor], Tensor],
        preprocess: Callable[[Image.Image], Tensor],
        normalise: Callable[[Tensor], Tensor],
        tokenizer: Tokenizer,
        image_size: int,
        logit_scale: float,
        known_tokens: tuple[int, ...] | None = None,
    ) -> None:
        """visual: normalised images (B, 3, S, S) → (B, E). normalise: pixels in 0..1 → the same, normalised."""
        self.name, self.tower, self.tokenizer = name, tower, tokenizer
        self.visual, self.preprocess, self.normalise = visual, preprocess, normalise
        self.image_size, self.logit_scale, self.known_tokens = image_size, logit_scale, known_tokens
        self.start_id, self.end_id = tokenizer.start_id, tokenizer.end_id

    @property
    def token_embeddings(self) -> Tensor:
        """The token table (V, D)."""
        return self.tower.table

    @property
    def device(self) -> torch.device:
        return self.tower.table.device

    @property
    def dtype(self) -> torch.dtype:
        return self.tower.table.dtype

    @property
    def context_length(self) -> int:
        return len(self.tower.positions)

    def token_text(self, token: int) -> str:
        """The raw text of one token: "fox</w>"."""
        return self.tokenizer.raw(token)

    def embed(self, ids: Tensor) -> Tensor:
        """ids (…) int64 → token rows (…, D)."""
        return self.tower.embed(ids)

    def encode_embeddings(self, e: Tensor, eot: Tensor | None = None) -> Tensor:
        """Input embeddings (B, T, D), special rows included → unit latents (B, E), differentiable.

        eot: (B,) position of end-of-text; None: the last. Nothing after it is run.
        """
        return F.normalize(self.tower.encode(e, eot), dim=-1)

    def tokenize(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Prompts → ids (B, longest) int64 padded with end-of-text, and eot (B,); cut to the context."""
        return self.padded([self.framed_ids(prompt) for prompt in prompts])

    def framed_ids(self, prompt: str) -> list[int]:
        """A prompt's ids between the special tokens, cut to the context."""
        return [self.start_id, *self.tokenizer.encode(prompt)[: self.context_length - 2], self.end_id]

    def padded(self, rows: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        """Rows of ids → one tensor (B, longest) padded with end-of-text, and where each ends (B,)."""
        longest = max(map(len, rows))
        ids = torch.tensor([row + [self.end_id] * (longest - len(row)) for row in rows], device=self.device)
        return ids, torch.tensor([len(row) - 1 for row in rows], device=self.device)

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Prompts → unit latents (B, E)."""
        rows = [self.framed_ids(prompt) for prompt in ([prompts] if isinstance(prompts, str) else prompts)]
        # Those of like length together: none is run as far as the longest of all.
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        parts = []
        for i in range(0, len(rows), TEXT_BATCH):
            ids, eot = self.padded([rows[j] for j in order[i : i + TEXT_BATCH]])
            parts.append(self.encode_embeddings(self.embed(ids), eot))
        return torch.cat(parts)[torch.tensor(order, device=self.device).argsort()]

    @torch.no_grad()
    def encode_image(self, images: Sequence[Image.Image] | Tensor) -> Tensor:
        """PIL images, or pixels (B, 3, S, S) in 0..1 of the model's own size → unit latents (B, E)."""
        if isinstance(images, Tensor):
            pixels = self.normalise(images.to(self.device, self.dtype))
        else:
            pixels = torch.stack([self.preprocess(image) for image in images]).to(self.device, self.dtype)
        return F.normalize(self.visual(pixels), dim=-1)


def pick_device(device: str | torch.device | None) -> torch.device:
    """The device asked for, else a GPU if there is one. InputError where it cannot be used."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"the device {str(device)!r} cannot be used here: try --device cpu") from error
    return torch.device(device)


def load_clip(name: str = "picturebook", device: str | torch.device | None = None, dtype: torch.dtype = torch.float32) -> Clip:
    """Load a model by name or path; InputError that says how to get weights that cannot be reached."""
    chosen = pick_device(device)
    if name in ("picturebook", "picturebook-judge"):
        from invert.picturebook import models

        model = models.load("judge" if name.endswith("judge") else "clip").to(chosen, dtype)
        return from_open_clip(name, model, models.preprocess(), models.known_tokens())
    folder = Path(name).expanduser()
    if name.startswith("hf:") or (folder / "config.json").is_file():
        return _load_transformers(name, chosen, dtype)
    if (folder / "open_clip_config.json").is_file():
        return _create_open_clip(name, f"local-dir:{folder}", None, False, chosen, dtype)
    if name and folder.is_dir():
        raise InputError(f"the folder {name!r} holds no config.json or open_clip_config.json: give {NAMES}")
    if folder.is_file():
        raise InputError(f"{name!r} does not say of which architecture it is: give for example ViT-L-14/{name}")
    if "/" in name:
        return _load_open_clip(name, chosen, dtype)
    raise InputError(f"unknown model {name!r}{_similar(name)}: give {NAMES}")


def _similar(name: str) -> str:
    known = ["picturebook", *("/".join(pair) for pair in open_clip.list_pretrained())]
    close = difflib.get_close_matches(name, known, 2, 0.5)
    return f" (did you mean {' or '.join(close)}?)" if close else ""


# open_clip --------------------------------------------------------------------------------------


def _load_open_clip(name: str, device: torch.device, dtype: torch.dtype) -> Clip:
    """ "ARCHITECTURE/tag" or "ARCHITECTURE/checkpoint", the latter relative, absolute or below the root."""
    architecture, tag = name.split("/", 1)
    if architecture in open_clip.list_models():
        file = next((path for path in (Path(tag).expanduser(), Path("/" + tag)) if path.is_file()), None)
        if file is not None:
            return _create_open_clip(name, architecture, str(file), False, device, dtype)
        if tag in open_clip.list_pretrained_tags_by_model(architecture):
            quick = bool(open_clip.pretrained.get_pretrained_cfg(architecture, tag).get("quick_gelu"))
            return _create_open_clip(name, architecture, tag, quick, device, dtype)
        if tag.endswith(CHECKPOINT_ENDINGS):
            raise InputError(f"there is no checkpoint file {tag!r} for {architecture}: check the path")
    elif name.startswith((".", "/", "~")):
        raise InputError(f"there is no model folder {name!r}: check the path, or give {NAMES}")
    raise InputError(f"unknown model {name!r}{_similar(name)}: give {NAMES}")


def _create_open_clip(
    name: str, model_name: str, pretrained: str | None, quick: bool, device: torch.device, dtype: torch.dtype
) -> Clip:
    """Through open_clip's own factory, which unpickles nothing but tensors.

    quick: the weights were trained with OpenAI's approximate GELU.
    """
    local = pretrained is None or Path(pretrained).is_file()
    try:
        with _quiet(local):
            model, _, preprocess = open_clip.create_model_and_transforms(
                model_name, pretrained=pretrained, force_quick_gelu=quick
            )
            tokenizer = open_clip.get_tokenizer(model_name)
    except Exception as error:  # the libraries raise anything from OSError to KeyError here
        raise InputError(_unusable(name, local)) from error
    return from_open_clip(name, model.to(device, dtype), preprocess, tokenizer=tokenizer)


def _unusable(name: str, local: bool) -> str:
    if local:
        return (
            f"the weights of {name!r} cannot be read: the file is damaged or of another architecture "
            "(OpenAI's own weights want an architecture that ends in -quickgelu)"
        )
    return (
        f"the weights of {name!r} cannot be reached: download them on a connected machine and give the "
        "folder or checkpoint (ARCHITECTURE/path.pt), or use --model picturebook"
    )


@contextmanager
def _quiet(local: bool) -> Iterator[None]:
    """Silence the model libraries while loading; where the hub does not answer, spare the user their long retries."""
    level, offline = logging.root.manager.disable, hub.HF_HUB_OFFLINE
    logging.disable(logging.CRITICAL)
    hub.HF_HUB_OFFLINE = offline or local or not _hub_answers()  # weights that are in the hub's cache still load
    try:
        yield
    finally:
        logging.disable(level)
        hub.HF_HUB_OFFLINE = offline


def _hub_answers() -> bool:
    try:
        urllib.request.urlopen(urllib.request.Request(hub.ENDPOINT, method="HEAD"), timeout=HUB_TIMEOUT)
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False
    return True


def from_open_clip(
    name: str,
    model: Any,
    preprocess: Any,
    known_tokens: tuple[int, ...] | None = None,
    tokenizer: Any = None,
) -> Clip:
    """Adapt an open_clip CLIP or CustomTextCLIP; InputError where its text tower is of another kind."""
    model.eval().requires_grad_(False)
    text = getattr(model, "text", model)
    if not _is_causal_clip(text):
        raise InputError(f"the text tower of {name!r} is not a causal CLIP transformer: choose another model")
    layers = [_open_clip_layer(block) for block in text.transformer.resblocks]
    projection = _projection(text.text_projection)
    tower = TextTower(text.token_embedding.weight, text.positional_embedding, layers, text.ln_final, projection)
    bpe = tokenizer if hasattr(tokenizer, "decoder") else open_clip.tokenizer.SimpleTokenizer()
    size = model.visual.image_size
    return Clip(
        name, tower, model.visual, preprocess, preprocess.transforms[-1],
        Tokenizer(bpe.encode, bpe.decode, lambda token: bpe.decoder[token], bpe.sot_token_id, bpe.eot_token_id),
        size[0] if isinstance(size, tuple | list) else size,
        float(model.logit_scale.detach().exp()), known_tokens,
    )  # fmt: skip


def _is_causal_clip(text: Any) -> bool:
    """Whether `TextTower` computes what this open_clip text tower computes."""
    blocks = getattr(getattr(text, "transformer", None), "resblocks", ())
    causal = getattr(text, "attn_mask", None) is not None and getattr(text, "cls_emb", None) is None
    pool = getattr(text, "pool_type", None) or getattr(text, "text_pool_type", "argmax")
    return len(blocks) > 0 and causal and pool == "argmax" and all(isinstance(b.attn, nn.MultiheadAttention) for b in blocks)


def _projection(projection: Any) -> Callable[[Tensor], Tensor]:
    """open_clip keeps a matrix (D, E), a Linear or nothing."""
    if projection is None:
        return nn.Identity()
    if isinstance(projection, nn.Linear):
        return FrozenLinear(projection.weight, projection.bias)
    return FrozenLinear(projection.T.contiguous(), None)


def _open_clip_layer(block: Any) -> Layer:
    attention, mlp = block.attn, block.mlp
    weights = (attention.in_proj_weight, attention.in_proj_bias, attention.out_proj.weight, attention.out_proj.bias)
    norms, scales = (block.ln_1, block.ln_2), (block.ls_1, block.ls_2)
    return Layer(norms, weights, (mlp.c_fc, mlp.c_proj), attention.num_heads, mlp.gelu, scales)


# transformers -----------------------------------------------------------------------------------


def _load_transformers(name: str, device: torch.device, dtype: torch.dtype) -> Clip:
    from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

    source = str(Path(name.removeprefix("hf:")).expanduser())
    local = Path(source).is_dir()
    try:
        if local:
            _check_is_clip(name, Path(source))
        with _quiet(local):
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
    layers = [_transformers_layer(layer) for layer in text.encoder.layers]
    table, positions = text.embeddings.token_embedding.weight, text.embeddings.position_embedding.weight
    tower = TextTower(table, positions, layers, text.final_layer_norm, _projection(model.text_projection))
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


def _transformers_layer(layer: Any) -> Layer:
    attention, mlp = layer.self_attn, layer.mlp
    parts = (attention.q_proj, attention.k_proj, attention.v_proj)
    weight, bias = torch.cat([p.weight for p in parts]), torch.cat([p.bias for p in parts])
    weights = (weight, bias, attention.out_proj.weight, attention.out_proj.bias)
    act = quick_gelu if "quick" in type(mlp.activation_fn).__name__.lower() else mlp.activation_fn
    norms = (layer.layer_norm1, layer.layer_norm2)
    return Layer(norms, weights, (mlp.fc1, mlp.fc2), attention.num_heads, act)
