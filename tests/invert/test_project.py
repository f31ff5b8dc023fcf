"""Embeddings back to tokens: planted tokens, combinations and concepts are found, and far points have no word."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from invert.project import COMBINATION_POOL, concepts, nearest_combinations, project
from invert.token_index import TokenIndex


def noise(shape: tuple[int, ...], scale: Tensor, seed: int = 0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=scale.dtype)


@pytest.fixture(scope="module")
def index(toy_bundle) -> TokenIndex:
    return toy_bundle.token_index


@pytest.fixture(scope="module")
def spread(index: TokenIndex) -> Tensor:
    return index.embeddings.std()


def test_a_row_with_a_little_noise_is_its_own_token(index, spread):
    found = project(index.embeddings + noise((62, 16), 0.05 * spread), index)
    assert [projection.ids for projection in found] == [(i,) for i in range(62)]
    assert all(projection.has_word and projection.distance < spread for projection in found)


@pytest.mark.parametrize("size", [2, 3])
def test_a_mean_of_tokens_is_found_as_their_combination(index, spread, size):
    generator = torch.Generator().manual_seed(size)
    drawn = [sorted(torch.randperm(62, generator=generator)[:size].tolist()) for _ in range(40)]
    means = torch.stack([index.embeddings[tokens].mean(0) for tokens in drawn])
    pool = index.nearest(means, COMBINATION_POOL)[0].tolist()  # 24 of 62 tokens, in 16 dimensions: not always all
    planted = [tokens for tokens, near in zip(drawn, pool, strict=True) if set(near).issuperset(tokens)]
    assert len(planted) >= 20
    means = torch.stack([index.embeddings[tokens].mean(0) for tokens in planted])
    found = project(means + noise(tuple(means.shape), 0.02 * spread), index)
    assert [sorted(projection.ids) for projection in found] == planted
    assert all(projection.has_word for projection in found)


def test_a_single_token_is_all_that_is_asked_for(index):
    mean = index.embeddings[[4, 9]].mean(0, keepdim=True)
    (found,) = project(mean, index, most=1)
    assert found.ids in {(4,), (9,)}
    assert found.distance == pytest.approx(float((index.embeddings[4] - mean[0]).norm()), rel=1e-4)


def test_pairs_are_the_most_that_is_combined_where_two_are_asked_for(index):
    (found,) = project(index.embeddings[[4, 9, 30]].mean(0, keepdim=True), index, most=2)
    assert len(found.ids) == 2


def test_a_point_far_from_all_rows_has_no_word(index, spread):
    found = project(index.embeddings[:5] * 10 + 50 * spread, index)
    assert not any(projection.has_word for projection in found)
    assert all(projection.distance > index.no_word_distance for projection in found)


def test_a_combination_is_written_with_hyphens(index, toy_clip):
    clip = toy_clip
    (single,) = project(index.embeddings[5:6], index)
    (pair,) = project(index.embeddings[[5, 6]].mean(0, keepdim=True), index)
    plain = {token: clip.tokenizer.text(token) for token in (5, 6)}
    assert single.text(clip) == plain[5]
    assert pair.text(clip) == "-".join(plain[token] for token in pair.ids)


@given(seed=st.integers(0, 10_000), n=st.integers(2, 9))
def test_the_nearest_combination_is_that_of_a_full_search(seed, n):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(n, 5, generator=generator, dtype=torch.float64)
    points = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    for most in (2, 3):
        sets = [s for size in range(2, most + 1) for s in itertools.combinations(range(n), size)]
        for point, (found, distance) in zip(points, nearest_combinations(points, rows.expand(3, n, 5), most), strict=True):
            naive = {s: float((rows[list(s)].mean(0) - point).norm()) for s in sets}
            assert found == min(naive, key=naive.__getitem__) and distance == pytest.approx(naive[found])


def test_a_single_row_combines_with_nothing():
    assert nearest_combinations(torch.zeros(1, 5), torch.ones(1, 1, 5), 3) == [((), torch.inf)]


def test_more_embeddings_than_are_compared_at_once_are_all_projected(index, monkeypatch):
    whole = project(index.embeddings[:7] * 1.5, index)
    monkeypatch.setattr("invert.project.AT_ONCE", 3)
    assert [one.ids for one in project(index.embeddings[:7] * 1.5, index)] == [one.ids for one in whole]


@pytest.fixture(scope="module")
def planted(index: TokenIndex, spread: Tensor) -> Tensor:
    """Eight restarts: w3 and w50 in each, w17 in half of them (w3 once more in the others), in any order."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.tensor([[3, 50, 17 if restart % 2 else 3] for restart in range(8)])
    shuffled = torch.stack([row[torch.randperm(3, generator=generator)] for row in tokens])
    return index.embeddings[shuffled] + noise((8, 3, 16), 0.02 * spread)


def test_concepts_are_what_the_restarts_agree_on_with_their_shares(index, planted):
    found = concepts(planted, index, seed=0)
    shares = {index.lexicon.words[concept.words[0][0]].text: concept.share for concept in found}
    assert shares == {"w3": 1.0, "w50": 1.0, "w17": 0.5}
    assert [concept.share for concept in found] == [1.0, 1.0, 0.5]


def test_a_concepts_words_come_nearest_first_and_each_once(index, planted):
    for concept in concepts(planted, index, seed=0, words=7):
        distances = [distance for _, distance in concept.words]
        assert distances == sorted(distances) and len(distances) == 7
        assert len({word for word, _ in concept.words}) == 7
        exact = (index.embeddings[[word for word, _ in concept.words]] - concept.centroid).norm(dim=1)
        torch.testing.assert_close(torch.tensor(distances, dtype=exact.dtype), exact, rtol=1e-3, atol=1e-5)


def test_the_same_seed_gives_the_same_concepts(index, planted):
    first, again = concepts(planted, index, seed=4), concepts(planted, index, seed=4)
    assert [(c.share, c.words) for c in first] == [(c.share, c.words) for c in again]


def test_a_single_restart_has_its_own_positions_as_concepts(index, planted):
    found = concepts(planted[1:2], index, seed=0)
    assert {index.lexicon.words[concept.words[0][0]].text for concept in found} == {"w3", "w50", "w17"}
    assert all(concept.share == 1 for concept in found)
