"""A corpus is encoded as one call of the model would, kept by chunks, and cut where time is up."""

from __future__ import annotations

import logging

import pytest
import torch

from invert import encoding
from invert.encoding import encode_prompts

PROMPTS = [" ".join(["fox", "owl", "red", "hat"][: 1 + i % 4]) + f" {i}" for i in range(1000)]


class Counted:
    """The bundled model, which counts the prompts that it encodes."""

    def __init__(self, clip) -> None:
        self.clip, self.count = clip, 0
        self.device, self.tokenizer, self.max_prompt_tokens = clip.device, clip.tokenizer, clip.max_prompt_tokens
        self.dtype = clip.dtype

    def encode_text(self, prompts):
        self.count += len(prompts)
        return self.clip.encode_text(prompts)


@pytest.fixture
def clip(picturebook, tmp_path, monkeypatch) -> Counted:
    monkeypatch.setenv("INVERT_CACHE", str(tmp_path))
    return Counted(picturebook)


def test_latents_are_those_of_one_call_to_the_last_bit(clip):
    indices, latents = encode_prompts(clip, PROMPTS)
    assert indices == list(range(len(PROMPTS)))
    assert torch.equal(latents, clip.clip.encode_text(PROMPTS).float())


def test_what_is_on_disk_is_not_encoded_again_and_damage_is_found(clip, tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "CHUNK", 300)
    first = encode_prompts(clip, PROMPTS)[1]
    files = sorted(tmp_path.iterdir())
    assert len(files) == 4
    before = clip.count
    assert torch.equal(encode_prompts(clip, PROMPTS)[1], first) and clip.count - before == 4 * 4  # the probes
    content = files[0].read_bytes()
    files[0].write_bytes(content[:-500] + bytes(500))
    assert torch.equal(encode_prompts(clip, PROMPTS)[1], first) and clip.count - before > 200
    assert files[0].read_bytes() == content


def test_where_time_is_up_what_was_encoded_is_used_and_the_next_run_goes_on(clip, monkeypatch, caplog):
    monkeypatch.setattr(encoding, "CHUNK", 512)
    with caplog.at_level(logging.INFO, "invert"):
        indices, latents = encode_prompts(clip, PROMPTS, exhausted=lambda: clip.count > 700)
    assert 512 < len(indices) < len(PROMPTS) and indices == sorted(set(indices)) and len(latents) == len(indices)
    assert "rest is left out" in caplog.text and "encoded 512 of 1,000" in caplog.text
    whole = clip.clip.encode_text([PROMPTS[i] for i in indices])
    assert torch.allclose(latents, whole, atol=1e-5)
    before = clip.count
    assert len(encode_prompts(clip, PROMPTS)[0]) == len(PROMPTS) and clip.count - before < 512


def test_time_that_was_up_before_it_began_leaves_one_batch(clip):
    assert len(encode_prompts(clip, PROMPTS, exhausted=lambda: True)[0]) == encoding.BATCH
