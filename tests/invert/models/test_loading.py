"""Whatever is wrong with a model's name or files is one sentence that says what, and what to do."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from invert.errors import InputError
from invert.models import hub
from invert.models.loading import load_clip
from invert.models.open_clip import from_open_clip
from invert.models.open_clip_kinds import unsupported_kind
from invert.models.transformers import from_transformers
from invert.models.turns import Turns
from tests.invert.conftest import saved_folder
from tests.invert.models.conftest import refusal

TOWER = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on a machine without network: nothing answers at the hub's address."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")


@pytest.mark.parametrize("name", ["ViT-L-14/openai", "ViT-H-14/laion2b_s32b_b79k", "hf:invert-tests/not-in-any-cache"])
def test_weights_that_cannot_be_reached_get_one_sentence_that_says_how_to_get_them(no_network: None, name: str) -> None:
    message = refusal(name)
    assert "cannot be reached" in message and '`model="picturebook"`' in message


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("ViT-B-16-SigLIP/webli", "timm/ViT-B-16-SigLIP"),
        ("ViT-B-16-SigLIP2/webli", "timm/ViT-B-16-SigLIP2"),
        ("ViT-L-14-CLIPA/datacomp1b", "bert-base-uncased"),
        ("ViT-H-14-worldwide/metaclip2_worldwide", "facebook/xlm-v-base"),
    ],
)
def test_a_tokenizer_that_cannot_be_reached_is_named_and_not_the_weights(no_network: None, name: str, repository: str) -> None:
    message = refusal(name)
    assert f"the tokenizer of {name!r} cannot be reached: download {repository} " in message and "weights" not in message


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("picturbook", "did you mean picturebook"),
        ("ViT-L-14/openia", "did you mean ViT-L-14/openai"),
        ("ViT-L-14/weights/missing.pt", "no checkpoint file 'weights/missing.pt'"),
        ("./no/such/folder", "no model folder"),
        ("", "unknown model"),
        ("x" * 300, "unknown model"),
        ("coca_ViT-B-32/laion2b_s13b_b90k", "a CoCa, which is not supported"),
        ("xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k", "the text tower xlm-roberta-base, which is not supported"),
        (
            "nllb-clip-base-siglip/v1",
            "the text tower facebook/nllb-200-distilled-600M, which is not supported: give a CLIP, SigLIP",
        ),
    ],
)
def test_an_unknown_or_unsupported_name_is_one_sentence(name: str, problem: str) -> None:
    assert problem in refusal(name)


def test_a_repository_of_another_kind_is_named_before_its_weights_are_looked_for(
    no_network: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "blip"}')
    monkeypatch.setattr("huggingface_hub.snapshot_download", None)
    monkeypatch.setattr(hub, "snapshot_download", lambda *_, **__: tmp_path)
    assert "'blip', which is not supported: give a CLIP" in refusal("hf:Salesforce/blip-itm-base-coco")
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    assert "cannot be reached" in refusal("hf:openai/clip-vit-base-patch32")  # only the small files are cached


def test_local_files_that_are_no_models_are_one_sentence(tmp_path: Path) -> None:
    text = tmp_path / "notes.pt"
    text.write_text("not weights")
    assert "damaged or of another architecture" in refusal(f"ViT-B-32/{text}")
    assert "does not say of which architecture" in refusal(text)
    assert "holds no config.json" in refusal(tmp_path)


def test_a_tower_alone_is_no_model() -> None:
    from transformers import SiglipVisionConfig, SiglipVisionModel

    alone = SiglipVisionModel(SiglipVisionConfig(**TOWER, image_size=16, patch_size=8))
    with pytest.raises(InputError, match="model type 'siglip_vision_model', which is not supported: give a CLIP, SigLIP"):
        from_transformers("mine", alone, None, None)


@pytest.mark.parametrize(
    "kind",
    [
        "siglip2_text_model",
        "metaclip_2_vision_model",
        "clipseg",
        "blip",
        "align",
        "chinese_clip",
        "clap",
        "altclip",
        "bert",
        "clip_text_model",
        7,
        ["clip"],
    ],
)
def test_every_other_model_type_is_named(copied: Path, kind: object) -> None:
    (copied / "config.json").write_text(json.dumps({"model_type": kind}))
    message = refusal(copied)
    assert f"{kind!r}" in message and "not supported" in message and "ViT-L-14/openai" in message


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"model_type": ', "config.json of the model"),
        (b"\xff\xfe\x00", "cannot be read as JSON"),
        (b"[1, 2]", "holds no settings"),
        (b"{}", "names no `model_type`"),
    ],
)
def test_a_damaged_configuration_is_one_sentence(copied: Path, content: bytes, problem: str) -> None:
    (copied / "config.json").write_bytes(content)
    assert problem in refusal(copied)


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("*token*", "holds no tokenizer: put tokenizer.json, or vocab.json and merges.txt, or *.model into its folder"),
        ("*processor*", "holds no image processor: put preprocessor_config.json"),
        ("*.safetensors", r"holds no weights: put model*.safetensors"),
    ],
)
def test_missing_files_are_named(copied: Path, pattern: str, problem: str) -> None:
    for file in [*copied.glob(pattern), *copied.glob("vocab.json"), *copied.glob("merges.txt")]:
        file.unlink()
    if "token" not in pattern:
        (copied / "tokenizer.json").touch()
    assert problem in refusal(copied)


def edited_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def test_damaged_or_incomplete_weights_are_refused_not_filled_with_random_numbers(copied: Path) -> None:
    whole = (copied / "model.safetensors").read_bytes()
    (copied / "model.safetensors").write_bytes(whole[:1000])
    assert "damaged or incomplete" in refusal(copied)
    (copied / "model.safetensors").write_bytes(whole)
    edited_weights(copied, lambda state: state.pop("text_projection.weight"))
    assert "damaged or incomplete (text_projection.weight)" in refusal(copied)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused(copied: Path, value: float) -> None:
    edited_weights(copied, lambda state: state["text_projection.weight"][0, :1].fill_(value))
    assert "not finite, in text_projection.weight" in refusal(copied)


@pytest.mark.parametrize("turns", [None, Turns()])
def test_layers_that_the_configuration_does_not_have_are_refused(copied: Path, turns: Turns | None) -> None:
    config = json.loads((copied / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] = 2  # of three
    (copied / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"of another architecture \(text_model\.encoder\.layers\.2\."):
        load_clip(str(copied), "cpu", turns=turns)


def test_position_ids_of_older_versions_are_no_other_architecture(copied: Path, transformers_clip) -> None:
    edited_weights(copied, lambda state: state.update({"text_model.embeddings.position_ids": torch.arange(77)[None]}))
    for turns in (None, Turns()):
        found = load_clip(str(copied), "cpu", turns=turns).encode_text(["a fox"])
        torch.testing.assert_close(found, transformers_clip.clip.encode_text(["a fox"]))


def test_a_text_tower_that_is_read_at_another_token_than_ends_a_prompt_is_refused(copied: Path) -> None:
    config = json.loads((copied / "config.json").read_text())
    for end, known in ((2, True), (49407, True), (1, False)):  # 2: as OpenAI's own files have it
        config["text_config"]["eos_token_id"] = end
        (copied / "config.json").write_text(json.dumps(config))
        assert load_clip(str(copied), "cpu").frame.after == (49407,) if known else "(`eos_token_id`)" in refusal(copied)


@pytest.mark.parametrize("size", [48, 16])
def test_an_image_processor_of_another_size_is_one_sentence(copied: Path, size: int) -> None:
    from transformers import CLIPImageProcessor

    CLIPImageProcessor(size={"shortest_edge": size}, crop_size={"height": size, "width": size}).save_pretrained(copied)
    assert f"makes pictures of {size} × {size}, but the model reads 32 × 32" in refusal(copied)


@pytest.mark.parametrize("options", [3, {"foo": 1}, {"clean": "foo"}])
def test_settings_of_a_tokenizer_that_open_clip_does_not_know_are_one_sentence(tmp_path: Path, options: object) -> None:
    _, folder = saved_folder(tmp_path, width=16, heads=2, layers=1, quick_gelu=False)
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = options
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    assert "(`tokenizer_kwargs`) are none of open_clip's" in refusal(folder)


OTHERS_CONFIG = {"transformers": None, "another library's": '{"architecture": "vit"}', "no JSON": "{"}


@pytest.mark.parametrize("kind", OTHERS_CONFIG)
def test_a_repository_that_open_clip_published_loads_whatever_config_lies_beside(
    kind: str, copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, folder = saved_folder(tmp_path, width=16, heads=2, layers=1, quick_gelu=False)
    (folder / "config.json").write_text(OTHERS_CONFIG[kind] or (copied / "config.json").read_text())
    monkeypatch.setattr(hub, "snapshot_download", lambda *_, **__: folder)
    monkeypatch.setattr(hub, "is_offline", lambda: True)
    wanted = model.encode_text(open_clip.get_tokenizer("ViT-B-32")(["a fox"]), normalize=True)
    for name in ("hf:me/published", str(folder)):
        torch.testing.assert_close(load_clip(name, "cpu").encode_text(["a fox"]), wanted, atol=1e-5, rtol=0)


def test_a_damaged_open_clip_folder_is_one_sentence(tmp_path: Path) -> None:
    config = tmp_path / "open_clip_config.json"
    text = {"vocab_size": 64, "width": 16, "heads": 2, "layers": 1, "context_length": 8}
    vision = {"image_size": 32, "layers": 1, "width": 64, "head_width": 64, "patch_size": 16}
    for content, problem in {
        "{": "cannot be read as JSON",
        "{}": "describes no model",
        json.dumps({"model_cfg": {"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}}): "holds no weights",
        json.dumps(
            {"model_cfg": {"vision_cfg": vision, "text_cfg": {**text, "pool_type": "last"}}}
        ): "causal text tower is pooled by 'last'",
        json.dumps({"model_cfg": {"text_cfg": {**text, "use_pad_mask": True}}}): "masks its padding",
        json.dumps({"model_cfg": {"text_cfg": {**text, "qk_norm": True}}}): "changed transformer blocks",
        json.dumps({"model_cfg": {"text_cfg": {**text, "hf_tokenizer_name": "x/y"}}}): "highest id of a foreign vocabulary",
        json.dumps({"model_cfg": {"multimodal_cfg": {}, "text_cfg": text}}): "a CoCa",
    }.items():
        config.write_text(content)
        assert problem in refusal(tmp_path)
    config.write_text(json.dumps({"model_cfg": {"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}}))
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"cut")
    assert "cannot be read" in refusal(tmp_path)
    model = open_clip.model.CLIP(embed_dim=8, vision_cfg=vision, text_cfg=text)
    save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
    assert "knows 49408 tokens but the model only 64" in refusal(tmp_path)


def test_a_text_tower_or_tokenizer_of_another_kind_is_refused(tiny_clip) -> None:
    shape = {"image_size": 32, "layers": 1, "width": 64, "head_width": 64, "patch_size": 16}
    text = {"vocab_size": 64, "width": 16, "heads": 2, "layers": 1}
    transform = open_clip.image_transform(32, is_train=False)
    model = open_clip.model.CustomTextCLIP(embed_dim=8, vision_cfg=shape, text_cfg={**text, "pool_type": "last"})
    with pytest.raises(InputError, match="causal text tower is pooled by 'last', which is not supported"):
        from_open_clip("mine", model, transform)
    causal = open_clip.model.CLIP(embed_dim=8, vision_cfg=shape, text_cfg=text)
    with pytest.raises(InputError, match="the tokenizer object, which is not supported"):
        from_open_clip("mine", causal, transform, tokenizer=object())


@pytest.mark.parametrize(
    ("settings", "problem"),
    [({"image_size": (32, 64)}, "no squares"), ({"output_tokens": True}, "every patch")],
)
def test_an_image_tower_that_gives_no_latent_of_a_square_is_refused(settings: dict, problem: str) -> None:
    shape = {"image_size": 32, "layers": 1, "width": 64, "head_width": 64, "patch_size": 16, **settings}
    model = open_clip.model.CLIP(embed_dim=8, vision_cfg=shape, text_cfg={"width": 16, "heads": 2, "layers": 1})
    with pytest.raises(InputError, match=f"{problem}.*, which is not supported"):
        from_open_clip("mine", model, open_clip.image_transform(shape["image_size"], is_train=False))


def test_the_libraries_logging_is_silent_in_this_context_alone(caplog: pytest.LogCaptureFixture) -> None:
    library, other = logging.getLogger("transformers.modeling_utils"), logging.getLogger("mine")
    library.parent.propagate, before = True, library.parent.propagate
    try:
        with caplog.at_level(logging.WARNING), hub.quiet():
            library.warning("hidden")
            other.warning("shown")
        library.warning("shown again")
    finally:
        library.parent.propagate = before
    assert {record.message for record in caplog.records} == {"shown", "shown again"}
    assert logging.root.manager.disable == logging.NOTSET


SUPPORTED_OF_OPEN_CLIP = 131  # of the 144 that open_clip 3.3 lists
REFUSED = {
    "coca": "a CoCa",
    "mt5": "a CLIP with the text tower google/mt5",
    "nllb": "a CLIP with the text tower facebook/nllb",
    "roberta": "a CLIP with the text tower roberta",
    "xlm": "a CLIP with the text tower xlm-roberta",
}


def test_every_configuration_of_open_clip_is_supported_or_refused_with_one_sentence() -> None:
    supported = 0
    for architecture in open_clip.list_models():
        kind = unsupported_kind(open_clip.get_model_config(architecture) or {})
        wanted = next((kind for start, kind in REFUSED.items() if architecture.startswith(start)), None)
        assert (kind is None) == (wanted is None) and (kind or "").startswith(wanted or ""), architecture
        supported += kind is None
    assert supported >= SUPPORTED_OF_OPEN_CLIP
    for family in ("SigLIP", "SigLIP2", "CLIPA", "MobileCLIP", "worldwide", "PE-Core"):
        assert any(family in name for name in open_clip.list_models()), family
