"""Small random models of every family of text encoders, saved as their libraries save them and loaded as users do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F
from open_clip.model import CLIP, CustomTextCLIP, set_model_preprocess_cfg
from open_clip.push_to_hf_hub import save_config_for_hf
from open_clip.transform import PreprocessCfg
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers import models as vocabularies
from torch import Tensor, nn

from invert.errors import InputError
from invert.models.clip import Clip
from invert.models.loading import load_clip

TEXTS = [
    "a photo of a fox", "two owls on a branch", "a red fox above a house", "a blue bird", "three dogs in the snow",
    "an old photo of a cat on a table", "a picture of two red houses", "the owl and the fox",
]  # fmt: skip
VISION = {"image_size": 32, "layers": 1, "width": 64, "head_width": 64, "patch_size": 16}
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = tuple(dict.fromkeys(word for text in TEXTS for word in text.split()))
BYTES = [f"<0x{value:02X}>" for value in range(256)]


@dataclass(frozen=True)
class Encoder:
    """A model behind our interface, what its own library says of texts and pictures, and its folder."""

    clip: Clip
    encode_text: Callable[[list[str]], Tensor]  # unit latents
    encode_image: Callable[[Image.Image], Tensor]
    folder: Path


# Tokenizers, trained on TEXTS and saved as the families' own are ---------------------------------


def gemma(folder: Path, kind: str = "Siglip2Tokenizer", **options: Any) -> int:
    """Byte-pair pieces without a mark on a prompt's first word, end-of-text behind; the size of the vocabulary."""
    import transformers

    bpe = Tokenizer(vocabularies.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    bpe.normalizer = normalizers.Replace(" ", "▁")
    bpe.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *BYTES]
    bpe.train_from_iterator(TEXTS * 3, trainers.BpeTrainer(vocab_size=420, special_tokens=special, show_progress=False))
    model = json.loads(bpe.to_str())["model"]
    options = {"padding_side": "right", "add_eos_token": True, "model_input_names": ["input_ids"], **options}
    merges = [tuple(pair) for pair in model["merges"]]
    made = getattr(transformers, kind)(vocab=model["vocab"], merges=merges, add_bos_token=False, **options)
    made.save_pretrained(folder)
    return len(made)


def unigram(folder: Path, start: bool = False) -> int:
    """Pieces that mark where a word begins, as T5's (SigLIP, mT5) and, with a start token, XLM-RoBERTa's."""
    from transformers import PreTrainedTokenizerFast

    special = ["<s>", "<pad>", "</s>", "<unk>"] if start else ["<pad>", "</s>", "<unk>"]
    pieces = (
        [(token, 0.0) for token in special] + [(f"▁{word}", -4.0) for word in WORDS] + [(one, -9.0) for one in ("▁", *LETTERS)]
    )
    made = Tokenizer(vocabularies.Unigram(pieces, unk_id=len(special) - 1))
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    row = "<s> $A </s>" if start else "$A </s>"
    made.post_processor = processors.TemplateProcessing(row, special_tokens=[(token, i) for i, token in enumerate(special)])
    named = {"bos_token": "<s>"} if start else {}
    padding = "<pad>" if start else "</s>"
    wrapped = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", unk_token="<unk>", pad_token=padding, **named)
    wrapped.save_pretrained(folder)
    return len(wrapped)


def word_pieces(folder: Path) -> int:
    """BERT's, as CLIPA reads them."""
    from transformers import BertTokenizerFast

    letters = [*LETTERS, *(f"##{letter}" for letter in LETTERS), ".", ",", "!"]
    tokens = dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *WORDS])
    made = BertTokenizerFast(vocab={token: i for i, token in enumerate(tokens)})
    made.save_pretrained(folder)
    return len(made)


def sentences(folder: Path, **options: Any) -> int:
    """SigLIP's own class in transformers, on a sentencepiece model."""
    import sentencepiece
    from transformers import SiglipTokenizer

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(WORDS * 9 + (*LETTERS,)), model_prefix=str(folder / "spiece"), model_type="bpe", vocab_size=130,
        hard_vocab_limit=False, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
    )  # fmt: skip
    made = SiglipTokenizer(str(folder / "spiece.model"), **{"model_input_names": ["input_ids"], **options})
    made.save_pretrained(folder)
    return len(made)


# Models ------------------------------------------------------------------------------------------


