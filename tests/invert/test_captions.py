"""Captions as starts: of a model of transformers, of an endpoint on this machine, of the text beside a picture."""

from __future__ import annotations

import json
import shutil
import sys
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import invert.cli
from invert.bundle import ModelBundle
from invert.caption_api import CaptionApi
from invert.captioning import Captioners
from invert.captions import Captioned, WordGain, load_captioner, sentences, sidecar_caption, word_gains
from invert.errors import InputError
from invert.images.addresses import DownloadLimits
from invert.inverter import Inverter
from invert.languages import Languages
from invert.models.clip import Clip
from invert.report import captions
from invert.result import Result
from tests.invert.diffusion.image_server import PATIENT, Server, send, serving
from tests.invert.hub_server import hub_of

KEY = "INVERT_CAPTION_KEY"
FAST = {"soft_steps": 2, "restarts": 1, "tokens": 4, "max_tokens": 8, "seed": 0}


def answer(text: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": text}}]}


@pytest.fixture
def server() -> Any:
    with serving(Server()) as running:
        running.answer = lambda handler: send(handler, answer("w7 w21. w40!"))
        yield running


@pytest.fixture
def toy(toy_bundle: ModelBundle) -> Inverter:
    """The toy model with a corpus that names nothing of the captions."""
    return Inverter(toy_bundle.with_(corpus=["w1 w2", "w3"]))


@pytest.fixture
def picture() -> Image.Image:
    return Image.new("RGB", (40, 30), "teal")


# Captioners ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random BLIP with a tokenizer of twelve words, saved as transformers saves one."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[DEC]", *(f"w{i}" for i in range(11))]
    inner = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    inner.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", bos_token="[DEC]"
    )
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**small, "encoder_hidden_size": 16, "vocab_size": len(words), "bos_token_id": 4, "eos_token_id": 2}
    text |= {"pad_token_id": 0, "sep_token_id": 3, "max_position_embeddings": 80}
    vision = {**small, "image_size": 32, "patch_size": 16}
    torch.manual_seed(0)  # transformers takes no generator
    model = BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config=vision))
    folder = tmp_path_factory.mktemp("blip")
    model.save_pretrained(folder)
    BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)
    return folder


def test_a_model_of_transformers_captions_through_the_real_loader(blip: Path, picture: Image.Image) -> None:
    captioner = load_captioner(str(blip), None, torch.device("cpu"))
    first, again = captioner([picture, picture])
    assert first == again and first and set(first.split()) <= {f"w{i}" for i in range(11)}


def test_a_captioner_in_half_precision_alone_is_read_from_the_hub(blip: Path, tmp_path: Path, picture: Image.Image) -> None:
    folder = Path(shutil.copytree(blip, tmp_path / "half"))
    (folder / "model.safetensors").rename(folder / "model.fp16.safetensors")
    with hub_of(folder, tmp_path / "cache"):
        captioner = load_captioner("hf:me/half", None, torch.device("cpu"))
    assert captioner([picture]) == load_captioner(str(blip), None, torch.device("cpu"))([picture])


@pytest.mark.parametrize(
    ("dtype", "sentence"), [(torch.float16, 'float16 overflows in the captioner .*: take `dtype="bfloat16"`$'), (None, None)]
)
def test_a_captioner_that_overflows_says_so(
    blip: Path, tmp_path: Path, picture: Image.Image, dtype: torch.dtype | None, sentence: str | None
) -> None:
    folder = Path(shutil.copytree(blip, tmp_path / "large"))
    state = load_file(folder / "model.safetensors")
    key = "text_decoder.cls.predictions.transform.dense.weight"
    save_file(state | {key: 6e4 * torch.eye(16)}, folder / "model.safetensors", {"format": "pt"})
    captioner = load_captioner(str(folder), None, torch.device("cpu"), dtype)
    with pytest.raises(InputError, match=sentence) if sentence else nullcontext():
        captioner([picture])


def test_an_image_encoder_with_a_language_model_captions(blip: Path, tmp_path: Path, picture: Image.Image) -> None:
    """As ViT-GPT-2, which is published without a processor: an image processor and a tokenizer lie beside it."""
    from transformers import AutoTokenizer, GPT2Config, VisionEncoderDecoderConfig, ViTConfig, ViTImageProcessor
    from transformers import VisionEncoderDecoderModel as Model

    eyes = ViTConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=16
    )
    voice = GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=16, bos_token_id=4, eos_token_id=2, pad_token_id=0)
    torch.manual_seed(1)  # transformers takes no generator
    model = Model(VisionEncoderDecoderConfig.from_encoder_decoder_configs(eyes, voice))
    model.generation_config.update(decoder_start_token_id=4, eos_token_id=2, pad_token_id=0)
    for part in (model, ViTImageProcessor(size={"height": 32, "width": 32}), AutoTokenizer.from_pretrained(blip)):
        part.save_pretrained(tmp_path)
    (text,) = load_captioner(str(tmp_path), None, torch.device("cpu"))([picture])
    assert text and set(text.split()) <= {f"w{i}" for i in range(11)}


