"""Text encoders beside CLIP's give what their own libraries give: latents, gradients, padding, truncation."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from invert.budget import Budget
from invert.bundle import load_bundle
from invert.errors import InputError, MissingExtraError
from invert.lexicon import text_of
from invert.models.loading import load_clip
from invert.scorer import PromptScorer

TOLERANCE = 1e-5
PROMPTS = [
    "a photo of a fox", "", "Two OWLS, on a branch!", "  an x-ray   of houses ", "zeitgeist", "fox " * 200, "the owl and the fox",
]  # fmt: skip
PICTURE = Image.radial_gradient("L").resize((48, 40)).convert("RGB")


def test_prompts_have_the_latents_that_the_library_gives_them(encoder) -> None:
    with torch.no_grad():
        ours, theirs = encoder.clip.encode_text(PROMPTS), encoder.encode_text(PROMPTS)
    assert (ours - theirs).abs().max() < TOLERANCE
    assert (theirs[0] - theirs[2]).abs().max() > 1e-3  # the models tell prompts apart


def test_pictures_have_the_latents_that_the_library_gives_them(encoder) -> None:
    with torch.no_grad():
        theirs = encoder.encode_image(PICTURE)
    assert (encoder.clip.encode_image([PICTURE]) - theirs).abs().max() < TOLERANCE


def test_a_picture_of_the_models_size_reads_the_same_as_pixels(encoder) -> None:
    from torchvision.transforms.functional import to_pil_image

    size = encoder.clip.image_size
    pixels = torch.randint(0, 256, (3, size, size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    from_pil = encoder.clip.encode_image([to_pil_image(pixels)])
    assert (from_pil - encoder.clip.encode_image(pixels[None] / 255)).abs().max() < TOLERANCE


@pytest.mark.parametrize("family", ["open_clip SigLIP 2", "MobileCLIP", "SigLIP, padding masked", "MetaCLIP 2"])
def test_gradients_pass_the_numerical_check_in_float64(family_of: Callable, family: str) -> None:
    clip = load_clip(str(family_of(family).folder), device="cpu", dtype=torch.float64)
    rows = clip.embed(torch.tensor([clip.tokenizer.encode("red fox")])).clone().requires_grad_(True)
    assert torch.autograd.gradcheck(clip.encode_prompt_embeddings, (rows,))


def test_words_of_a_prompt_are_scored_as_the_text_is(encoder) -> None:
    """Word by word with shared beginnings, as a search does it, and Gemma's first words too."""
    bundle = load_bundle(encoder.clip, "generic")
    words = {word.text: word for word in bundle.lexicon.words}
    prompts = [bundle.lexicon.segment(text) for text in ("red fox", "red owl above", "red house and the fox", "fox")]
    assert {"fox", "owl", "red"} <= words.keys()
    target = encoder.clip.encode_image([PICTURE])[0]
    budget = Budget()
    scorer = PromptScorer(encoder.clip, target, budget)
    found = [*scorer.score(prompts[:3], 1), *scorer.score(prompts[3:])]
    with torch.no_grad():
        wanted = encoder.encode_text([text_of(prompt) for prompt in prompts]) @ target
        assert abs(scorer.score_text("a red fox") - float(encoder.encode_text(["a red fox"])[0] @ target)) < TOLERANCE
    assert torch.tensor(found).sub(wanted).abs().max() < TOLERANCE


def test_the_padding_that_a_tower_reads_is_paid_for(family_of: Callable) -> None:
    for family, paid in (("SigLIP", 4 * 64), ("CLIPA", 4 * 32), ("MobileCLIP", 4 * 77), ("MetaCLIP 2", 1 * 4 + 3 * 5)):
        clip = family_of(family).clip
        budget, (word, other) = Budget(), load_bundle(clip, "generic").lexicon.words[:2]
        scorer = PromptScorer(clip, clip.encode_text(["a fox"])[0], budget)
        scorer.score([(word, other)])
        scorer.score([(word, other, word), (other, word, other), (other, other, word)])
        assert (budget.forward_tokens, family) == (paid, family)
        embeddings = clip.embed(torch.zeros(2, 3, dtype=torch.int64))
        scorer.score_and_gradient(embeddings)
        assert budget.backward_tokens == 2 * clip.frame.positions(3)


