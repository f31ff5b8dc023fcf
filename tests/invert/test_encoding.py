"""A list of prompts is encoded as one call of the model would, kept on disk as it goes, and cut where time is up."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from invert import encoding
from invert.encoding import CHUNK, encode_prompts, reporting
from invert.latents import LatentTable
from invert.models.loading import load_clip

PROMPTS = [" ".join(["fox", "owl", "red", "hat"][: 1 + i % 4]) + f" {i}" for i in range(1000)]
N_CHUNKS = -(-len(PROMPTS) // CHUNK)


@pytest.fixture
def encoded(tmp_path, monkeypatch) -> list[int]:
    """A cache of the test's own, and how many prompts each call of the tower was for."""
    monkeypatch.setenv("INVERT_CACHE", str(tmp_path))
    sizes, encode = [], encoding.encode
    monkeypatch.setattr(encoding, "encode", lambda clip, prompts: sizes.append(len(prompts)) or encode(clip, prompts))
    return sizes


def files_in(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.npz"))


def test_latents_are_the_models_own_in_half_precision(picturebook, encoded):
    indices, table = encode_prompts(picturebook, PROMPTS)
    assert indices == list(range(len(PROMPTS))) and table.in_memory and table.parts[0].dtype == torch.float16
    torch.testing.assert_close(table.tensor(), picturebook.encode_text(PROMPTS).float(), atol=5e-4, rtol=0)


def test_what_is_on_disk_is_not_encoded_again_and_damage_is_found(picturebook, encoded, tmp_path):
    first = encode_prompts(picturebook, PROMPTS)[1].tensor()
    files = files_in(tmp_path)
    assert len(files) == N_CHUNKS and sum(encoded) == len(PROMPTS)
    assert torch.equal(encode_prompts(picturebook, PROMPTS)[1].tensor(), first) and sum(encoded) == len(PROMPTS)
    content = files[0].read_bytes()
    files[0].write_bytes(content[:-500] + bytes(500))
    assert torch.equal(encode_prompts(picturebook, PROMPTS)[1].tensor(), first)
    assert len(encoded) == N_CHUNKS + 1 and files[0].read_bytes() == content


@pytest.mark.parametrize("change", [lambda x: x[:, :3], lambda x: x[:, 0], np.float32, lambda x: x * np.float16(np.nan), np.sum])
def test_a_chunk_that_holds_no_latents_of_this_model_is_encoded_again(picturebook, encoded, tmp_path, change):
    first = encode_prompts(picturebook, PROMPTS[:8])[1].tensor()
    (file,) = files_in(tmp_path)
    np.savez(file, latents=change(np.load(file)["latents"]))
    assert torch.equal(encode_prompts(picturebook, PROMPTS[:8])[1].tensor(), first) and len(encoded) == 2


def test_a_list_that_grew_is_encoded_where_it_is_new(picturebook, encoded):
    encode_prompts(picturebook, PROMPTS[: 2 * CHUNK])
    del encoded[:]
    encode_prompts(picturebook, PROMPTS)
    assert sum(encoded) == len(PROMPTS) - 2 * CHUNK


def test_another_model_does_not_read_this_ones_latents(picturebook, encoded, tmp_path):
    judge = load_clip("picturebook-judge", device="cpu")
    for clip in (picturebook, judge):
        table = encode_prompts(clip, PROMPTS[:9])[1]
        torch.testing.assert_close(table.tensor(), clip.encode_text(PROMPTS[:9]).float(), atol=5e-4, rtol=0)
    assert len(files_in(tmp_path)) == 2


def test_where_time_is_up_what_was_encoded_is_kept_and_the_next_run_goes_on(picturebook, encoded):
    indices, table = encode_prompts(picturebook, PROMPTS, exhausted=lambda: len(encoded) == 2)
    assert len(indices) == len(table) < len(PROMPTS) and indices == sorted(set(indices)) and len(encoded) == 2
    whole = picturebook.encode_text([PROMPTS[i] for i in indices]).float()
    torch.testing.assert_close(table.tensor(), whole, atol=5e-4, rtol=0)
    assert encode_prompts(picturebook, PROMPTS, exhausted=lambda: True)[0] == indices and len(encoded) == 2
    assert len(encode_prompts(picturebook, PROMPTS)[0]) == len(PROMPTS) and len(encoded) == N_CHUNKS


def test_time_that_was_up_before_it_began_leaves_one_chunk(picturebook, encoded):
    assert encode_prompts(picturebook, PROMPTS, lambda: True, in_order=True)[0] == list(range(CHUNK))


def test_a_stopped_run_keeps_its_chunks(picturebook, encoded, monkeypatch, tmp_path):
    encode = encoding.encode

    def stopped(clip, prompts):
        if len(encoded) == 3:
            raise KeyboardInterrupt
        return encode(clip, prompts)

    monkeypatch.setattr(encoding, "encode", stopped)
    with pytest.raises(KeyboardInterrupt):
        encode_prompts(picturebook, PROMPTS)
    assert len(files_in(tmp_path)) == 3


def test_of_a_long_list_the_latents_stay_in_their_files(picturebook, encoded, monkeypatch, tmp_path):
    targets = picturebook.encode_text(["red owl", "fox 17"]).float()
    known = encode_prompts(picturebook, PROMPTS)[1]
    monkeypatch.setattr(encoding, "MOST_IN_MEMORY", 500)
    for table in (encode_prompts(picturebook, PROMPTS)[1], encode_prompts(picturebook, PROMPTS)[1]):
        assert not table.in_memory and len(table) == len(PROMPTS)
        assert not any(isinstance(part, torch.Tensor) for part in table.parts)
        torch.testing.assert_close(table.nearest(targets, 7), known.nearest(targets, 7))
    assert len(encoded) == N_CHUNKS
    files_in(tmp_path)[1].unlink()  # between the start and a search
    assert torch.equal(table.tensor(), known.tensor()) and len(encoded) == N_CHUNKS + 1


def test_a_cache_that_cannot_be_written_keeps_long_lists_in_memory(picturebook, encoded, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("INVERT_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(encoding, "MOST_IN_MEMORY", 500)
    assert encode_prompts(picturebook, PROMPTS)[1].in_memory


def test_progress_is_told_where_something_is_encoded(picturebook, encoded, monkeypatch, caplog):
    monkeypatch.setattr(encoding, "LOGGED", 500)
    seen: list[tuple[int, int]] = []
    with reporting(lambda done, total: seen.append((done, total))), caplog.at_level(logging.INFO, "invert"):
        encode_prompts(picturebook, PROMPTS, in_order=True)
        first = seen.copy()
        encode_prompts(picturebook, PROMPTS)
    assert first == seen == [(done, len(PROMPTS)) for done in [*range(0, len(PROMPTS), CHUNK), len(PROMPTS)]]
    assert "encoded 512 of 1,000 prompts" in caplog.text


def test_rows_of_a_table_in_parts_are_those_of_one_tensor(monkeypatch):
    rows = torch.nn.functional.normalize(torch.randn(50, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    whole = LatentTable.of(rows)
    parts = LatentTable([lambda: rows[:20], lambda: rows[20:21], rows[21:]], [20, 1, 29], rows.device)
    monkeypatch.setattr("invert.latents.BLOCK", 8)
    chosen = [0, 19, 20, 21, 49]
    for table in (whole, parts):
        assert torch.equal(table.tensor(), rows) and torch.equal(table.of_rows(chosen).tensor(), rows[chosen])
        torch.testing.assert_close(table.cosines(rows[7]), rows @ rows[7])
        scores, found = table.nearest(rows[:3], 60)
        torch.testing.assert_close(scores, (rows[:3] @ rows.T).sort(1, descending=True).values)
        assert found[:, 0].tolist() == [0, 1, 2] and found.shape == (3, 50)
