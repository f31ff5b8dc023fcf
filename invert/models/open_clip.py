"""Adapter: an open_clip model, by architecture and tag or checkpoint, by folder, or as an object → `Clip`."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.model import QuickGELU
from open_clip.pretrained import download_pretrained_from_url

from invert.errors import InputError
from invert.given import wrong
from invert.models.bidirectional import BidirectionalTower
from invert.models.checks import (
    SAMPLES,
    check_files,
    check_finite,
    check_sentencepiece,
    check_tokenizer,
    check_vocabulary,
    read_config,
    unsupported,
)
from invert.models.clip import Clip
from invert.models.fitting import transform_fits, transform_normalizes
from invert.models.hub import Repository, fetch_first, quiet, unreachable
from invert.models.linear import frozen_projection
from invert.models.names import NAMES, similar
from invert.models.open_clip_kinds import AT_END, unsupported_kind, unsupported_tower
from invert.models.open_clip_settings import CONFIG, of_checkpoint, of_tag
from invert.models.partial import Checkpoint, NotInParts, read_clip
from invert.models.subwords import SubwordTokenizer
from invert.models.tokenizer import BytePairTokenizer, Tokenizer
from invert.models.tower import Layer, TextTower, quick_gelu
from invert.models.turns import Placement
from invert.models.weight_files import WholeFile
from invert.silence import no_warnings

CHECKPOINT_ENDINGS = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # the first that is there
TOKENIZERS = ("tokenizer.json", "*.model", "vocab.txt")  # files that hold a vocabulary, one is enough
TOKENIZER_FILES = ("*.json", "*.txt", "*.model")
PREFERRED = (
    "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth", "model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth",
)  # fmt: skip
IN_FOLDER = tuple((pattern,) for pattern in ("*.safetensors", "*.bin", "*.pth", "*.pt"))  # what open_clip looks for

log = logging.getLogger(__name__)


def load_named(name: str, at: Placement) -> Clip:
    """ "ARCHITECTURE/tag" or "ARCHITECTURE/checkpoint", the latter relative, absolute or below the root.

    Raises:
        InputError: there is no such model, its text tower is of another kind, or its weights cannot be reached or read.
    """
    architecture, tag = name.split("/", 1)
    if architecture in open_clip.list_models():
        config = open_clip.get_model_config(architecture) or {}
        check_config(name, config)
        file = next((path for path in (Path(tag).expanduser(), Path("/" + tag)) if path.is_file()), None)
        if file is not None:
            tokenizer = load_tokenizer(name, config["text_cfg"], None)
            return _create(name, architecture, tokenizer, at, pretrained=str(file), **of_checkpoint(name, architecture, file))
        if tag in open_clip.list_pretrained_tags_by_model(architecture):
            return _load_tag(name, architecture, tag, at)
        if tag.endswith(CHECKPOINT_ENDINGS):
            raise InputError(f"there is no checkpoint file {tag!r} for the model {name!r}: check the path")
    elif name.startswith((".", "/", "~")):
        raise InputError(f"there is no model folder {name!r}: check the path, or give {NAMES}")
    raise InputError(f"unknown model {name!r}{similar(name)}: give {NAMES}")


def load_folder(name: str, folder: Path, at: Placement) -> Clip:
    """What open_clip saved for the hub: open_clip_config.json and weights beside it.

    Raises:
        InputError: the text tower is of another kind, or files are missing or damaged.
    """
    config = read_config(name, folder / CONFIG).get("model_cfg")
    if not isinstance(config, dict) or not isinstance(config.get("text_cfg"), dict):
        raise InputError(f"{CONFIG} of the model {name!r} describes no model (`model_cfg`): download it again")
    check_config(name, config)
    check_files(name, folder, [("weights", IN_FOLDER)])
    tokenizer = load_tokenizer(name, config["text_cfg"], folder)
    return _create(name, f"local-dir:{folder}", tokenizer, at)


def _load_tag(name: str, architecture: str, tag: str, at: Placement) -> Clip:
    settings = open_clip.pretrained.get_pretrained_cfg(architecture, tag)
    tokenizer = load_tokenizer(name, (open_clip.get_model_config(architecture) or {})["text_cfg"], None)
    return _create(name, architecture, tokenizer, at, pretrained=str(_checkpoint(name, settings)), **of_tag(settings))


def _checkpoint(name: str, settings: dict[str, Any]) -> Path:
    """The file with the weights of a tag, downloaded where it is not in the cache."""
    where = settings.get("hf_hub")
    if not where:
        try:
            with quiet():
                return Path(download_pretrained_from_url(settings["url"]))
        except Exception as error:  # anything from OSError to the checksum's RuntimeError
            raise unreachable(name) from error
    repository, file = os.path.split(where)
    files = [file, str(Path(file).with_suffix(".safetensors"))] if file else list(WEIGHTS)
    return fetch_first(Repository(name, repository), sorted(files, key=lambda f: not f.endswith(".safetensors")))


def _create(name: str, model_name: str, tokenizer: Any, at: Placement, **options: Any) -> Clip:
    """A tensor at a time where the file allows it; else through open_clip's own factory.

    The factory unpickles nothing but tensors and refuses to go without weights. It holds them twice, though, and fills
    the model with random numbers first, which takes longer than reading them.
    """
    try:
        return _read(name, model_name, tokenizer, at, **options)
    except InputError as error:
        obstacle = error
    if at.turns is not None and not isinstance(obstacle, NotInParts):
        raise obstacle
    try:
        with quiet(), no_warnings():
            model, preprocess = open_clip.create_model_from_pretrained(model_name, **options)
    except Exception as error:  # the libraries raise anything from OSError to KeyError here
        if not isinstance(obstacle, NotInParts | WholeFile):
            raise obstacle from error
        raise InputError(
            f"the weights of {name!r} cannot be read: their file, or the configuration beside it, is damaged or of another "
            "architecture"
        ) from error
    if at.turns is not None:
        log.warning("the model %r stays in memory whole: its towers cannot be built one without the other", name)
    if at.dtype == torch.float16:
        check_finite(name, model, as_stored=True)
    return from_open_clip(name, model.to(at.device, at.dtype), preprocess, tokenizer=tokenizer)


def _read(name: str, model_name: str, tokenizer: Any, at: Placement, pretrained: str | None = None, **options: Any) -> Clip:
    """A model that is built without weights and reads each of them once: all of them now, or a tower at its turn.

    Raises:
        NotInParts: it cannot be built without its weights.
        InputError: its file is damaged, of another architecture, or cannot be read a tensor at a time.
    """
    file = Path(pretrained) if pretrained else checkpoint_in(Path(model_name.removeprefix("local-dir:")))
    try:
        with quiet(), torch.device("meta"):
            model, _, preprocess = open_clip.create_model_and_transforms(model_name, load_weights=False, device="meta", **options)
    except Exception as error:  # image towers of other libraries compute with their tables while they are built
        raise NotInParts(f"the model {name!r} cannot be built without its weights: leave out `low_memory`") from error

    def renamed(stored: Iterable[str]) -> dict[str, str]:
        """Stored names → the module's: older files of models with a text tower of their own name it otherwise."""
        names = {key: key for key in stored}
        if "positional_embedding" in names and not hasattr(model, "positional_embedding"):
            names = {old: new for new, old in open_clip.model.convert_to_custom_text_state_dict(names).items()}
        return names

    adapt = partial(from_open_clip, name, model, preprocess, tokenizer=tokenizer)
    return read_clip(model, Checkpoint(name, [file], renamed), at, adapt, lambda key: key.startswith("visual."))


