"""Prompts as people write them: encoded once, read back, made again where the file is of no use."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from invert.corpus import EncodedCorpus, as_prompts, encode_corpus, read_corpus
from invert.errors import InputError
from invert.models.clip import Clip
from invert.models.loading import load_clip
from invert.picturebook.grammar import caption
from invert.picturebook.world import draw_scenes

CAPTIONS = tuple(dict.fromkeys(caption(scene) for scene in draw_scenes(40, 3)))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of each test's own."""
    monkeypatch.setenv("INVERT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def encoded(clip: Clip, captions: tuple[str, ...] = CAPTIONS) -> tuple[EncodedCorpus, int]:
    """The corpus, and how many prompts were encoded for it."""
    counting, prompts = copy.copy(clip), []

    def encode_text(texts):
        prompts.extend(texts)
        return clip.encode_text(texts)

    counting.encode_text = encode_text  # type: ignore[method-assign]
    return encode_corpus(counting, captions), len(prompts)


def only_file(cache: Path) -> Path:
    (file,) = cache.iterdir()
    return file


def test_a_corpus_holds_the_models_own_latents(picturebook):
    corpus, _ = encoded(picturebook)
    assert corpus.prompts == CAPTIONS and corpus.latents.dtype == torch.float32
    assert torch.equal(corpus.latents, picturebook.encode_text(CAPTIONS))


def test_it_is_encoded_once_and_read_back(picturebook, cache):
    first, all_of_them = encoded(picturebook)
    written = only_file(cache).stat().st_mtime_ns
    again, probes = encoded(picturebook)
    assert all_of_them >= len(CAPTIONS) and probes <= 4
    assert torch.equal(first.latents, again.latents) and only_file(cache).stat().st_mtime_ns == written


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "of another corpus"])
def test_a_damaged_file_is_made_again(picturebook, cache, damage):
    good, _ = encoded(picturebook)
    file = only_file(cache)
    whole = file.read_bytes()
    if damage == "of another corpus":
        encoded(picturebook, CAPTIONS[:9])
        file.write_bytes(next(other for other in cache.iterdir() if other != file).read_bytes())
    else:
        file.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "text": b"no latents"}[damage])
    again, _ = encoded(picturebook)
    assert torch.equal(again.latents, good.latents) and file.read_bytes() == whole


def test_another_model_does_not_read_this_ones_latents(picturebook, cache):
    judge = load_clip("picturebook-judge", device="cpu")
    encoded(picturebook)
    corpus, _ = encoded(judge)
    assert torch.equal(corpus.latents, judge.encode_text(CAPTIONS)) and len(list(cache.iterdir())) == 2


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(picturebook, cache):
    cache.write_text("a file where the folder should be")
    corpus, _ = encoded(picturebook)
    assert len(corpus.latents) == len(CAPTIONS)


def test_the_nearest_captions_come_best_first(picturebook):
    corpus, _ = encoded(picturebook)
    target = picturebook.encode_text([CAPTIONS[11]])[0]
    found = corpus.nearest(target, 5)
    exact = (corpus.latents.double() @ target.double()).sort(descending=True).values[:5]
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
