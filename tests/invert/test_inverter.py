"""The library's front door on the bundled model: what is aimed at, what is kept to, what is handed back."""

from __future__ import annotations

import json
from dataclasses import replace
from io import BytesIO

import pytest
import torch
import torch.nn.functional as F

from invert.budget import Budget
from invert.bundle import generic_bundle
from invert.config import InvertConfig
from invert.errors import InputError
from invert.images import one_or_several
from invert.inverter import Inverter
from invert.methods import Method
from invert.methods.configs import NoConfig, PezConfig
from invert.methods.task import InversionOutput, InversionTask
from invert.picturebook.bundle import FUNCTION_WORDS
from invert.picturebook.grammar import caption
from invert.picturebook.world import draw_scenes
from invert.target import image_latent, subtract_negative, text_latent

OPTIONS = frozenset({"init_prompt", "must_include", "corpus"})
TINY = {"soft_steps": 2, "restarts": 1, "tokens": 4, "budget": 4000}
CAPTIONS = tuple(dict.fromkeys(caption(scene) for scene in draw_scenes(300, 8)))
QUICK = {**TINY, "corpus": CAPTIONS}  # where it matters little what the language was learned from


@pytest.fixture(scope="module")
def result(inverter, pictures):
    return inverter.invert(pictures[0], **TINY, top=4)


@pytest.fixture
def aimed(inverter, monkeypatch):
    """aimed(call) → the task that the call gives to its method."""
    given: list[InversionTask] = []

    def run(task: InversionTask, config: NoConfig) -> InversionOutput:
        given.append(task)
        return InversionOutput([("a fox", 0.5)])

    monkeypatch.setattr("invert.inverter.get_method", lambda name: Method("invert", 1, NoConfig, run, options=OPTIONS))

    def task(call) -> InversionTask:
        call()
        return given[-1]

    return task


def content(prompt: str) -> set[str]:
    return set(prompt.split()) - FUNCTION_WORDS


# Targets ------------------------------------------------------------------------------------------


def test_several_images_pull_on_their_mean(inverter, pictures, aimed):
    latents = inverter.clip.encode_image(pictures)
    task = aimed(lambda: inverter.invert_joint(pictures, target="raw"))
    torch.testing.assert_close(task.target, F.normalize(latents.mean(0), dim=0))
    assert task.budget.image_passes == 3 and len(task.images) == 3


def test_a_path_a_string_and_a_pillow_image_are_the_same_picture(inverter, pictures, aimed, tmp_path):
    pictures[0].save(tmp_path / "scene.png")
    sources = (pictures[0], tmp_path / "scene.png", str(tmp_path / "scene.png"))
    targets = [aimed(lambda source=source: inverter.invert(source)).target for source in sources]
    assert all(torch.equal(target, targets[0]) for target in targets)


def test_each_kind_of_target_is_what_it_says(inverter, pictures, aimed):
    latent = image_latent(inverter.clip, pictures[:1])
    expected = {
        "raw": latent,
        "empty": F.normalize(latent + text_latent(inverter.clip, ""), dim=0),
        "gap": F.normalize(latent + inverter.bundle.modality_gap, dim=0),
    }
    for kind, target in expected.items():
        torch.testing.assert_close(aimed(lambda kind=kind: inverter.invert(pictures[0], target=kind)).target, target)


def test_an_unknown_target_is_one_sentence(inverter, pictures):
    with pytest.raises(InputError, match="unknown `target` 'best': choose one of raw, empty, gap"):
        inverter.invert(pictures[0], target="best")


@pytest.mark.parametrize("kind", ["image", "file", "prompt"])
def test_a_negative_is_moved_subtract_negative(inverter, pictures, aimed, tmp_path, kind):
    pictures[1].save(tmp_path / "negative.png")
    negative = {"image": pictures[1], "file": str(tmp_path / "negative.png"), "prompt": "a fox on a red background"}[kind]
    plain = aimed(lambda: inverter.invert(pictures[0], target="raw")).target
    moved = aimed(lambda: inverter.invert(pictures[0], target="raw", negative=negative)).target
    more = aimed(lambda: inverter.invert(pictures[0], target="raw", negative=negative, negative_weight=0.9)).target
    latent = text_latent(inverter.clip, negative) if kind == "prompt" else image_latent(inverter.clip, pictures[1:2])
    assert more @ latent < moved @ latent < plain @ latent
    torch.testing.assert_close(moved, subtract_negative(plain, latent, 0.5))


