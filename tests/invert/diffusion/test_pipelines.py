"""Pipelines that read more than CLIP: prompts are drawn as the pipeline itself draws them, and what cannot be is said."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import AutoPipelineForText2Image
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor

import invert.diffusion.pipelines
from invert.bundle import ModelBundle
from invert.diffusion.drawing import BLACK, OVERFLOWED, WITHHELD, Drawn, TextToImage, checked, open_generator
from invert.diffusion.loading import default_dtype
from invert.diffusion.options import DrawingOptions
from invert.diffusion.pipelines import PromptPipeline
from invert.diffusion.roundtrip import RoundTrip
from invert.errors import InputError
from invert.inverter import Inverter
from invert.methods.denoiser import load_generator
from invert.models.clip import Clip
from invert.models.loading import load_clip
from invert.models.turns import Turns
from invert.result import Result
from tests.invert.diffusion.conftest import run
from tests.invert.diffusion.families import FAMILIES, small_pipeline

FAST = DrawingOptions(steps=2, size="32x32")
QUICK = ("--method", "nearest", "--restarts", 1, "--soft-steps", 1, "--tokens", 4, "--steps", 2, "--size", "32x32")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A saved folder of each family."""
    found = {family: tmp_path_factory.mktemp("families") / family for family in FAMILIES}
    for family, folder in found.items():
        small_pipeline(family).save_pretrained(folder)
    return found


@pytest.fixture(scope="module")
def opened(folders: dict[str, Path]) -> dict[str, Any]:
    return {family: open_generator(str(folder), "cpu") for family, folder in folders.items()}


@pytest.fixture(autouse=True)
def loaded_once(monkeypatch: pytest.MonkeyPatch, inverter: Inverter) -> None:
    """The command takes the model that other tests have loaded; generators are really loaded."""
    monkeypatch.setattr(Inverter, "load", lambda *_, **__: inverter)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_image_is_what_the_pipeline_itself_draws(opened: dict[str, Any], family: str) -> None:
    generator = opened[family]
    assert isinstance(generator, PromptPipeline) and not generator.reads_clip
    ours = [drawn.image for drawn in generator.draw(["a fox", "two owls"], [3, 4], FAST)]
    assert len(ours) == 4 and all(image.shape == (3, 32, 32) for image in ours)
    beside = {"negative_prompt": " ", "true_cfg_scale": 4.0} if family == "Qwen-Image" else {}
    theirs = generator.pipeline(
        "two owls", num_inference_steps=2, width=32, height=32, generator=torch.Generator().manual_seed(4), output_type="pt",
        **beside,
    ).images[0]  # fmt: skip
    torch.testing.assert_close(ours[3], theirs.float())
    assert (ours[2] - ours[3]).abs().max() > 1e-2 and not torch.equal(ours[0], ours[2])


@pytest.mark.parametrize("family", FAMILIES)
def test_guidance_and_steps_matter(opened: dict[str, Any], family: str) -> None:
    def drawn(**more: Any) -> torch.Tensor:
        options = DrawingOptions(**{"size": "32x32", "steps": 2, **more})
        return next(opened[family].draw(["a fox"], [0], options)).image

    assert not torch.equal(drawn(), drawn(steps=3))
    assert not torch.equal(drawn(), drawn(guidance=9.0))


@pytest.mark.parametrize(
    "family", ["FLUX", *(pytest.param(other, marks=pytest.mark.long) for other in FAMILIES if other != "FLUX")]
)
def test_the_command_draws_the_prompt_and_says_that_the_soft_one_cannot_be(
    monkeypatch: pytest.MonkeyPatch,
    folders: dict[str, Path],
    family: str,
    picture: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = tmp_path / "page.html"
    drawing = ("--generate", 2, "--generator", folders[family], "--report", page, "--json")
    assert run(monkeypatch, picture, *QUICK, *drawing) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert [image["seed"] for image in result["drawn"]] == [0, 1] and "soft_drawn" not in result
    assert len(err.splitlines()) == 1 and "draws from texts alone" in err
    text = page.read_text()
    assert text.count("<figure>") == 2 and "the soft prompt is not drawn" in text


def test_the_generator_chooses_among_prompts(
    monkeypatch: pytest.MonkeyPatch, folders: dict[str, Path], picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (
        "--select",
        "generator",
        "--generate",
        1,
        "--method",
        "retrieve",
        "--top",
        3,
        "--steps",
        2,
        "--size",
        "32x32",
        "--json",
    )
    assert run(monkeypatch, picture, *words, "--generator", folders["Stable Diffusion 3"]) == 0
    result = json.loads(capsys.readouterr().out)
    prompts = [alternative["prompt"] for alternative in result["alternatives"]]
    assert len(prompts) == 3 and result["prompt"] == prompts[0] and len(result["drawn"]) == 1
    drawing = round_trip(open_generator(str(folders["Stable Diffusion 3"]), "cpu"))
    judged = [image.judge for image in drawing.rated(prompts, Image.open(picture))]
    assert judged == sorted(judged, reverse=True) and judged[0] > judged[2]


@pytest.mark.parametrize("method", ["ph2p", "textual-inversion"])
def test_methods_that_learn_through_a_u_net_say_that_they_cannot(
    monkeypatch: pytest.MonkeyPatch, folders: dict[str, Path], method: str, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, picture, "--method", method, "--generator", folders["FLUX"]) == 2
    out, err = capsys.readouterr()
    (said,) = (line for line in err.splitlines() if not line.startswith("invert: note:"))
    assert out == "" and f"the method {method!r} learns through CLIP and the U-Net" in said and "--generator" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--steps", 2), "--steps is of drawn images"),
        (("--generate", 1, "--json", "--steps", 0), "--steps is 0"),
        (("--generate", 1, "--json", "--guidance", "nan"), "--guidance is nan"),
        (("--generate", 1, "--json", "--size", "huge"), "WIDTHxHEIGHT"),
        (("--generate", 1, "--json", "--size", "99999x1"), "WIDTHxHEIGHT"),
        (("--generate", 1, "--json", "--generator-model", " "), "--generator-model is empty"),
        (("--generate", 1, "--json", "--generator-model", "one"), "takes no --generator-model"),
    ],
)
def test_options_that_make_no_sense_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, words: tuple[object, ...], message: str, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, picture, *words) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and message in err