def test_bidirectional_towers_share_no_prefix(family_of: Callable) -> None:
    tower = family_of("SigLIP").clip.tower
    assert not tower.shares_prefixes and family_of("MetaCLIP 2").clip.tower.shares_prefixes
    with pytest.raises(ValueError, match="shares no prefix"):
        tower.prefix(torch.zeros(1, 2, 16))


def test_every_position_of_a_bidirectional_row_changes_the_latent(family_of: Callable) -> None:
    """Padding included, as it was trained; where the library masks it, it changes nothing."""
    for family, reads_padding in (("SigLIP", True), ("MobileCLIP", True), ("SigLIP, padding masked", False)):
        clip = family_of(family).clip
        ids, end = clip.tokenize(["a red fox"])
        rows = clip.embed(ids).clone()
        before = clip.encode_embeddings(rows, end)
        rows[0, -2] += 1
        assert (not torch.equal(clip.encode_embeddings(rows, end), before)) == reads_padding


def test_tokenizers_name_words_and_frames(family_of: Callable) -> None:
    gemma, pieces, bert = (family_of(name).clip.tokenizer for name in ("SigLIP 2", "SigLIP", "CLIPA"))
    assert gemma.first_differs and not pieces.first_differs and not bert.first_differs
    assert gemma.encode("fox fox") == [*gemma.encode("fox"), *gemma.encode_next("fox")] and len(gemma.encode_next("fox")) == 1
    assert gemma.encode("RED Fox") == gemma.encode("red fox")
    for tokenizer in (gemma, pieces, bert):
        (token,) = tokenizer.encode_next("fox")
        assert tokenizer.whole_word(token) == tokenizer.text(token) == "fox"
        parts = tokenizer.encode_next("zzq")
        assert len(parts) > 1 and tokenizer.whole_word(parts[-1]) is None
    assert (gemma.frame.before, gemma.frame.after, gemma.frame.pad, gemma.frame.length) == ((), (1,), 0, 64)
    assert (pieces.frame.after, pieces.frame.pad) == ((1,), 1)
    assert (bert.frame.before, bert.frame.after, bert.frame.pad, bert.frame.length) == ((2,), (0,), 0, 32)


def test_a_missing_sentencepiece_is_named_with_its_extra(family_of: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(MissingExtraError, match=r"sentencepiece, which is not installed: run pip install .*\[siglip\]"):
        load_clip(str(family_of("SigLIP").folder), device="cpu")


def test_a_tokenizer_that_pads_otherwise_is_refused(family_of: Callable, tmp_path: Path) -> None:
    folder = shutil.copytree(family_of("SigLIP 2").folder, tmp_path / "left")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "padding_side": "left"}))
    with pytest.raises(InputError, match="not supported: give a model whose prompts are words between special tokens, padded on"):
        load_clip(str(folder), device="cpu")


def test_a_checkpoint_that_was_trained_on_lower_case_reads_it(family_of: Callable, save_gemma: Callable, tmp_path: Path) -> None:
    """SigLIP 2's own files name Gemma's tokenizer, which keeps case, and say that training did not."""
    folder = shutil.copytree(family_of("SigLIP 2").folder, tmp_path / "cased")
    save_gemma(folder, "GemmaTokenizer")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    for lower in (False, True):
        (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "do_lower_case": lower}))
        tokenizer = load_clip(str(folder), device="cpu").tokenizer
        assert (tokenizer.encode("a RED fox") == tokenizer.encode("a red fox")) == lower
