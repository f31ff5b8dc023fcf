"""Prompts as people write them: encoded once, read back, made again where the file is of no use."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from invert.corpus import as_prompts, encode_corpus, read_corpus
from invert.errors import InputError
from invert.picturebook.grammar import caption
from invert.picturebook.world import draw_scenes

CAPTIONS = tuple(dict.fromkeys(caption(scene) for scene in draw_scenes(40, 3)))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of each test's own."""
    monkeypatch.setenv("INVERT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_corpus_holds_the_models_own_latents(picturebook):
    corpus = encode_corpus(picturebook, CAPTIONS)
    assert corpus.prompts == CAPTIONS
    torch.testing.assert_close(corpus.latents.tensor(), picturebook.encode_text(CAPTIONS), atol=5e-4, rtol=0)


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "of another corpus"])
def test_a_damaged_file_is_made_again(picturebook, cache, damage):
    good = encode_corpus(picturebook, CAPTIONS)
    (file,) = cache.rglob("*.npz")
    whole = file.read_bytes()
    if damage == "of another corpus":
        encode_corpus(picturebook, CAPTIONS[:9])
        file.write_bytes(next(other for other in cache.rglob("*.npz") if other != file).read_bytes())
    else:
        file.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "text": b"no latents"}[damage])
    again = encode_corpus(picturebook, CAPTIONS)
    assert torch.equal(again.latents.tensor(), good.latents.tensor()) and file.read_bytes() == whole


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(picturebook, cache):
    cache.write_text("a file where the folder should be")
    assert len(encode_corpus(picturebook, CAPTIONS).latents) == len(CAPTIONS)


def test_the_nearest_captions_come_best_first(picturebook):
    corpus = encode_corpus(picturebook, CAPTIONS)
    target = picturebook.encode_text([CAPTIONS[11]])[0]
    found = corpus.nearest(target, 5)
    exact = (corpus.latents.tensor().double() @ target.double()).sort(descending=True).values[:5]
    assert found[0][0] == CAPTIONS[11] and len({text for text, _ in found}) == 5
    assert [score for _, score in found] == pytest.approx(exact.tolist(), abs=1e-5)
    assert len(corpus.nearest(target, 10_000)) == len(CAPTIONS)


def test_lines_become_distinct_prompts_in_lower_case():
    assert as_prompts(["A fox ", "", "  ", "a fox", "Two owls"]) == ("a fox", "two owls")


def test_a_users_file_is_one_prompt_a_line(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("A fox\n\n  two owls \na fox\n", encoding="utf-8")
    assert read_corpus(file) == ("a fox", "two owls")
    file.write_text("Épée\r\na fox", encoding="utf-8-sig")  # as Windows editors save it
    assert read_corpus(file) == ("épée", "a fox")


@pytest.mark.parametrize("content", [None, b"", b" \n\n", b"\xff\xfe\x00"], ids=["missing", "empty", "blank", "binary"])
def test_a_file_without_prompts_is_one_sentence(tmp_path, content):
    file = tmp_path / "prompts.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match="one prompt a line"):
        read_corpus(file)