def test_a_negative_image_is_counted_and_a_negative_prompt_is_not(inverter, pictures, aimed):
    assert aimed(lambda: inverter.invert(pictures[0], negative=pictures[1])).budget.image_passes == 2
    assert aimed(lambda: inverter.invert(pictures[0], negative="a fox")).budget.image_passes == 1


@pytest.mark.parametrize(
    ("method", "option"),
    [
        ("nearest", {"must_include": ("fox",)}),
        ("pez", {"init_prompt": "a fox"}),
        ("gcg", {"must_include": ("a",)}),
        ("pez", {"corpus": ("a fox",)}),
        ("interrogator-lite-negative", {"corpus": ("a fox",)}),
        ("interrogator-lite", {"ban": ("fox",)}),
    ],
)
def test_what_a_method_cannot_follow_is_one_sentence(inverter, pictures, method, option):
    with pytest.raises(InputError, match=f"{method}.*`(must_include|init_prompt|corpus|ban)`"):
        inverter.invert(pictures[0], method=method, **option)


def test_a_prompt_is_distilled_towards_its_own_latent(inverter, aimed):
    text = "a picture of two owls on a red background"
    task = aimed(lambda: inverter.distill(text, seed=5))
    assert torch.equal(task.target, text_latent(inverter.clip, text)) and task.config.seed == 5
    assert task.images == () and task.budget.image_passes == 0


def test_what_is_distilled_starts_from_its_own_words_and_does_not_grow(inverter, aimed):
    text = "a fox that is above a red umbrella"
    config = aimed(lambda: inverter.distill(text)).config
    assert config.init_prompt == text and config.max_tokens == len(inverter.clip.tokenizer.encode(text))
    config = aimed(lambda: inverter.distill(text, init_prompt="a fox", max_tokens=3)).config
    assert config.init_prompt == "a fox" and config.max_tokens == 3
    config = aimed(lambda: inverter.distill(text, must_include=("zebra", "fox"))).config
    assert config.init_prompt == text and config.max_tokens == len(inverter.clip.tokenizer.encode(f"{text} zebra"))


def test_a_distilled_text_says_the_same(inverter):
    assert inverter.distill("a fox that is above a red umbrella", seed=0).prompt == "a fox above a red umbrella"


def test_a_string_stands_for_one_word_or_prompt():
    config = InvertConfig(must_include="fox", ban="zebra", corpus="a dog on a mat")
    assert (config.must_include, config.ban, config.corpus) == (("fox",), ("zebra",), ("a dog on a mat",))
    assert InvertConfig(ban=["a", "b"]).ban == ("a", "b")


@pytest.mark.parametrize("read", [bytes, bytearray, memoryview, BytesIO])
def test_a_picture_may_be_the_bytes_of_a_file(inverter, pictures, aimed, tmp_path, read):
    pictures[0].save(tmp_path / "scene.png")
    content = (tmp_path / "scene.png").read_bytes()
    latent = image_latent(inverter.clip, pictures[:1])
    torch.testing.assert_close(aimed(lambda: inverter.invert(read(content), target="raw")).target, latent)
    assert inverter.analyze(read(content), top=1).categories == inverter.analyze(pictures[0], top=1).categories
    with pytest.raises(InputError, match="use `invert`"):
        inverter.invert_joint(read(content))


def test_several_pictures_are_a_list_or_a_tensor_of_four_axes(inverter, pictures):
    pixels = torch.rand(2, 3, 8, 8)
    assert [len(one_or_several(given)) for given in (pixels[0], pixels, [*pixels])] == [1, 2, 2]
    with pytest.raises(InputError, match="use `invert_batch`"):
        inverter.invert(pictures)


