"""Which words may stand in a prompt, the nearest of them, and the index kept on disk."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from invert.cache import cache_folder
from invert.errors import InputError
from invert.models.clip import Clip
from invert.picturebook.grammar import terms
from invert.vocabulary import Vocabulary, _cached_index, build_vocabulary


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of each test's own."""
    monkeypatch.setenv("INVERT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def vocabulary(picturebook: Clip) -> Vocabulary:
    return build_vocabulary(picturebook)


def table(n: int = 50, width: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, width), dtype=np.float32)


def test_picturebook_offers_the_words_of_its_captions(vocabulary: Vocabulary) -> None:
    assert {word.text for word in vocabulary.words} == set(terms())
    assert vocabulary.word("owls").ids == tuple(vocabulary.clip.tokenizer.encode("owls"))


def test_a_model_without_a_lexicon_offers_whole_lower_case_words_of_one_token(transformers_clip) -> None:
    vocabulary = build_vocabulary(transformers_clip.clip)
    texts = {word.text for word in vocabulary.words}
    assert {"fox", "umbrella", "a", "above"} <= texts and len(texts) > 20_000
    assert all(text.isascii() and text.isalpha() and text.islower() for text in texts)
    assert all(len(word.ids) == 1 for word in vocabulary.words)
    assert not {transformers_clip.clip.start_id, transformers_clip.clip.end_id} & set(vocabulary.token_ids.tolist())


def test_banned_words_are_not_offered_in_whatever_case(picturebook: Clip) -> None:
    banned = build_vocabulary(picturebook, ban=["Fox", " owl "])
    kept = {word.text for word in banned.words}
    assert kept == {text for text in terms() if {"fox", "owl"}.isdisjoint(text.split())}


def test_a_list_of_ones_own_is_cut_to_what_the_model_knows(picturebook: Clip) -> None:
    own = build_vocabulary(picturebook, words=["fox", "owl", "fox", "zeitgeist"])
    assert [word.text for word in own.words] == ["fox", "owl"]
    with pytest.raises(InputError, match="vocabulary is empty"):
        build_vocabulary(picturebook, words=["zeitgeist"])


def test_a_text_that_holds_no_token_is_one_sentence(vocabulary: Vocabulary) -> None:
    with pytest.raises(InputError, match="holds nothing that the model's tokenizer can read"):
        vocabulary.word("  ")


def test_words_are_found_by_their_tokens_shortest_first(vocabulary: Vocabulary) -> None:
    (fox,) = vocabulary.word("fox").ids
    found = [vocabulary.words[i] for i in vocabulary.words_with_token[fox]]
    assert found[0].text == "fox"
    assert [len(word.ids) for word in found] == sorted(len(word.ids) for word in found)


def test_nearest_tokens_are_those_of_a_full_search(vocabulary: Vocabulary) -> None:
    generator = torch.Generator().manual_seed(0)
    queries = vocabulary.rows[:20] + 0.3 * vocabulary.rows.std() * torch.randn(20, vocabulary.rows.shape[1], generator=generator)
    ids, distances = vocabulary.nearest_tokens(queries, 5)
    exact = torch.cdist(queries.double(), vocabulary.rows.double())
    rows = torch.searchsorted(vocabulary.token_ids, ids)
    # Distances, not tokens: two may be as near as makes no difference in float32.
    torch.testing.assert_close(exact.gather(1, rows), exact.sort(1).values[:, :5], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(distances.double(), exact.gather(1, rows), rtol=1e-3, atol=1e-4)
    assert all(len(set(row)) == 5 for row in ids.tolist())


def test_a_row_is_its_own_nearest_token_and_noise_far_off_has_no_word(vocabulary: Vocabulary) -> None:
    ids, distances = vocabulary.nearest_tokens(vocabulary.rows[:10], 1)
    assert torch.equal(ids[:, 0], vocabulary.token_ids[:10]) and (distances < vocabulary.no_word_distance).all()
    _, far = vocabulary.nearest_tokens(vocabulary.rows[:3] * 10 + 5, 1)
    assert (far > vocabulary.no_word_distance).all()


def test_more_neighbours_than_rows_are_all_rows(picturebook: Clip) -> None:
    small = build_vocabulary(picturebook, words=["fox", "owl"])
    ids, _ = small.nearest_tokens(small.rows[:1], 10)
    assert sorted(ids[0].tolist()) == small.token_ids.tolist()


def test_the_index_is_written_once_and_read_back(cache: Path) -> None:
    first, distances = _cached_index(table())
    written = {file.name: file.stat().st_mtime_ns for file in cache.iterdir()}
    assert len(written) == 2
    time.sleep(0.01)
    again, same = _cached_index(table())
    assert {file.name: file.stat().st_mtime_ns for file in cache.iterdir()} == written
    assert np.array_equal(distances, same) and again.ntotal == first.ntotal == 50


def test_each_rows_distance_is_that_to_its_nearest_other_row() -> None:
    rows = table()
    _, distances = _cached_index(rows)
    exact = torch.cdist(torch.from_numpy(rows).double(), torch.from_numpy(rows).double())
    exact.fill_diagonal_(torch.inf)
    np.testing.assert_allclose(distances, exact.amin(1), rtol=1e-4)


def test_tables_that_differ_in_shape_alone_are_not_mixed_up() -> None:
    rows = table(16, 8)
    assert _cached_index(rows)[0].d == 8
    assert _cached_index(rows.reshape(8, 16))[0].d == 16


@pytest.mark.parametrize("ending", [".faiss", ".npy"])
@pytest.mark.parametrize("damage", ["empty", "cut", "text", "of another table"])
def test_damaged_cache_files_are_made_again(cache: Path, ending: str, damage: str) -> None:
    _, distances = _cached_index(table())
    file = next(file for file in cache.iterdir() if file.suffix == ending)
    whole = file.read_bytes()
    if damage == "of another table":
        _cached_index(table(30))
        other = next(f for f in cache.iterdir() if f.suffix == ending and f != file)
        file.write_bytes(other.read_bytes())
    else:
        file.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "text": b"not an index"}[damage])
    index, again = _cached_index(table())
    assert index.ntotal == 50 and np.array_equal(again, distances)
    assert file.read_bytes() == whole


def test_writers_at_the_same_time_leave_whole_files_and_nothing_else(cache: Path) -> None:
    rows = table(2000, 32)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: _cached_index(rows), range(16)))
    assert all(np.array_equal(results[0][1], distances) for _, distances in results)
    assert sorted(file.suffix for file in cache.iterdir()) == [".faiss", ".npy"]
    assert _cached_index(rows)[0].ntotal == 2000


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    index, distances = _cached_index(table())
    assert index.ntotal == 50 and len(distances) == 50


def test_the_cache_lies_where_the_user_keeps_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INVERT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", f"{os.sep}caches")
    assert cache_folder() == Path("/caches/invert")