def test_on_a_gpu_captioners_and_language_models_have_the_type_that_was_chosen() -> None:
    for kind in (Captioners, Languages):
        assert kind(torch.device("cuda"), torch.bfloat16).dtype == torch.bfloat16
        assert kind(torch.device("cpu"), torch.bfloat16).dtype is None


def test_a_caption_of_a_model_becomes_a_start(blip: Path, toy: Inverter, picture: Image.Image) -> None:
    result = toy.invert(picture, caption=str(blip), **FAST)
    assert result.captions and result.captions[0].text and len(toy.captioners._loaded) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "model.safetensors").write_bytes(b"no weights"), "is damaged or incomplete"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "gpt2"}'), "of type 'gpt2', captions no pictures"),
        (lambda folder: (folder / "config.json").unlink(), "config.json of the model"),
    ],
)
def test_a_captioner_that_does_not_load_is_one_sentence(blip: Path, tmp_path: Path, change: Any, message: str) -> None:
    shutil.copytree(blip, tmp_path, dirs_exist_ok=True)
    change(tmp_path)
    with pytest.raises(InputError, match=message) as error:
        load_captioner(str(tmp_path), None, torch.device("cpu"))
    assert "\n" not in str(error.value)


def test_an_endpoint_is_asked_with_the_picture_and_the_key(
    server: Server, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY, "sk-secret")
    assert CaptionApi(server.url, "see-1", PATIENT)([picture]) == ["w7 w21. w40!"]
    (asked,) = server.asked
    question, image = asked["messages"][0]["content"]
    assert asked["path"] == "/v1/chat/completions" and asked["model"] == "see-1" and question["type"] == "text"
    assert image["image_url"]["url"].startswith("data:image/jpeg;base64,/9j/")
    assert server.headers["Authorization"] == "Bearer sk-secret"


def test_an_answer_in_parts_is_read(server: Server, picture: Image.Image) -> None:
    server.answer = lambda handler: send(handler, answer([{"type": "text", "text": "a fox"}]))
    assert CaptionApi(server.url, None, PATIENT)([picture]) == ["a fox"]


@pytest.mark.parametrize(
    ("reply", "status", "message"),
    [
        ({"error": {"message": "no"}}, 401, "asks for a key (401): set INVERT_CAPTION_KEY"),
        ({"error": {"message": "slow down"}}, 429, "takes no more requests for now (429) (slow down)"),
        ({"error": {"message": "broken"}}, 500, "fails (500) (broken): try again later"),
        ({"error": {"message": "no such model"}}, 404, "or not that `caption_model` (404) (no such model)"),
        ({"error": {"message": "no pictures"}}, 400, "refuses the request (400) (no pictures): check `caption_model`"),
        (b"<html>", 200, "answers with no caption"),
        ({"choices": [{"message": {"content": " "}}]}, 200, "answers with no caption"),
        ({"choices": []}, 200, "answers with no caption"),
        ([[[1]]], 200, "answers with no caption"),
    ],
)
def test_refusals_and_nonsense_are_one_sentence(
    server: Server, picture: Image.Image, reply: Any, status: int, message: str
) -> None:
    server.answer = lambda handler: send(handler, reply, status, Retry_After="100")  # longer than anybody waits
    with pytest.raises(InputError) as error:
        CaptionApi(server.url, None, PATIENT)([picture])
    assert message in str(error.value) and "\n" not in str(error.value)


def test_an_endpoint_that_is_slow_or_down_is_one_sentence(server: Server, picture: Image.Image) -> None:
    left = threading.Event()
    server.answer = lambda handler: left.wait(600) and None
    with pytest.raises(InputError, match=r"brings no caption: it took more than 0\.2 seconds"):
        CaptionApi(server.url, None, DownloadLimits(seconds=0.2))([picture])
    left.set()
    with pytest.raises(InputError, match="brings no caption: its server refuses the connection"):
        CaptionApi("http://127.0.0.1:9", None, PATIENT)([picture])