def test_what_is_built_once_for_a_model_is_not_charged_to_the_seconds_of_a_picture(inverter, pictures, monkeypatch):
    events: list[str] = []
    method = Method("invert", 1, NoConfig, lambda task, config: InversionOutput([("a fox", 0.5)]), options=frozenset({"corpus"}))
    method = replace(method, prepare=lambda bundle, config: events.append("tables"))
    monkeypatch.setattr("invert.inverter.get_method", lambda name: method)
    monkeypatch.setattr("invert.inverter.Budget", lambda *args, **names: events.append("clock") or Budget(*args, **names))
    inverter.invert(pictures[0], seconds=5.0)
    inverter.distill("a fox", seconds=5.0)
    assert events == ["tables", "clock"] * 2
    inverter.invert(pictures[0], seconds=5.0, corpus=CAPTIONS)  # a corpus of the run's own counts against them
    assert events[4:] == ["clock"]


def test_the_gap_is_told_apart_from_the_plain_latent_once_it_is_measured(picturebook, pictures, aimed):
    inverter = Inverter(generic_bundle(picturebook))
    assert torch.equal(aimed(lambda: inverter.invert(pictures[0])).target, image_latent(picturebook, pictures[:1]))
    with pytest.raises(InputError, match="needs the mean latents of this model"):
        inverter.invert(pictures[0], target="gap")
    inverter = Inverter(inverter.bundle.with_(gap_images=pictures))
    moved = aimed(lambda: inverter.invert(pictures[0], target="gap")).target
    torch.testing.assert_close(moved, F.normalize(image_latent(picturebook, pictures[:1]) + inverter.bundle.modality_gap, dim=0))


def test_options_go_over_a_configs_fields(inverter, pictures, aimed):
    config = InvertConfig(target="raw", seed=3, top=2)
    task = aimed(lambda: inverter.invert(pictures[0], config, seed=4))
    assert (task.config.target, task.config.seed, task.config.top) == ("raw", 4, 2)


# What is handed back ------------------------------------------------------------------------------


def test_a_result_is_whole(inverter, pictures, result):
    target = image_latent(inverter.clip, pictures[:1])
    assert result.score == pytest.approx(inverter.score(result.prompt, target), abs=1e-5)
    assert [token.id for token in result.tokens] == inverter.clip.tokenizer.encode(result.prompt)
    assert "".join(token.text for token in result.tokens) == result.prompt.replace(" ", "")
    assert {step.stage for step in result.history} == {"soft", "search"}
    assert len(result.soft_tokens) == 4 and len(result.concepts) == 4 and result.soft_score is not None
    assert (result.method, result.model, result.seed, result.interrupted) == ("invert", "picturebook", 0, False)
    assert result.seconds > 0 and result.image_passes == 1


def test_a_prompt_consists_of_words_of_the_vocabulary(inverter, result):
    words = {word for text in inverter.bundle.lexicon.index_of for word in text.split()}
    assert set(result.prompt.split()) <= words


def test_the_budget_is_spent_and_little_more(inverter, pictures):
    tight = inverter.invert(pictures[0], **{**QUICK, "budget": 1000})
    assert 1000 <= tight.forward_tokens + tight.backward_tokens < 4000


def test_the_same_seed_gives_the_same_result(inverter, pictures, result):
    torch.manual_seed(1234)
    again = inverter.invert(pictures[0], **TINY, top=4)
    assert again.alternatives == result.alternatives and again.history == result.history
    assert again.soft_tokens == result.soft_tokens and again.concepts == result.concepts


def test_several_prompts_are_distinct_and_the_first_is_the_prompt(result):
    prompts = [prompt for prompt, _ in result.alternatives]
    assert len(prompts) == 4 and prompts[0] == result.prompt and result.alternatives[0][1] == result.score
    assert len({frozenset(content(prompt)) for prompt in prompts}) == 4


def test_a_result_is_plain_json(result):
    read = json.loads(json.dumps(result.to_json()))
    assert read["prompt"] == result.prompt and read["score"] == result.score
    assert read["tokens"] == [token.text for token in result.tokens] and len(read["alternatives"]) == 4
    assert read["token_passes"] == {"forward": result.forward_tokens, "backward": result.backward_tokens}
    assert all(concept["words"] and 0 < concept["share"] <= 1 for concept in read["concepts"])


