"""The English bundle: real words only, prompts that read as English, and nothing of the bundled world."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from invert.cli.options import Options
from invert.cli.outputs import Outputs
from invert.cli.polishing import with_soft_prompt
from invert.config import InvertConfig
from invert.english import bundle as english
from invert.english import compose
from invert.english.categories import category
from invert.english.corpus import PromptWriter, with_article
from invert.english.tables import entries, phrases
from invert.english.token_ids import KnownIds
from invert.errors import InputError
from invert.inverter import Inverter
from invert.lexicon import ENGLISH_FUNCTION_WORDS, Lexicon
from invert.methods.configs import InvertMethodConfig
from invert.methods.soft_stage import check_soft_stage
from invert.models.clip import Clip
from invert.prior.category_ngram import SHARE_WEIGHT, UNKNOWN, CategoryNgramPrior
from invert.target import image_latent


@pytest.fixture(scope="module")
def writer(picturebook: Clip) -> PromptWriter:
    return PromptWriter(english.trained_words(picturebook))


@pytest.fixture(scope="module")
def prior(picturebook: Clip, writer: PromptWriter) -> CategoryNgramPrior:
    texts = [*ENGLISH_FUNCTION_WORDS, *(one.text for one in writer.nouns), *writer.colors, "background", "picture", "striped"]
    lexicon = Lexicon.of_texts(texts, ENGLISH_FUNCTION_WORDS, picturebook.tokenizer.encode)
    return CategoryNgramPrior(writer.prompts(2000), lexicon, category, frequency=english.frequency)


def test_there_are_many_words_and_phrases_each_once_and_no_ends_of_words():
    texts = [one.text for one in entries()]
    assert len(texts) == len(set(texts)) > 30_000
    assert sum(len(table) for table in phrases().values()) > 2_000
    assert {"fox", "umbrella", "palm tree", "the", "selfie"} <= set(texts)
    assert {"kered", "pping", "ption"}.isdisjoint(texts)


@pytest.mark.parametrize(
    "phrase, said", [("owl", "an owl"), ("unicorn", "a unicorn"), ("hourglass", "an hourglass"), ("fox", "a fox")]
)
def test_articles(phrase, said):
    assert with_article(phrase) == said


@pytest.mark.parametrize(
    "text, name",
    [
        ("the", "the"),
        ("owl", "an noun"),
        ("fox", "noun"),
        ("foxes", "plural"),
        ("red", "color"),
        ("silverware", "mass"),
        ("zzz", UNKNOWN),
        ("left", "abstract"),  # of its uses few name what a picture shows
        ("good", "adj"),
        ("train", "noun"),  # also a verb
    ],
)
def test_words_that_may_stand_for_each_other_share_a_category(text, name):
    assert category(text) == name


def test_prompts_are_distinct_made_of_known_words_and_the_same_for_a_seed(picturebook, writer):
    prompts = writer.prompts(500, seed=3)
    assert prompts == writer.prompts(500, seed=3) != writer.prompts(500, seed=4)
    assert len(set(prompts)) == 500
    trained = picturebook.token_embeddings.any(1)
    ids = {token for prompt in prompts for token in picturebook.tokenizer.encode(prompt.replace(",", ""))}
    assert bool(trained[torch.tensor(sorted(ids))].all())
    assert not any(re.search(r"\ba [aeio]\w+ ", re.sub(r"\ba (one|euro|u\w+)", "", prompt)) for prompt in prompts)


def test_a_writer_who_knows_few_words_still_writes():
    few = PromptWriter(lambda text: text in {"fox", "a", "red"})
    assert few.prompt(random.Random(0))


def test_the_prior_prefers_english_order(prior):
    log_prob = [
        prior.log_prob(prior.lexicon.segment(text)) for text in ("a fox on a red background", "fox a red on background a")
    ]
    assert log_prob[0] > log_prob[1] + 10


def test_log_probs_of_a_slot_differ_as_whole_prompts_do(prior):
    prompt = prior.lexicon.segment("a fox above a red umbrella on a striped background")
    chosen = [prior.lexicon.index_of[text] for text in ("owl", "the", "blue", "alarm clock")]
    slot = prior.slot_log_probs(prompt, 4, insert=False)[chosen]
    whole = torch.tensor([prior.log_prob((*prompt[:4], prior.lexicon.words[i], *prompt[5:])) for i in chosen])
    torch.testing.assert_close(slot - slot[0], whole - whole[0], atol=1e-4, rtol=0)


def test_a_word_of_many_tokens_earns_no_more_than_a_short_one(prior):
    nouns = [word for word in prior.lexicon.words if category(word.text) == "noun"]
    article = prior.lexicon.word("a")
    one, many = (next(word for word in nouns if len(word.ids) == n) for n in (1, 3))
    share = [SHARE_WEIGHT * prior.log_shares[word.text] for word in (one, many)]
    prompts = [(article, word) for word in (one, many)]
    objective = [prior.log_prob(prompt) - prior.per_token * sum(len(word.ids) for word in prompt) for prompt in prompts]
    assert objective[0] - share[0] == pytest.approx(objective[1] - share[1])


def test_a_frequent_noun_is_likelier_than_a_rare_one(prior):
    dog, rare = (prior.lexicon.segment(f"a {text} on a red background") for text in ("dog", "okapi"))
    assert prior.log_prob(dog) > prior.log_prob(rare) + 1


def test_it_composes_starts_and_finds_a_prompt_within_the_budget(picturebook, pictures, monkeypatch):
    monkeypatch.setattr(english, "CORPUS_SIZE", 200)
    inverter = Inverter(english.load(picturebook))
    result = inverter.invert(pictures[0], budget=4_000)
    known = {word for one in inverter.bundle.lexicon.words for word in one.text.split()}
    assert result.prompt and set(result.prompt.split()) <= known
    assert result.forward_tokens + result.backward_tokens < 12_000
    assert result.soft is None and not result.concepts and not any(step.stage == "soft" for step in result.history)
    again = inverter.invert(pictures[0], budget=4_000, restarts=1, soft_steps=2)
    assert again.soft is not None and again.concepts and again.history[0].stage == "soft"
    target = image_latent(picturebook, pictures[:1])
    nouns = inverter.bundle.compose.__self__.noun_prompts[: compose.N_FREQUENT]
    cosines = picturebook.encode_text(nouns).double() @ target.double()
    assert inverter.bundle.spread(target) == pytest.approx(float(cosines.std(correction=0)), rel=1e-3)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"tokens": 4}, "`tokens`"),
        ({"restarts": 1}, "`restarts`"),
        ({"method_config": InvertMethodConfig(lr=0.5)}, "`invert.lr`"),
    ],
)
def test_what_is_asked_of_soft_prompts_that_are_not_made_is_refused(picturebook, given, named):
    bundle = SimpleNamespace(name="english", soft_words=False)
    with pytest.raises(InputError, match=rf"{named} is of soft prompts.* bundle 'english'.*`soft_steps=40`"):
        check_soft_stage(InvertConfig(**given), bundle)
    check_soft_stage(InvertConfig(**given, soft_steps=5), bundle)
    check_soft_stage(InvertConfig(**given), SimpleNamespace(name="picturebook", soft_words=True))


def test_a_soft_prompt_that_is_to_be_saved_is_made():
    saving = Outputs.of(Options(embedding=Path("a.safetensors")))
    assert with_soft_prompt(InvertConfig(), saving, None).soft_steps == 40
    assert with_soft_prompt(InvertConfig(soft_steps=3), saving, None).soft_steps == 3
    assert with_soft_prompt(InvertConfig(), replace(saving, embedding=None), None).soft_steps is None
    assert with_soft_prompt(InvertConfig(), saving, object()).soft_steps is None  # words are polished, and none is needed


def test_with_the_most_frequent_words_encoded_it_finds_a_prompt_all_the_same(picturebook, pictures, monkeypatch, tmp_path):
    monkeypatch.setattr(english, "CORPUS_SIZE", 600)
    monkeypatch.setenv("INVERT_CACHE", str(tmp_path))
    bundle = english.load(picturebook)
    done, total = bundle.encode(seconds=1e-9)
    composer = bundle.compose.__self__
    assert composer.noun_latents[0] == list(range(256)) and 256 <= done < total
    assert Inverter(bundle).invert(pictures[0], budget=1_500, restarts=1, soft_steps=2).prompt
    assert bundle.encode() == (total, total) and len(composer.noun_latents[0]) == len(composer.nouns)


def test_token_ids_are_read_back_where_the_tokenizer_is_the_same(monkeypatch, tmp_path):
    monkeypatch.setenv("INVERT_CACHE", str(tmp_path))
    asked = []

    def encode(text):
        asked.append(text)
        return [len(text), 7]

    first = KnownIds(encode)
    assert first("a fox") == first("a fox") == (5, 7) and asked.count("a fox") == 1
    first.keep()
    assert KnownIds(encode)("a fox") == (5, 7) and asked.count("a fox") == 1
    assert KnownIds(lambda text: [len(text)])("a fox") == (5,)  # another tokenizer
    first.file.write_bytes(b"no table")
    assert KnownIds(encode)("a fox") == (5, 7) and asked.count("a fox") == 2


@pytest.mark.parametrize("cleaned", ["'", "-", "0123456789", "()", ",.!", "é"])
def test_tokenizers_that_clean_texts_otherwise_share_no_ids(monkeypatch, tmp_path, cleaned):
    monkeypatch.setenv("INVERT_CACHE", str(tmp_path))
    without = str.maketrans("", "", cleaned)
    assert KnownIds(lambda text: [*text.encode()]).file != KnownIds(lambda text: [*text.translate(without).encode()]).file


def test_texts_of_the_tables_that_are_not_letters_alone_have_the_ids_of_their_own_tokenizer(monkeypatch, tmp_path):
    monkeypatch.setenv("INVERT_CACHE", str(tmp_path))
    for cleaned in ("", "'", "-"):
        known = KnownIds(lambda text, cleaned=cleaned: [*text.replace(cleaned, "").encode()])
        texts = ("rubik's cube", "children's drawing", "t-rex")
        assert [known(text) for text in texts] == [tuple(known.encode(text)) for text in texts]
        known.keep()


def test_nothing_of_the_bundled_world_is_imported():
    code = "import sys; import invert.english.bundle; print([m for m in sys.modules if m.startswith('invert.picturebook')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