def checkpoint_in(folder: Path) -> Path:
    """The weights in a folder that open_clip reads: of the names that it prefers, else the first of another name."""
    named = [folder / file for file in PREFERRED if (folder / file).is_file()]
    return (named or [file for (pattern,) in IN_FOLDER for file in sorted(folder.glob(pattern))])[0]


def check_config(name: str, config: dict[str, Any]) -> None:
    """Whether the text tower of an open_clip configuration is computed here; asked before anything is downloaded.

    Raises:
        InputError: says of which kind it is.
    """
    kind = unsupported_kind(config)
    if kind is not None:
        raise unsupported(name, kind)


def load_tokenizer(name: str, text: dict[str, Any], folder: Path | None) -> Any:
    """The tokenizer that a `text_cfg` names, as open_clip wraps it; nothing but it is downloaded.

    Args:
        name: what the user called the model.
        text: the `text_cfg`.
        folder: where the model's own files lie; None for a model of open_clip's list.

    Raises:
        InputError: its files cannot be reached or read.
    """
    options: dict[str, Any] = {"context_length": text.get("context_length", 77)}
    make: Callable[..., Any] = open_clip.tokenizer.SimpleTokenizer
    if text.get("hf_tokenizer_name"):
        folder = _tokenizer_files(name, text["hf_tokenizer_name"], folder)
        make = partial(open_clip.tokenizer.HFTokenizer, str(folder))
        options |= {"tokenizer_mode": text["tokenizer_mode"]} if text.get("tokenizer_mode") else {}
    given = text.get("tokenizer_kwargs") or {}
    try:
        with quiet():
            return make(**options, **given)
    except Exception as error:  # anything that transformers and tokenizers raise
        named = f", or its settings {given} (`tokenizer_kwargs`) are none of open_clip's" if given else ""
        raise InputError(f"the tokenizer of {name!r} is damaged or incomplete{named}: download it again") from error


def _tokenizer_files(name: str, repository: str, folder: Path | None) -> Path:
    """The folder with the files of a tokenizer of transformers."""
    if folder is None:
        folder = Repository(name, repository, "tokenizer").fetch(TOKENIZER_FILES)
    else:
        check_files(name, folder, [("tokenizer", tuple((file,) for file in TOKENIZERS))])
    check_sentencepiece(name, folder)
    return folder