def test_the_plain_idea_gives_nearest_words_scored_as_the_text_that_they_are(inverter, pictures):
    found = inverter.invert(pictures[0], method="nearest", soft_steps=2, restarts=6, tokens=4, top=6, target="raw")
    target = image_latent(inverter.clip, pictures[:1])
    assert 1 < len(found.alternatives) <= 6 and found.soft_score is not None
    for prompt, score in found.alternatives:
        assert score == pytest.approx(inverter.score(prompt, target), abs=1e-5)
    scores = [score for _, score in found.alternatives]
    assert scores == sorted(scores, reverse=True)


def test_the_plain_ideas_seed_decides_its_words(inverter, pictures):
    def prompts(seed: int) -> list[tuple[str, float]]:
        return inverter.invert(pictures[0], method="nearest", soft_steps=1, restarts=2, tokens=4, top=2, seed=seed).alternatives

    assert prompts(1) == prompts(1) != prompts(2)


# Interrupts ---------------------------------------------------------------------------------------


def test_an_interrupt_keeps_the_best_prompt_so_far(inverter, pictures, result):
    told: list[str] = []

    def interrupt(prompt: str, value: float) -> None:
        told.append(prompt)
        raise KeyboardInterrupt

    found = inverter.invert(pictures[0], **QUICK, on_best=interrupt)
    assert found.interrupted and [found.prompt] == told and not result.interrupted
    target = image_latent(inverter.clip, pictures[:1])
    assert found.score == pytest.approx(inverter.score(found.prompt, target), abs=1e-5)
    assert found.to_json()["interrupted"] is True


@pytest.mark.parametrize("method", ["pez", "random"])
def test_each_of_several_images_gets_its_own_prompt(inverter, pictures, method):
    options = {"method": method, "tokens": 4, "budget": 200, "seed": 1, "target": "raw"}
    each = inverter.invert_batch(pictures, **options)
    alone = [inverter.invert(picture, **options) for picture in pictures]
    assert [result.prompt for result in each] == [result.prompt for result in alone]
    assert [result.forward_tokens for result in each] == [result.forward_tokens for result in alone]
    assert [result.image_passes for result in each] == [1] * len(pictures)
    assert inverter.invert_batch([], **options) == []


def test_an_interrupt_of_several_images_keeps_the_best_prompt_of_each(inverter, pictures, monkeypatch):
    def interrupted(tasks: list[InversionTask], config: PezConfig) -> list[InversionOutput]:
        for i, task in enumerate(tasks):
            task.history.report_candidate(f"fox {i}", 0.5)
        raise KeyboardInterrupt

    monkeypatch.setattr("invert.methods.pez.pez_batch", interrupted)
    results = inverter.invert_batch(pictures, method="pez", target="raw")
    assert [result.prompt for result in results] == ["fox 0", "fox 1", "fox 2"]
    assert all(result.interrupted for result in results)


def test_an_interrupt_before_any_prompt_is_passed_on(inverter, pictures, monkeypatch):
    def interrupted(task: InversionTask, config: NoConfig) -> InversionOutput:
        raise KeyboardInterrupt

    monkeypatch.setattr("invert.inverter.get_method", lambda name: Method("invert", 1, NoConfig, interrupted))
    with pytest.raises(KeyboardInterrupt):
        inverter.invert(pictures[0])


def test_every_better_prompt_is_told_with_its_value(inverter, pictures, result):
    told: list[tuple[str, float]] = []
    inverter.invert(pictures[0], **TINY, top=4, on_best=lambda prompt, value: told.append((prompt, value)))
    values = [value for _, value in told]
    assert values == sorted(set(values)) and told[-1][0] == result.prompt


@pytest.mark.parametrize(
    "corpus",
    [
        ("a red fox, a red hat and a red umbrella",),
        ("fox fox fox",),
        ("the the a a",),
        ("?!", "…"),
        ("fox " * 200,),
    ],
)
def test_a_corpus_none_of_whose_lines_may_start_a_search_gives_a_prompt_all_the_same(inverter, pictures, corpus):
    found = inverter.invert(pictures[0], **TINY, corpus=corpus)
    assert found.prompt and -1 <= found.score <= 1
