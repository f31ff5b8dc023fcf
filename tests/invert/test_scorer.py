"""Scores of rows of words: the model's own, each paid for once, every position counted."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from invert import scorer as module
from invert.budget import Budget
from invert.lexicon import Prompt, Word, text_of
from invert.scorer import PromptScorer

SENTENCES = (
    "a fox on a red background",
    "a fox on a striped blue and white background",
    "a fox",
    "a fox on two owls above a green umbrella",
)


@pytest.fixture
def score(picturebook):
    """A scorer on the latent of a text that none of the sentences says."""
    target = picturebook.encode_text(["two foxes above a house"])[0]
    return PromptScorer(picturebook, target, Budget())


@pytest.fixture
def toy(toy_clip, toy_target):
    return PromptScorer(toy_clip, toy_target, Budget())


def toy_row(*tokens: int) -> Prompt:
    return tuple(Word(f"w{token}", (token,)) for token in tokens)


@pytest.mark.parametrize("shared", [0, 1, 2])
def test_scores_behind_a_shared_prefix_are_cosines_of_the_prompts_as_text(score, picturebook_lexicon, shared):
    rows = [picturebook_lexicon.segment(sentence) for sentence in SENTENCES]
    exact = score.clip.encode_text([text_of(row) for row in rows]) @ score.target
    assert score.score(rows, shared) == pytest.approx(exact.tolist(), abs=1e-5)


def test_a_prefix_is_run_once_and_every_tail_with_its_end_as_long_as_the_longest(toy):
    rows = [toy_row(1, 2, 3), toy_row(1, 2, 4), toy_row(1, 2, 5, 6)]
    toy.score(rows, 2)
    assert toy.budget.forward_tokens == (1 + 2) + 3 * (2 + 1)
    assert toy.budget.backward_tokens == 0


def test_without_a_shared_prefix_whole_prompts_are_counted(toy):
    toy.score([toy_row(1, 2, 3), toy_row(4, 5)])
    assert toy.budget.forward_tokens == 5 + 5


def test_one_prompt_alone_needs_no_prefix_of_its_own(toy):
    toy.score([toy_row(1, 2, 3)], 2)
    assert toy.budget.forward_tokens == 5


def test_words_of_several_tokens_share_all_of_them(toy):
    phrase = Word("phrase", (7, 8, 9))
    rows = [(phrase, *toy_row(1)), (phrase, *toy_row(2))]
    scores = toy.score(rows, 1)
    assert toy.budget.forward_tokens == (1 + 3) + 2 + 2
    alone = [PromptScorer(toy.clip, toy.target, Budget()).score([row])[0] for row in rows]
    assert scores == pytest.approx(alone, abs=1e-6)


def test_what_was_scored_once_is_not_paid_for_again(toy):
    rows = [toy_row(1, 2, 3), toy_row(1, 2, 4)]
    first = toy.score(rows, 2)
    spent = toy.budget.token_passes
    assert toy.score([*rows, rows[0]]) == [*first, first[0]] and toy.budget.token_passes == spent
    toy.score([*rows, toy_row(5)])
    assert toy.budget.token_passes == spent + 3


def test_a_row_given_twice_is_run_once(toy):
    assert len(set(toy.score([toy_row(1, 2), toy_row(1, 2)]))) == 1
    assert toy.budget.forward_tokens == 4


def test_batches_change_no_score(toy, monkeypatch):
    rows = [toy_row(1, i, i + 1) for i in range(10, 30)] + [toy_row(1, i) for i in range(10, 20)]
    whole = toy.score(rows, 1)
    monkeypatch.setattr(module, "BATCH_TOKENS", 7)
    cut = PromptScorer(toy.clip, toy.target, Budget())
    assert cut.score(rows, 1) == pytest.approx(whole, abs=1e-6)
    assert 0 < cut.budget.forward_tokens <= toy.budget.forward_tokens  # small batches pad less


def test_no_rows_have_no_scores_and_cost_nothing(toy):
    assert toy.score([]) == [] and toy.budget.token_passes == 0


def test_the_gradient_is_that_of_finite_differences(toy):
    rows = toy.clip.embed(torch.tensor([5, 9, 33]))
    assert rows.dtype == torch.float64
    (gradient,) = toy.score_and_gradient(rows[None])[1]
    assert gradient.shape == rows.shape

    def cosine(at: torch.Tensor) -> float:
        return float(toy.clip.encode_embeddings(toy.clip.add_special_embeddings(at[None]))[0] @ toy.target.double())

    step = 1e-6
    for place, dimension in torch.cartesian_prod(torch.arange(3), torch.arange(16)).tolist():
        nudge = torch.zeros_like(rows)
        nudge[place, dimension] = step
        slope = (cosine(rows + nudge) - cosine(rows - nudge)) / (2 * step)
        assert float(gradient[place, dimension]) == pytest.approx(slope, rel=1e-5, abs=1e-6)


def test_a_gradient_is_counted_forward_and_backward(toy):
    toy.score_and_gradient(toy.clip.embed(torch.tensor([[5, 9, 33]])))
    assert (toy.budget.forward_tokens, toy.budget.backward_tokens) == (5, 5)


def test_a_row_fits_with_its_two_special_tokens(toy):
    most = toy.clip.context_length - 2
    assert toy.fits(toy_row(*[1] * most)) and not toy.fits(toy_row(*[1] * (most + 1)))


@given(lengths=st.lists(st.integers(2, 40), min_size=1, max_size=300))
def test_batches_hold_every_row_once_and_little_padding(lengths):
    found = module.batches(lengths)
    assert sorted(i for batch in found for i in batch) == list(range(len(lengths)))
    for batch in found:
        mine = [lengths[i] for i in batch]
        assert mine == sorted(mine) and mine[-1] * len(mine) <= module.BATCH_TOKENS
        assert mine[-1] * len(mine) <= sum(mine) * (1 + module.MAX_PADDING) + module.SMALL_BATCH
    assert module.padded_positions(lengths) == sum(len(batch) * lengths[batch[-1]] for batch in found)


def test_words_ids_embeddings_and_text_of_one_prompt_score_alike(score, picturebook_lexicon):
    prompt = picturebook_lexicon.segment("two owls on a red background")
    ids = torch.tensor([[token for word in prompt for token in word.ids]])
    (by_words,) = score.score([prompt])
    (exact,) = (score.clip.encode_text([text_of(prompt)]) @ score.target).tolist()
    assert by_words == pytest.approx(exact, abs=1e-5)
    assert float(score.score_ids(ids)[0]) == pytest.approx(exact, abs=1e-5)
    assert score.score_text(text_of(prompt)) == pytest.approx(exact, abs=1e-5)
    embeddings = score.clip.embed(ids)
    assert float(score.score_embeddings(embeddings)[0]) == pytest.approx(exact, abs=1e-5)
    assert float(score.score_and_gradient(embeddings)[0][0]) == pytest.approx(exact, abs=1e-5)
    positions = ids.numel() + 2
    assert (score.budget.forward_tokens, score.budget.backward_tokens) == (5 * positions, positions)


def test_an_empty_text_and_one_beyond_the_context_have_scores(score):
    assert -1 <= score.score_text("") <= 1
    assert -1 <= score.score_text("fox " * 200) <= 1
