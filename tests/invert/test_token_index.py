"""The nearest tokens to an embedding, and the index kept on disk."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from invert.bundle import ModelBundle
from invert.cache import cache_folder
from invert.lexicon import Lexicon
from invert.token_index import TokenIndex, cached_index


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of each test's own."""
    monkeypatch.setenv("INVERT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def index(picturebook_bundle: ModelBundle) -> TokenIndex:
    return picturebook_bundle.token_index


def table(n: int = 50, width: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, width), dtype=np.float32)


def test_nearest_tokens_are_those_of_a_full_search(index: TokenIndex) -> None:
    generator = torch.Generator().manual_seed(0)
    queries = index.embeddings[:20] + 0.3 * index.embeddings.std() * torch.randn(
        20, index.embeddings.shape[1], generator=generator
    )
    ids, distances = index.nearest(queries, 5)
    exact = torch.cdist(queries.double(), index.embeddings.double())
    rows = torch.searchsorted(index.token_ids, ids)
    # Distances, not tokens: two may be as near as makes no difference in float32.
    torch.testing.assert_close(exact.gather(1, rows), exact.sort(1).values[:, :5], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(distances.double(), exact.gather(1, rows), rtol=1e-3, atol=1e-4)
    assert all(len(set(row)) == 5 for row in ids.tolist())


def test_a_row_is_its_own_nearest_token_and_noise_far_off_has_no_word(index: TokenIndex) -> None:
    ids, distances = index.nearest(index.embeddings[:10], 1)
    assert torch.equal(ids[:, 0], index.token_ids[:10]) and (distances < index.no_word_distance).all()
    _, far = index.nearest(index.embeddings[:3] * 10 + 5, 1)
    assert (far > index.no_word_distance).all()


def test_more_neighbors_than_tokens_are_all_tokens(picturebook_bundle: ModelBundle) -> None:
    clip = picturebook_bundle.clip
    words = Lexicon.of_texts(["fox", "owl"], frozenset(), clip.tokenizer.encode)
    small = TokenIndex(clip.token_embeddings, words)
    ids, _ = small.nearest(small.embeddings[:1], 10)
    assert sorted(ids[0].tolist()) == small.token_ids.tolist()


def test_the_distances_are_written_once_and_read_back(cache: Path) -> None:
    first, distances = cached_index(table())
    (file,) = cache.iterdir()
    os.utime(file, (1, 1))
    again, same = cached_index(table())
    assert list(cache.iterdir()) == [file] and file.stat().st_mtime == 1
    assert np.array_equal(distances, same) and again.ntotal == first.ntotal == 50


def test_each_rows_distance_is_that_to_its_nearest_other_row() -> None:
    rows = table()
    _, distances = cached_index(rows)
    exact = torch.cdist(torch.from_numpy(rows).double(), torch.from_numpy(rows).double())
    exact.fill_diagonal_(torch.inf)
    np.testing.assert_allclose(distances, exact.amin(1), rtol=1e-4)


def test_tables_that_differ_in_shape_alone_are_not_mixed_up() -> None:
    rows = table(16, 8)
    assert cached_index(rows)[0].d == 8
    assert cached_index(rows.reshape(8, 16))[0].d == 16


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "zeroed tail", "of another table"])
def test_a_damaged_cache_file_is_made_again(cache: Path, damage: str) -> None:
    _, distances = cached_index(table())
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    if damage == "of another table":
        cached_index(table(30))
        other = next(f for f in cache.iterdir() if f != file)
        file.write_bytes(other.read_bytes())
    else:
        zeroed = whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2)
        damaged = {"empty": b"", "cut": whole[: len(whole) // 2], "text": b"not an archive", "zeroed tail": zeroed}
        file.write_bytes(damaged[damage])
    index, again = cached_index(table())
    assert index.ntotal == 50 and np.array_equal(again, distances)
    assert file.read_bytes() == whole


def test_writers_at_the_same_time_leave_whole_files_and_nothing_else(cache: Path) -> None:
    rows = table(2000, 32)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: cached_index(rows), range(16)))
    assert all(np.array_equal(results[0][1], distances) for _, distances in results)
    assert sorted(file.suffix for file in cache.iterdir()) == [".npz"]
    assert cached_index(rows)[0].ntotal == 2000


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    index, distances = cached_index(table())
    assert index.ntotal == 50 and len(distances) == 50


def test_the_cache_lies_where_the_user_keeps_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INVERT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", f"{os.sep}caches")
    assert cache_folder() == Path("/caches/invert")


def test_a_words_mean_embedding_is_that_of_its_tokens(index: TokenIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("invert.token_index.WORDS", 100)
    some = range(0, len(index.lexicon), 37)
    expected = torch.stack([index.table[list(index.lexicon.words[i].ids)].float().mean(0) for i in some])
    torch.testing.assert_close(TokenIndex(index.table, index.lexicon).word_means[list(some)], expected)