def from_open_clip(
    name: str,
    model: Any,
    preprocess: Any,
    tokenizer: Any = None,
) -> Clip:
    """Adapt an open_clip CLIP or CustomTextCLIP.

    Args:
        name: what the model is called in results and errors.
        model: on its device already; its weights are frozen.
        preprocess: open_clip's evaluation transform.
        tokenizer: open_clip's SimpleTokenizer or HFTokenizer; None for the usual one.

    Raises:
        InputError: the text tower or the tokenizer is of another kind, or the weights are not finite.
    """
    if not all(hasattr(model, part) for part in ("visual", "eval")):
        raise unsupported(name, f"of type {type(model).__name__}")
    if not hasattr(preprocess, "transforms"):
        raise wrong("preprocess", preprocess, "open_clip's evaluation transform")
    model.eval().requires_grad_(False)
    text = getattr(model, "text", model)
    theirs = open_clip.tokenizer.SimpleTokenizer() if tokenizer is None else tokenizer
    subwords = hasattr(theirs, "tokenizer") and hasattr(theirs, "clean_fn")
    if not subwords and not hasattr(theirs, "decoder"):
        raise unsupported(name, f"a CLIP with the tokenizer {type(theirs).__name__}")
    causal = getattr(text, "attn_mask", None) is not None
    # A CustomTextCLIP's text tower has these settings under its own names.
    pool = str(getattr(text, "pool_type", getattr(text, "text_pool_type", "argmax")))
    kind = unsupported_tower(text, pool, causal, subwords)
    if kind is not None:
        raise unsupported(name, kind)
    if getattr(model.visual, "output_tokens", False):
        raise unsupported(name, "a CLIP whose image tower gives a latent of every patch (`output_tokens`)")
    check_finite(name, model)
    context, rows = len(text.positional_embedding), len(text.token_embedding.weight)
    adapted = (_subwords if subwords else _byte_pairs)(name, theirs, context, rows, not causal)
    if pool == "eos" and adapted.frame.after[-1:] != (getattr(text, "eos_id", getattr(text, "text_eos_id", None)),):
        raise unsupported(name, "a CLIP whose text tower is pooled at a token that ends no prompt")
    size = model.visual.image_size
    if isinstance(size, tuple | list) and len(set(size)) > 1:
        raise unsupported(name, "a CLIP of pictures that are no squares")
    side = size[0] if isinstance(size, tuple | list) else size
    return Clip(
        name, _tower(text, causal, pool), model.visual, preprocess, transform_normalizes(preprocess), adapted,
        side, float(model.logit_scale.detach().float().exp()), transform_fits(preprocess, side),
    )  # fmt: skip


def _byte_pairs(name: str, bpe: Any, context: int, rows: int, pads: bool) -> Tokenizer:
    """CLIP's own tokenizer, which fills a row with zeros."""
    start_id, end_id = bpe.sot_token_id, bpe.eot_token_id
    check_tokenizer(name, [bpe.encode(sample) for sample in SAMPLES], len(bpe.decoder), rows, start_id, end_id)
    padding = (0, context) if pads else None
    return BytePairTokenizer(bpe.encode, bpe.decode, bpe.decoder.get, start_id, end_id, padding)


def _subwords(name: str, wrapped: Any, context: int, rows: int, pads: bool) -> Tokenizer:
    """A tokenizer of transformers in open_clip's HFTokenizer, which cleans texts before it."""
    tokenizer = wrapped.tokenizer
    encoded = tokenizer(list(SAMPLES), add_special_tokens=False)["input_ids"]
    check_vocabulary(name, encoded, len(tokenizer), rows)
    padded = lambda texts: wrapped(texts, context_length=context).tolist()  # noqa: E731
    return SubwordTokenizer(name, tokenizer, padded, context, wrapped.clean_fn, pads)


def _tower(text: Any, causal: bool, pool: str) -> TextTower:
    layers = [_layer(block) for block in text.transformer.resblocks]
    parts = (text.token_embedding.weight, text.positional_embedding, layers, text.ln_final)
    projection = frozen_projection(text.text_projection)
    return TextTower(*parts, projection) if causal else BidirectionalTower(*parts, projection, "end" if pool in AT_END else pool)


def _layer(block: Any) -> Layer:
    attention, mlp = block.attn, block.mlp
    weights = (attention.in_proj_weight, attention.in_proj_bias, attention.out_proj.weight, attention.out_proj.bias)
    norms, scales = (block.ln_1, block.ln_2), (block.ls_1, block.ls_2)
    activation = quick_gelu if isinstance(mlp.gelu, QuickGELU) else mlp.gelu
    return Layer(norms, weights, (mlp.c_fc, mlp.c_proj), attention.num_heads, activation, scales)
