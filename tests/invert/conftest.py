"""Models that several files of tests share, each built once: the bundled one and random ones of real architectures."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import open_clip
import pytest
import torch
import torch.nn.functional as F
from open_clip.model import CLIP, set_model_preprocess_cfg
from open_clip.push_to_hf_hub import save_config_for_hf
from open_clip.transform import PreprocessCfg
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from invert.bundle import ModelBundle, load_bundle
from invert.history import HistoryEntry
from invert.inverter import Inverter
from invert.lexicon import ENGLISH_FUNCTION_WORDS, Lexicon, Word
from invert.models.clip import Clip
from invert.models.loading import load_clip
from invert.picturebook.render import render
from invert.picturebook.world import draw_scenes
from invert.result import ConceptWords, Result, SoftToken, Token

VOCAB = 49408


@dataclass(frozen=True)
class Adapted:
    """A model behind our interface, what its own library says, and the name that it was loaded by."""

    clip: Clip
    encode_text: Callable[[list[str]], Tensor]  # unit latents, all 77 positions, the library's own code
    encode_image: Callable[[Tensor], Tensor]  # of normalized pixels
    name: str


def rough(model: Any) -> Any:
    """Move biases and norms off their zeros and ones, so that a forgotten one would show."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def open_clip_config(width: int, heads: int, layers: int, quick_gelu: bool, vocab: int = VOCAB) -> dict[str, Any]:
    """A CLIP with a small image side."""
    vision = {"image_size": 32, "layers": 1, "width": 64, "head_width": 64, "patch_size": 16}
    text = {"context_length": 77, "vocab_size": vocab, "width": width, "heads": heads, "layers": layers}
    return {"embed_dim": width // 2, "vision_cfg": vision, "text_cfg": text, "quick_gelu": quick_gelu}


class ToyTokenizer:
    """62 words w0…w61, each a token; any other word is one of them, too. Stands for open_clip's SimpleTokenizer."""

    sot_token_id, eot_token_id = 62, 63
    decoder: ClassVar = {**{i: f"w{i}</w>" for i in range(62)}, 62: "<start_of_text>", 63: "<end_of_text>"}

    def encode(self, text: str) -> list[int]:
        known = {word.removesuffix("</w>"): i for i, word in self.decoder.items()}
        return [known.get(word, sum(map(ord, word)) % 62) for word in text.split()]

    def decode(self, ids: list[int]) -> str:
        return " ".join(self.decoder[i].removesuffix("</w>") for i in ids)


def random_open_clip(**shape: Any) -> Any:
    torch.manual_seed(0)  # open_clip takes no generator
    return rough(CLIP(**open_clip_config(**shape)))


@cache
def open_clip_tokenizer() -> Any:
    """CLIP's own, which pads to all 77 positions."""
    return open_clip.get_tokenizer("ViT-B-32")


def with_open_clip(name: str, model: Any) -> Adapted:
    tokenizer = open_clip_tokenizer()
    return Adapted(
        load_clip(name, device="cpu"),
        lambda prompts: model.encode_text(tokenizer(prompts), normalize=True),
        lambda pixels: model.encode_image(pixels, normalize=True),
        name,
    )


def saved_folder(folder: Path, **shape: Any) -> tuple[Any, Path]:
    """A random model in a folder as open_clip writes it for the hub."""
    model = random_open_clip(**shape)
    set_model_preprocess_cfg(model, asdict(PreprocessCfg(size=32)))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    save_config_for_hf(model, folder / "open_clip_config.json", open_clip_config(**shape))
    return model, folder


@pytest.fixture(scope="session")
def picturebook() -> Clip:
    return load_clip("picturebook", device="cpu")


@pytest.fixture(scope="session")
def picturebook_bundle(picturebook: Clip) -> ModelBundle:
    return load_bundle(picturebook)


@pytest.fixture(scope="session")
def inverter(picturebook_bundle: ModelBundle) -> Inverter:
    return Inverter(picturebook_bundle)


@pytest.fixture(scope="session")
def picturebook_lexicon(picturebook_bundle: ModelBundle) -> Lexicon:
    return picturebook_bundle.lexicon


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """Held-out scenes."""
    return [to_pil_image(picture) for picture in render(draw_scenes(3, 7, "held-out"))]


@pytest.fixture(scope="session")
def vit_b_32(tmp_path_factory: pytest.TempPathFactory) -> Adapted:
    """open_clip's ViT-B-32 at its full width, random and three layers deep, through a checkpoint file."""
    folder = tmp_path_factory.mktemp("checkpoints")
    config = open_clip.get_model_config("ViT-B-32") or {}
    config["vision_cfg"]["layers"] = config["text_cfg"]["layers"] = 3
    (folder / "ViT-B-32-shallow.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / "ViT-B-32-shallow.json")
    torch.manual_seed(0)
    model = rough(open_clip.create_model("ViT-B-32-shallow"))
    path = folder / "random.pt"
    torch.save(model.state_dict(), path)
    adapted = with_open_clip(f"ViT-B-32-shallow/{path}", model)
    path.unlink()  # 300 MB
    return adapted


@pytest.fixture(scope="session")
def transformers_clip(tmp_path_factory: pytest.TempPathFactory) -> Adapted:
    """A small CLIPModel with its tokenizer and image processor, through save_pretrained."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    from invert.picturebook.text_encoder import tokenizer

    torch.manual_seed(0)  # transformers takes no generator
    text = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 3}
    text |= {"vocab_size": VOCAB, "bos_token_id": VOCAB - 2, "eos_token_id": VOCAB - 1, "hidden_act": "quick_gelu"}
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 32, "patch_size": 16}
    model = rough(CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)))
    folder = tmp_path_factory.mktemp("transformers-clip")
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    encode = open_clip_tokenizer()

    def encode_text(prompts: list[str]) -> Tensor:
        pooled = model.text_model(input_ids=encode(prompts)).pooler_output
        return F.normalize(model.text_projection(pooled), dim=-1)

    def encode_image(pixels: Tensor) -> Tensor:
        pooled = model.vision_model(pixel_values=pixels).pooler_output
        return F.normalize(model.visual_projection(pooled), dim=-1)

    return Adapted(load_clip(str(folder), device="cpu"), encode_text, encode_image, str(folder))


@pytest.fixture(scope="session", params=["picturebook", "ViT-B-32", "like ViT-L-14", "like ViT-H-14", "transformers"])
def adapted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Adapted:
    """Every adapter in turn. ViT-L-14's activation is OpenAI's quick GELU, ViT-H-14's the exact one."""
    match request.param:
        case "picturebook":
            from invert.picturebook import models

            return with_open_clip("picturebook", models.load("clip"))
        case "ViT-B-32":
            return request.getfixturevalue("vit_b_32")
        case "like ViT-L-14":
            model, folder = saved_folder(tmp_path_factory.mktemp("l"), width=96, heads=12, layers=12, quick_gelu=True)
        case "like ViT-H-14":
            model, folder = saved_folder(tmp_path_factory.mktemp("h"), width=128, heads=16, layers=4, quick_gelu=False)
        case _:
            return request.getfixturevalue("transformers_clip")
    return with_open_clip(str(folder), model)


@pytest.fixture(scope="session")
def tiny_clip() -> Clip:
    """Two layers of width 16 over 64 tokens, in float64: small enough for numerical gradients."""
    from invert.models.open_clip import from_open_clip

    model = random_open_clip(width=16, heads=2, layers=2, quick_gelu=True, vocab=64).double()
    return from_open_clip("tiny", model, open_clip.image_transform(32, is_train=False), tokenizer=ToyTokenizer())


@pytest.fixture(scope="session")
def toy_clip(tiny_clip: Clip) -> Clip:
    """The tiny model, by the name that tests of search know it by."""
    return copy.copy(tiny_clip)


@pytest.fixture(scope="session")
def toy_bundle(toy_clip: Clip, tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    """The toy model with 62 words w0…w61, each a token, and no corpus."""
    words = tuple(Word(f"w{i}", (i,)) for i in range(62))
    bundle = ModelBundle("toy", toy_clip, Lexicon(words, ENGLISH_FUNCTION_WORDS, toy_clip.tokenizer.encode))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INVERT_CACHE", str(tmp_path_factory.mktemp("cache")))
        assert bundle.token_index.no_word_distance > 0  # makes the index here and not in the user's cache
    return bundle


@pytest.fixture(scope="session")
def toy_target(toy_clip: Clip) -> Tensor:
    """The latent of the hidden prompt "w7 w21 w40"."""
    rows = toy_clip.embed(torch.tensor([toy_clip.frame.row([7, 21, 40])]))
    return toy_clip.encode_embeddings(rows)[0].float()


@pytest.fixture(scope="session")
def found() -> Result:
    """A complete result with two stages in its history, two prompts, and a soft token without a word."""
    return Result(
        prompt="a fox",
        score=0.6,
        tokens=[Token("a", 1), Token("fox", 2)],
        history=[
            HistoryEntry("soft", 0, 0.2),
            HistoryEntry("soft", 1, 0.4),
            HistoryEntry("search", 0, 0.5, "a fox"),
            HistoryEntry("search", 1, 0.6),
        ],
        alternatives=[("a fox", 0.6), ("two owls", 0.55)],
        method="invert",
        model="picturebook",
        seed=0,
        seconds=1.25,
        forward_tokens=100,
        backward_tokens=50,
        image_passes=1,
        soft_tokens=[SoftToken("fox-owl", 0.1, True), SoftToken("umbrella", 9.0, False)],
        concepts=[ConceptWords(("fox", "wolf"), 0.5)],
    )
