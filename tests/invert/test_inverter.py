"""The library's front door on the bundled model: what is aimed at, what is kept to, what is handed back."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F

from invert.bundle import ModelBundle, generic_bundle
from invert.config import InvertConfig
from invert.errors import InputError
from invert.inverter import Inverter
from invert.methods import Method
from invert.methods.configs import GcgConfig, NoConfig, PezConfig
from invert.methods.task import InversionOutput, InversionTask
from invert.picturebook.bundle import FUNCTION_WORDS
from invert.picturebook.grammar import caption
from invert.picturebook.world import draw_scenes
from invert.target import image_latent, subtract_negative, text_latent

TINY = {"soft_steps": 2, "restarts": 1, "tokens": 4, "budget": 4000}
CAPTIONS = tuple(dict.fromkeys(caption(scene) for scene in draw_scenes(300, 8)))
QUICK = {**TINY, "corpus": CAPTIONS}  # where it matters little what the language was learned from
START = {
    "corpus": CAPTIONS,
    "budget": 1,
    "token_penalty": 0.0,
    "language_weight": 0.0,
    "soft_steps": 0,
    "restarts": 1,
    "tokens": 2,
}  # no search


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

    monkeypatch.setattr("invert.inverter.get_method", lambda name: Method("invert", 1, NoConfig, run))

    def task(call) -> InversionTask:
        call()
        return given[-1]

    return task


def content(prompt: str) -> set[str]:
    return set(prompt.split()) - FUNCTION_WORDS


def holds(prompt: str, text: str) -> bool:
    return f" {text} " in f" {prompt} "


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
    with pytest.raises(InputError, match="unknown target 'best': choose one of raw, empty, gap"):
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


# Wishes -------------------------------------------------------------------------------------------


def test_the_search_starts_from_the_users_prompt_as_well(inverter):
    text = "two owls to the left of a green umbrella"
    kept = inverter.distill(text, InvertConfig(**START, init_prompt=text.upper()))
    assert kept.prompt == text and kept.score == pytest.approx(1, abs=1e-4)


def test_required_words_are_in_every_prompt(inverter, pictures):
    found = inverter.invert(pictures[0], **QUICK, must_include=(" Umbrella", "owl", "owl"), top=3)
    assert len(found.alternatives) == 3
    assert all(holds(prompt, "umbrella") and holds(prompt, "owl") for prompt, _ in found.alternatives)


def test_required_words_are_kept_to_without_any_budget_for_a_search(inverter, pictures):
    found = inverter.invert(pictures[0], **START, must_include=("umbrella", "owl"))
    assert holds(found.prompt, "umbrella") and holds(found.prompt, "owl")


def test_required_words_that_do_not_fit_are_one_sentence(inverter, pictures):
    with pytest.raises(InputError, match="required words do not fit into one prompt: require fewer, or raise `max_tokens`"):
        inverter.invert(pictures[0], **START, max_tokens=2, must_include=("fox", "owl", "umbrella"))


@pytest.mark.parametrize("effort", [QUICK, START], ids=["search", "starts alone"])
def test_banned_words_are_in_no_prompt_in_whatever_case_they_are_given(inverter, pictures, result, effort):
    banned = sorted(content(result.prompt))[:3]
    ban = tuple(f" {word.upper()}" for word in banned)
    found = inverter.invert(pictures[0], **effort, ban=ban, init_prompt=result.prompt, top=3)
    assert not any(holds(prompt, word) for prompt, _ in found.alternatives for word in banned)


def test_a_banned_phrase_is_not_put_together_from_its_words(inverter):
    phrase = next(text for text in inverter.bundle.lexicon.index_of if len(text.split()) == 2)
    wanted = f"a {phrase} on a red background"
    free = inverter.distill(wanted, InvertConfig(**START, init_prompt=wanted))
    assert holds(free.prompt, phrase)
    found = inverter.distill(wanted, InvertConfig(**QUICK, init_prompt=wanted, ban=(phrase,), top=3))
    assert not any(holds(prompt, phrase) for prompt, _ in found.alternatives)


@pytest.mark.parametrize("ban", ["Fox", "fox ", "red fox"])
def test_what_is_required_and_banned_is_one_sentence(ban):
    with pytest.raises(InputError, match="is both required and banned: drop it from `must_include` or `ban`"):
        InvertConfig(must_include=("a Red fox",), ban=(ban,))
    assert InvertConfig(must_include=("foxes", "fox"), ban=("fox terrier",)).ban


@pytest.mark.parametrize("most", [1, 2, 3])
def test_a_prompt_is_no_longer_than_asked_for(inverter, pictures, most):
    found = inverter.invert(pictures[0], **{**QUICK, "budget": 1500}, max_tokens=most, init_prompt="a fox on a red background")
    assert 1 <= len(found.tokens) <= most


def test_a_corpus_of_ones_own_is_what_the_search_starts_from(inverter):
    own = ("two owls above a house", "a green umbrella")
    found = inverter.distill("a green umbrella", InvertConfig(**{**START, "corpus": own}))
    assert found.prompt == "a green umbrella"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"tokens": 0}, "`tokens` is 0: give 1 or more"),
        ({"max_tokens": 0}, "`max_tokens` is 0: give 1 or more"),
        ({"tokens": 76}, "`tokens` is 76, but this model reads 75 tokens: give 75 or fewer"),
        ({"max_tokens": 100}, "`max_tokens` is 100, but this model reads 75"),
        ({"budget": 0}, "`budget` is 0: give more than 0, or leave it out"),
        ({"seconds": -1.0}, "`seconds` is -1.0: give more than 0"),
        ({"method": "inverte"}, r"unknown method 'inverte' \(did you mean 'invert'\?\)"),
    ],
)
def test_options_that_make_no_sense_are_one_sentence(inverter, pictures, options, sentence):
    with pytest.raises(InputError, match=sentence):
        inverter.invert(pictures[0], **options)


def test_no_image_at_all_is_one_sentence(inverter):
    with pytest.raises(InputError, match="there is no image to invert"):
        inverter.invert_joint([])


def test_a_bundle_is_derived_once_for_each_corpus_and_list_of_banned_words(inverter):
    def derived(**options) -> ModelBundle:
        return inverter.bundle_for(InvertConfig(**options))

    assert derived() is inverter.bundle
    assert derived(ban=("fox", "owl")) is derived(ban=("owl", "fox")) is not inverter.bundle
    assert derived(corpus=CAPTIONS) is derived(corpus=CAPTIONS) is not derived(corpus=CAPTIONS[:9])
    for i in range(20):
        derived(ban=(f"fox{i}",))
    assert len(inverter._derived) <= 8


def test_several_images_for_invert_name_the_two_that_take_them(inverter, pictures):
    for images in (pictures, tuple(pictures[:1]), []):
        with pytest.raises(InputError, match=r"takes one image: use `invert_batch` .* or `invert_joint`"):
            inverter.invert(images)
    for call in (inverter.invert_batch, inverter.invert_joint):
        for one in (pictures[0], "picture.png"):
            with pytest.raises(InputError, match="a single image is no sequence of images: use `invert`"):
                call(one)


def test_a_methods_own_settings_reach_it(inverter, pictures):
    options = {"method": "pez", "tokens": 4, "target": "raw"}
    one = inverter.invert(pictures[0], **options, method_config=PezConfig(steps=1))
    four = inverter.invert(pictures[0], **options, method_config=PezConfig(steps=4))
    assert (len(one.history), len(four.history)) == (1, 4)


def test_another_methods_settings_are_one_sentence(inverter, pictures):
    with pytest.raises(InputError, match="`method_config` is a GcgConfig, but the method 'pez' takes a PezConfig"):
        inverter.invert(pictures[0], method="pez", method_config=GcgConfig())


@pytest.mark.parametrize("method", ["retrieve", "interrogator-lite-fast"])
def test_methods_that_start_from_a_corpus_start_from_the_users(inverter, pictures, method):
    own = ("two owls above a house", "a green umbrella")
    found = inverter.invert(pictures[0], method=method, corpus=own, top=2)
    assert found.prompt.startswith(own)


def test_retrieval_leaves_out_what_holds_a_banned_word(inverter):
    own = ("two owls above a house", "a green umbrella", "a fox")
    found = inverter.distill("a green umbrella", method="retrieve", corpus=own, ban=("umbrella",), top=3)
    assert sorted(prompt for prompt, _ in found.alternatives) == ["a fox", "two owls above a house"]
    with pytest.raises(InputError, match="every prompt of the corpus holds a banned word"):
        inverter.distill("a fox", method="retrieve", corpus=("a fox",), ban=("fox",))


def test_a_foreign_model_draws_with_no_generator_unless_it_is_named(picturebook, pictures):
    with pytest.raises(InputError, match="'picturebook' brings no generator: give one as `generator`"):
        Inverter(generic_bundle(picturebook)).invert(pictures[0], method="ph2p")


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