def test_an_option_that_the_pipeline_refuses_costs_no_prompt(
    monkeypatch: pytest.MonkeyPatch, folders: dict[str, Path], picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--method", "retrieve", "--generate", 1, "--json", "--size", "33x33")
    words += ("--generator", folders["Stable Diffusion 3"])
    assert run(monkeypatch, picture, *words) == 2
    out, err = capsys.readouterr()
    assert json.loads(out)["prompt"] and "divisible by 2" in err and "refuses to draw" in err


def round_trip(generator: TextToImage, seeds: tuple[int, ...] = (0,)) -> RoundTrip:
    return RoundTrip(generator, load_clip("picturebook-judge", "cpu"), seeds, lambda _: [], "it takes none", FAST)


class Rigid:
    """A pipeline whose call takes a prompt and noise, and nothing more."""

    def __call__(self, prompt: str, generator: Any = None, output_type: str = "pil") -> Any:
        return SimpleNamespace(images=[Image.new("RGB", (8, 8), (51, 102, 255))], nsfw_detected=[False])


class Filming(Rigid):
    def __call__(self, prompt: str, generator: Any = None, output_type: str = "pil") -> Any:
        return SimpleNamespace(frames=[])


def test_only_what_a_pipeline_takes_is_passed_to_it() -> None:
    generator = PromptPipeline(Rigid(), "rigid")
    (drawn,) = generator.draw(["a fox"], [0])
    torch.testing.assert_close(drawn.image[:, 0, 0], torch.tensor([0.2, 0.4, 1.0]))
    for option in ({"steps": 2}, {"guidance": 2.0}, {"size": "8x8"}):
        with pytest.raises(InputError, match=rf"takes no `{next(iter(option))}`"):
            generator.check(DrawingOptions(**option))


def test_a_pipeline_that_draws_no_image_is_one_sentence() -> None:
    with pytest.raises(InputError, match="drew no image"):
        list(PromptPipeline(Filming(), "film").draw(["a fox"], [0]))
    with pytest.raises(InputError, match="draws from a prompt alone"):
        PromptPipeline(SimpleNamespace(), "nothing")


def test_large_pipelines_are_not_loaded_in_float16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    kinds = ("StableDiffusionXLPipeline", "StableDiffusion3Pipeline", "FluxPipeline")
    halves = [default_dtype(kind, torch.device("cuda")) for kind in kinds]
    assert halves == [torch.float16, torch.bfloat16, torch.bfloat16]
    assert default_dtype("FluxPipeline", torch.device("cpu")) == torch.float32


def test_a_pipeline_takes_the_half_precision_of_the_model(folders: dict[str, Path], picturebook_bundle: ModelBundle) -> None:
    for dtype, wanted in ((torch.bfloat16, torch.bfloat16), (torch.float64, torch.float32)):
        clip = SimpleNamespace(name="any", device=torch.device("cpu"), dtype=dtype, chosen_dtype=None, turns=None)
        bundle = replace(picturebook_bundle)
        object.__setattr__(bundle, "clip", clip)
        generator: Any = load_generator(bundle, str(folders["FLUX"]))
        assert generator.pipeline.transformer.dtype == wanted
        (drawn,) = generator.draw(["a fox"], [0], FAST)
        assert drawn.image.dtype == torch.float32 and drawn.problem == ""


class OnCard:
    """A pipeline that only remembers where and as what it was loaded."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype, self.components = dtype, {}

    def __call__(self, prompt: str) -> None:
        """Draws nothing."""

    def set_progress_bar_config(self, **_: Any) -> None:
        """Has no bar."""

    def to(self, device: torch.device) -> OnCard:
        self.place = device
        return self


@pytest.mark.parametrize(
    ("chosen", "wanted"),
    [(None, torch.bfloat16), ("float32", torch.float32), ("float16", torch.float16), ("bfloat16", torch.bfloat16)],
)
@pytest.mark.parametrize("low_memory", [False, True])
def test_a_chosen_dtype_reaches_a_pipeline_on_a_card(
    monkeypatch: pytest.MonkeyPatch,
    folders: dict[str, Path],
    picturebook_bundle: ModelBundle,
    chosen: str | None,
    wanted: torch.dtype,
    low_memory: bool,
) -> None:
    """Without a card: everything is real but the card and what diffusers would put on it."""
    clip = load_clip("picturebook", "cpu", chosen, turns=Turns() if low_memory else None)
    monkeypatch.setattr(Clip, "device", torch.device("cuda"))
    monkeypatch.setattr(invert.diffusion.pipelines, "pick_device", torch.device)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    read = lambda name, torch_dtype, local_files_only: OnCard(torch_dtype)  # noqa: E731
    monkeypatch.setattr(AutoPipelineForText2Image, "from_pretrained", read)
    generator: Any = load_generator(replace(picturebook_bundle, clip=clip), str(folders["FLUX"]))
    assert (generator.pipeline.dtype, generator.pipeline.place) == (wanted, torch.device("cuda"))


def test_what_is_wrong_with_an_image_is_told() -> None:
    gray = torch.full((3, 4, 4), 0.5)
    broken = gray.clone()
    broken[0, 0, 0] = torch.nan
    assert checked(gray).problem == ""
    assert checked(torch.zeros(3, 4, 4)).problem == BLACK
    assert checked(broken).problem == OVERFLOWED and not checked(broken).image.any()
    assert checked(torch.zeros(3, 4, 4), withheld=True).problem == WITHHELD


@pytest.fixture(scope="module")
def strict_folder(picturebook_reader: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion whose safety checker finds fault with everything."""
    from diffusers import StableDiffusionPipeline

    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(vision_config=vision | {"image_size": 16, "patch_size": 8}, projection_dim=16)
    checker = StableDiffusionSafetyChecker(config)
    with torch.no_grad():
        checker.concept_embeds_weights.fill_(-1)  # a similarity that everything exceeds
    pipeline = StableDiffusionPipeline.from_pretrained(
        picturebook_reader,
        safety_checker=checker,
        feature_extractor=CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
    )
    folder = tmp_path_factory.mktemp("pipelines") / "strict"
    pipeline.save_pretrained(folder)
    return folder


def test_pictures_that_the_safety_checker_withholds_are_told(
    monkeypatch: pytest.MonkeyPatch, strict_folder: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    words = ("--method", "retrieve", "--generate", 2, "--steps", 1, "--report", page, "--json", "--generator", strict_folder)
    assert run(monkeypatch, picture, *words) == 0
    out, err = capsys.readouterr()
    assert [image["problem"] for image in json.loads(out)["drawn"]] == [WITHHELD] * 2
    assert f"2 of 2 images by '{strict_folder}': {WITHHELD}" in err
    assert page.read_text().count(f"<figcaption>{WITHHELD}") == 2


class Painter:
    """Draws a prompt as a flat color, "black" withheld; from the third image on it fails."""

    name, reads_clip = "painter", False

    def __init__(self, fails_after: int = 100, failure: BaseException | None = None) -> None:
        self.left, self.failure = fails_after, failure or InputError("the paint is used up")

    def check(self, options: DrawingOptions) -> None:
        """It takes all."""

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], options: DrawingOptions | None = None) -> Iterator[Drawn]:
        for prompt in prompts:
            for _ in seeds:
                if self.left == 0:
                    raise self.failure
                self.left -= 1
                side = 16 if prompt == "teal" else 8  # sizes may differ
                rgb = {"black": (0.0, 0.0, 0.0), "teal": (0.0, 0.5, 0.5)}.get(prompt, (1.0, 0.0, 0.0))
                yield checked(torch.tensor(rgb)[:, None, None].expand(3, side, side))


def test_images_that_show_nothing_do_not_count_and_sizes_may_differ(found: Result) -> None:
    result = replace(found, alternatives=[("black", 0.9), ("red", 0.8), ("teal", 0.7)])
    chosen = round_trip(Painter(), (0, 1)).choose(result, Image.new("RGB", (64, 64), "teal"))
    assert [prompt for prompt, _ in chosen.alternatives] == ["teal", "red", "black"]


def test_images_that_were_there_before_an_error_are_kept(found: Result) -> None:
    told: list[Exception] = []
    result = round_trip(Painter(fails_after=1), (0, 1)).draw(found, Image.new("RGB", (64, 64), "teal"), told.append)
    assert [image.seed for image in result.drawn] == [0] and result.drawn[0].judge < 1
    assert [str(error) for error in told] == ["the paint is used up"]


def test_images_that_were_there_before_an_interrupt_are_kept(found: Result) -> None:
    told: list[Exception] = []
    painter = Painter(fails_after=1, failure=KeyboardInterrupt())
    result = round_trip(painter, (0, 1)).draw(found, Image.new("RGB", (64, 64), "teal"), told.append)
    assert len(result.drawn) == 1 and result.interrupted and told == []