def spread(model: nn.Module) -> nn.Module:
    """Weights far enough from zero that a forgotten one would show."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def of_open_clip(folder: Path, architecture: str, tokenizer: Callable[[Path], int] | None, **vision: Any) -> Encoder:
    """A small model of one of open_clip's configurations: the text side's own settings, in two narrow layers."""
    config = open_clip.get_model_config(architecture)
    assert config is not None
    config.update(embed_dim=12, vision_cfg={**VISION, **vision})
    config["text_cfg"].update(width=16, heads=2, layers=2, vocab_size=49408 if tokenizer is None else tokenizer(folder))
    if config["text_cfg"].get("proj_type") == "none":
        config["embed_dim"] = 16
    torch.manual_seed(0)  # open_clip takes no generator
    settings = {key: value for key, value in config.items() if key != "custom_text"}
    model = spread((CustomTextCLIP if config.get("custom_text") else CLIP)(**settings))
    set_model_preprocess_cfg(
        model, asdict(PreprocessCfg(size=32, resize_mode="squash" if "SigLIP" in architecture else "shortest"))
    )
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    save_config_for_hf(model, folder / "open_clip_config.json", config)
    theirs, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    rows = open_clip.get_tokenizer(f"local-dir:{folder}")
    return Encoder(
        load_clip(str(folder), device="cpu"),
        lambda texts: theirs.eval().encode_text(rows(texts), normalize=True),
        lambda image: theirs.eval().encode_image(preprocess(image)[None], normalize=True),
        folder,
    )


def of_transformers(folder: Path, kind: str, tokenizer: Callable[[Path], int], processor: Any, **text: Any) -> Encoder:
    """A small model of transformers of that model type."""
    import transformers
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**shape, "vocab_size": tokenizer(folder), "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0, **text}
    text |= {"projection_size": 12} if "siglip" in kind else {"projection_dim": 12}
    vision = {**shape, "image_size": 32, "patch_size": 16, "num_patches": 4}
    config = transformers.AutoConfig.for_model(kind, text_config=text, vision_config=vision, projection_dim=12)
    if "siglip" in kind:
        config.vision_config.hidden_size = 12
    torch.manual_seed(0)  # transformers takes no generator
    model = spread(AutoModel.from_config(config))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    theirs, images, words = (of.from_pretrained(folder) for of in (AutoModel, AutoImageProcessor, AutoTokenizer))
    context = config.text_config.max_position_embeddings

    def encode_text(texts: list[str]) -> Tensor:
        rows = words(texts, padding="max_length", truncation=True, max_length=context, return_tensors="pt")
        return F.normalize(theirs.get_text_features(**rows).pooler_output, dim=-1)

    def encode_image(image: Image.Image) -> Tensor:
        return F.normalize(theirs.get_image_features(**images(images=image, return_tensors="pt")).pooler_output, dim=-1)

    return Encoder(load_clip(str(folder), device="cpu"), encode_text, encode_image, folder)


def save_clip(folder: Path, positions: int) -> tuple[Any, Any]:
    """A small CLIPModel of transformers in a folder, with CLIP's own tokenizer and that many positions; model and tokenizer."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    from invert.picturebook.text_encoder import tokenizer

    torch.manual_seed(0)  # transformers takes no generator
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"vocab_size": 49408, "bos_token_id": 49406, "eos_token_id": 49407}
    text = {**shape, **ids, "max_position_embeddings": positions}
    vision = {**shape, "image_size": 32, "patch_size": 16}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)).eval()
    words = tokenizer()
    words.model_max_length = positions
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return model, words


def built(family: str, folder: Path) -> Encoder:
    """The small model of a family."""
    from transformers import CLIPImageProcessor, Siglip2ImageProcessor, SiglipImageProcessor

    square = SiglipImageProcessor(size={"height": 32, "width": 32})
    cut = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    match family:
        case "open_clip SigLIP":
            return of_open_clip(folder, "ViT-B-16-SigLIP", unigram)
        case "open_clip SigLIP i18n":
            return of_open_clip(folder, "ViT-SO400M-16-SigLIP-i18n-256", unigram)
        case "open_clip SigLIP 2":
            return of_open_clip(folder, "ViT-B-16-SigLIP2", gemma)
        case "CLIPA":
            return of_open_clip(folder, "ViT-L-14-CLIPA", word_pieces)
        case "MobileCLIP":
            return of_open_clip(folder, "MobileCLIP2-S2", None)
        case "open_clip MetaCLIP 2":
            return of_open_clip(folder, "ViT-H-14-worldwide", lambda path: unigram(path, start=True))
        case "PE-Core":
            return of_open_clip(folder, "PE-Core-B-16", None)
        case "SigLIP":
            return of_transformers(folder, "siglip", sentences, square, max_position_embeddings=64)
        case "SigLIP, padding masked":
            masked = lambda path: sentences(path, model_input_names=["input_ids", "attention_mask"])  # noqa: E731
            return of_transformers(folder, "siglip", masked, square, max_position_embeddings=16)
        case "SigLIP 2":
            return of_transformers(folder, "siglip", gemma, square, max_position_embeddings=64)
        case "SigLIP 2 NaFlex":
            naflex = Siglip2ImageProcessor(patch_size=16, max_num_patches=16)
            return of_transformers(folder, "siglip2", gemma, naflex, max_position_embeddings=64)
        case "MetaCLIP 2":
            worldwide = lambda path: unigram(path, start=True)  # noqa: E731
            return of_transformers(folder, "metaclip_2", worldwide, cut, max_position_embeddings=77, eos_token_id=2)
    raise AssertionError(family)


FAMILIES = (
    "open_clip SigLIP", "open_clip SigLIP i18n", "open_clip SigLIP 2", "CLIPA", "MobileCLIP", "open_clip MetaCLIP 2", "PE-Core",
    "SigLIP", "SigLIP, padding masked", "SigLIP 2", "SigLIP 2 NaFlex", "MetaCLIP 2",
)  # fmt: skip
made: dict[str, Encoder] = {}


@pytest.fixture(scope="session")
def family_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Encoder]:
    """A family's name → its small model, built once."""

    def get(family: str) -> Encoder:
        if family not in made:
            made[family] = built(family, tmp_path_factory.mktemp("encoder"))
        return made[family]

    return get


@pytest.fixture(params=FAMILIES)
def encoder(request: pytest.FixtureRequest, family_of: Callable[[str], Encoder]) -> Encoder:
    """Every family in turn."""
    return family_of(request.param)


@pytest.fixture
def save_gemma() -> Callable[..., int]:
    """Saves a tokenizer of Gemma's kind into a folder."""
    return gemma


@pytest.fixture
def copied(transformers_clip, tmp_path: Path) -> Path:
    """A whole transformers folder that a test may spoil."""
    return Path(shutil.copytree(transformers_clip.name, tmp_path / "clip"))


def refusal(name: str | Path) -> str:
    """The one sentence with which a model is refused."""
    with pytest.raises(InputError) as caught:
        load_clip(str(name), device="cpu")
    message = str(caught.value)
    assert "\n" not in message and str(name) in message and "--" not in message
    return message