def test_the_text_beside_a_picture_is_its_caption(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.txt").write_text("a fox\n")
    (tmp_path / "b.png.txt").write_text("an owl")
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\x00")
    assert sidecar_caption(tmp_path / "a.png") == "a fox\n" and sidecar_caption(str(tmp_path / "b.png")) == "an owl"
    assert sidecar_caption(tmp_path / "c.png") == "" and "has no caption beside it" in caplog.text
    with pytest.raises(InputError, match="is no text: save it in UTF-8"):
        sidecar_caption(tmp_path / "bad.png")
    with pytest.raises(InputError, match="give a path"):
        sidecar_caption(Image.new("RGB", (2, 2)))


def test_a_caption_is_cut_into_sentences_without_marks() -> None:
    text = "The image shows \"a fox\". It sits on a half-open door!\nIt's red. It's red."
    assert sentences(text) == ("The image shows a fox", "It sits on a half-open door", "It's red")
    assert sentences(" \n … ") == ()


# In a search --------------------------------------------------------------------------------------


def test_what_a_word_earned_is_the_difference_to_the_prompt_without_it(toy_clip: Clip, toy_target: torch.Tensor) -> None:
    gains, positions = word_gains(toy_clip, "w7 w21 w40", toy_target)
    without = toy_clip.encode_text(["w7 w21 w40", "w21 w40"]).float() @ toy_target
    assert [gain.word for gain in gains] == ["w7", "w21", "w40"] and positions == 5 + 3 * 4
    assert gains[0].gain == pytest.approx(float(without[0] - without[1]), abs=1e-6)


def test_a_caption_is_scored_shortened_and_repaired(toy: Inverter, picture: Image.Image) -> None:
    without = toy.invert(picture, **FAST)
    best = without.prompt
    result = toy.invert(picture, caption=lambda images: [f"{best} w5 w6. w9"], **FAST)
    assert result.score >= without.score - 1e-6 or result.prompt == best
    first, second = result.captions
    assert first.text == f"{best} w5 w6" and second.text == "w9"
    assert len(first.shortened.split()) < len(first.text.split()) and first.shortened_score >= first.score
    assert [gain.word for gain in result.words] == result.prompt.split()
    shown = json.loads(json.dumps(result.to_json()))
    assert shown["captions"][0]["words"][0]["word"] == first.words[0].word and shown["words"]


def test_without_a_caption_nothing_is_said_of_one(toy: Inverter, picture: Image.Image) -> None:
    assert not {"captions", "words"} & toy.invert(picture, **FAST).to_json().keys()


def test_only_methods_that_start_from_prompts_take_a_caption(toy: Inverter, picture: Image.Image) -> None:
    with pytest.raises(InputError, match="'pez' cannot follow `caption`"):
        toy.invert(picture, method="pez", caption=lambda images: ["w1"])
    with pytest.raises(InputError, match="there is only a text"):
        toy.distill("w1 w2", caption="sidecar")


def test_the_report_shows_what_each_word_earned(found: Result) -> None:
    from dataclasses import replace

    one = Captioned("a <fox>", 0.4, "a", 0.5, (WordGain("a", -0.1), WordGain("<fox>", 0.2)))
    page = captions(replace(found, captions=[one], words=(WordGain("fox", 0.3),)))
    assert '<span class="none">a</span>' in page and "&lt;fox&gt;" in page and "+0.300" in page and "shortened" in page
    assert captions(found) == ""


# On the command line ------------------------------------------------------------------------------


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["invert", *map(str, words)])
    with pytest.raises(SystemExit) as exit:
        invert.cli.main()
    return int(exit.value.code or 0)


@pytest.fixture
def command(toy: Inverter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Runs the command on pictures a.png and b.png, of which a has a text beside it, with the toy model."""
    monkeypatch.setattr(Inverter, "load", lambda *_, **__: toy)
    for name in "ab":
        Image.new("RGB", (32, 32), "teal").save(tmp_path / f"{name}.png")
    (tmp_path / "a.txt").write_text("w7 w21")
    options = [f"--{name.replace('_', '-')}={value}" for name, value in FAST.items()]
    return lambda *words: run(monkeypatch, *words, *options)


def test_the_command_takes_captions_from_an_endpoint(command: Any, server: Server, tmp_path: Path, capsys: Any) -> None:
    assert command(tmp_path / "b.png", "--caption", server.url, "--json", "--report", tmp_path / "page.html") == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["text"] for one in found["captions"]] == ["w7 w21", "w40"]
    assert "From the caption to the prompt" in (tmp_path / "page.html").read_text()


def test_the_command_reads_sidecars_and_says_where_there_are_none(command: Any, tmp_path: Path, capsys: Any) -> None:
    assert command(tmp_path / "a.png", tmp_path / "b.png", "--caption", "sidecar", "--json") == 0
    said = capsys.readouterr()
    assert ["captions" in json.loads(line) for line in said.out.splitlines()] == [True, False]
    assert "b.png has no caption beside it" in said.err


def test_a_run_over_a_folder_reads_sidecars(command: Any, tmp_path: Path, capsys: Any) -> None:
    assert command("run", tmp_path, "--out", tmp_path / "out", "--caption", "sidecar") == 0
    said = capsys.readouterr().err
    assert "b.png has no caption beside it" in said and "a.png has no caption" not in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--caption", "nowhere"], "--caption 'nowhere' is no folder"),
        (["--caption", ""], "--caption is empty"),
        (["--caption-model", "x"], "--caption-model names a model of a caption endpoint"),
        (["--caption", "ftp://example.com"], "ftp://example.com is no web address"),
    ],
)
def test_captioners_that_cannot_be_are_refused_before_anything_is_loaded(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    monkeypatch.setattr(Inverter, "load", lambda *_, **__: pytest.fail("a model was loaded"))
    assert run(monkeypatch, tmp_path / "a.png", *words) == 2
    assert message in capsys.readouterr().err


def test_a_run_does_not_write_over_the_texts_that_it_reads(command: Any, tmp_path: Path, capsys: Any) -> None:
    assert command("run", tmp_path, "--sidecar", "--existing", "overwrite", "--caption", "sidecar") == 2
    assert "--sidecar would change the texts" in capsys.readouterr().err
