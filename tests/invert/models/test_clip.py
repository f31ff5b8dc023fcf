"""Every adapter computes what its own library computes, on no more positions than the prompt has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from invert.errors import InputError
from invert.models.clip import Clip
from invert.models.device import pick_device
from invert.models.loading import load_clip
from invert.models.tokenizer import Frame
from invert.models.tower import TextTower
from invert.scorer import scores_and_gradients

PROMPTS = ["a fox", "", "two owls on a striped blue and white background, pencil sketch", "an x ray above the sun"]
TOLERANCE = 1e-5


def positions_run(clip: Clip, action: Callable[[], Any]) -> list[int]:
    """How many positions went through the first norm of each layer, in order."""
    seen: list[int] = []
    hooks = [
        layer.norm_1.register_forward_hook(lambda _module, _inputs, output: seen.append(output.shape[1]))
        for layer in clip.tower.layers
    ]
    action()
    for hook in hooks:
        hook.remove()
    return seen


def test_encoding_token_rows_is_the_models_own_encode_text(adapted) -> None:
    with torch.no_grad():
        ids, eot = adapted.clip.tokenize(PROMPTS)
        ours = adapted.clip.encode_embeddings(adapted.clip.embed(ids), eot)
        assert (ours - adapted.encode_text(PROMPTS)).abs().max() < TOLERANCE
        torch.testing.assert_close(adapted.clip.encode_text(PROMPTS), ours)


def test_images_are_encoded_as_the_model_does_it(adapted) -> None:
    clip = adapted.clip
    pixels = torch.rand(2, 3, clip.image_size, clip.image_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs = adapted.encode_image(clip.normalize(pixels))
    torch.testing.assert_close(clip.encode_image(pixels), theirs)


def test_a_picture_of_the_models_size_reads_the_same_as_pil_image_and_as_pixels(adapted) -> None:
    from torchvision.transforms.functional import to_pil_image

    size = adapted.clip.image_size
    pixels = torch.randint(0, 256, (3, size, size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    from_pil = adapted.clip.encode_image([to_pil_image(pixels)])
    assert (from_pil - adapted.clip.encode_image(pixels[None] / 255)).abs().max() < TOLERANCE


def test_what_comes_after_end_of_text_cannot_change_the_latent(adapted) -> None:
    clip = adapted.clip
    ids, eot = clip.tokenize(["a fox above a house"])
    rows = clip.embed(ids)
    noise = torch.randn(1, 9, rows.shape[2], generator=torch.Generator().manual_seed(0))
    padded = torch.cat([rows, noise], 1)
    assert torch.equal(clip.encode_embeddings(padded, eot), clip.encode_embeddings(rows, eot))


def test_no_position_beyond_end_of_text_is_run(adapted) -> None:
    clip = adapted.clip
    rows = clip.embed(torch.full((3, clip.context_length), clip.frame.pad))
    eot = torch.tensor([4, 2, 6])
    assert positions_run(clip, lambda: clip.encode_embeddings(rows, eot)) == [7] * len(clip.tower.layers)
    assert max(positions_run(clip, lambda: clip.encode_text(["a fox"]))) == 4


def test_the_gradient_in_the_embeddings_is_the_models_own(adapted) -> None:
    """Ours, with packed weights, against autograd through a plain reading of the same layers."""
    clip = adapted.clip
    rows = clip.embed(clip.tokenize(["a red fox"])[0]).clone().requires_grad_(True)
    direction = F.normalize(torch.randn(clip.encode_text([""]).shape[1], generator=torch.Generator().manual_seed(0)), dim=0)
    (ours,) = torch.autograd.grad((clip.encode_embeddings(rows) @ direction).sum(), rows)
    (theirs,) = torch.autograd.grad((F.normalize(slow_encode(clip.tower, rows), dim=-1) @ direction).sum(), rows)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


def slow_encode(tower: TextTower, rows: Tensor) -> Tensor:
    """The textbook transformer: every position in every layer, softmax(QKᵀ/√d) V written out."""
    x = rows + tower.positions[: rows.shape[1]]
    later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
    for layer in tower.layers:
        normed = layer.norm_1(x)
        both = F.linear(normed, layer.key_value.weight, layer.key_value.bias)
        q, k, v = map(layer.split, (F.linear(normed, layer.query.weight, layer.query.bias), *both.chunk(2, -1)))
        seen = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).masked_fill(later, -torch.inf).softmax(-1) @ v
        x = x + layer.scale_1(F.linear(seen.transpose(1, 2).flatten(2), layer.out.weight, layer.out.bias))
        hidden = layer.activation(F.linear(layer.norm_2(x), layer.fc1.weight, layer.fc1.bias))
        x = x + layer.scale_2(F.linear(hidden, layer.fc2.weight, layer.fc2.bias))
    return tower.projection(tower.final_norm(x[:, -1]))


def test_gradients_pass_the_numerical_check_in_float64(tiny_clip: Clip) -> None:
    rows = tiny_clip.embed(torch.tensor([[62, 3, 17, 63], [62, 9, 63, 63]])).clone().requires_grad_(True)
    eot = torch.tensor([3, 2])
    assert torch.autograd.gradcheck(lambda e: tiny_clip.encode_embeddings(e, eot), (rows,))
    prefix = tiny_clip.tower.prefix(rows[:1, :1].detach())
    assert torch.autograd.gradcheck(lambda e: tiny_clip.tower.encode_with_prefix(prefix, e, eot - 1), (rows[:, 1:],))


def test_an_embedding_after_end_of_text_has_no_gradient(tiny_clip: Clip) -> None:
    rows = tiny_clip.embed(torch.tensor([[62, 3, 63, 5, 6]])).clone().requires_grad_(True)
    tiny_clip.encode_embeddings(rows, torch.tensor([2])).sum().backward()
    assert rows.grad is not None
    assert (rows.grad[0, 3:] == 0).all() and (rows.grad[0, :3] != 0).any()


def test_a_cached_prefix_changes_nothing(adapted) -> None:
    clip = adapted.clip
    ids, eot = clip.tokenize(["a fox above a house", "a fox above", "a fox above the sun and the moon"])
    with torch.no_grad():
        rows = clip.embed(ids)
        whole = clip.tower.encode(rows, eot)
        cache = clip.tower.prefix(rows[0, :3])
        assert cache.length == 3
        cached = clip.tower.encode_with_prefix(cache, rows[:, 3:], eot - 3)
    torch.testing.assert_close(cached, whole, rtol=1e-4, atol=TOLERANCE)


def test_with_a_cached_prefix_only_the_rest_is_run(picturebook: Clip) -> None:
    rows = picturebook.embed(picturebook.tokenize(["a fox above a house"])[0])
    cache = picturebook.tower.prefix(rows[:, :4])
    run = positions_run(picturebook, lambda: picturebook.tower.encode_with_prefix(cache, rows[:, 4:]))
    assert run == [rows.shape[1] - 4] * len(picturebook.tower.layers)


def test_a_prompt_reads_the_same_alone_and_in_a_batch(adapted) -> None:
    together = adapted.clip.encode_text(PROMPTS)
    for prompt, latent in zip(PROMPTS, together, strict=True):
        torch.testing.assert_close(adapted.clip.encode_text([prompt])[0], latent, rtol=1e-4, atol=TOLERANCE)
        assert abs(float(latent.norm()) - 1) < TOLERANCE


def test_prompts_longer_than_the_context_are_cut(picturebook: Clip) -> None:
    ids, eot = picturebook.tokenize(["fox " * 200])
    assert ids.shape == (1, 77) and eot.tolist() == [76] and ids[0, -1] == picturebook.frame.pad
    with pytest.raises(ValueError, match="78 positions do not fit the model's context of 77"):
        picturebook.encode_embeddings(picturebook.embed(ids[:, :1]).expand(1, 78, -1))


def test_tokens_have_the_text_of_clips_vocabulary(adapted) -> None:
    tokenizer = adapted.clip.tokenizer
    ids = tokenizer.encode("two owls, a red fox")
    assert [adapted.clip.tokenizer.text(token) for token in ids] == ["two", "owls", ",", "a", "red", "fox"]
    *parts, last = tokenizer.encode("zeitgeistyish")
    assert parts and all(tokenizer.whole_word(token) is None for token in parts) and tokenizer.whole_word(last) == "ish"
    assert [tokenizer.whole_word(token) for token in tokenizer.encode("red fox")] == ["red", "fox"]
    assert tokenizer.encode_next("a red fox") == tokenizer.encode("a red fox") and not tokenizer.first_differs
    assert tokenizer.decode(ids).replace(" ", "") == "twoowls,aredfox"
    assert adapted.clip.frame == Frame((49406,), (49407,), 49407)


def test_open_clips_own_factory_reads_the_exported_picturebook(picturebook: Clip, tmp_path: Path) -> None:
    from invert.picturebook import models

    config, weights = models.export_open_clip("clip", tmp_path)
    open_clip.add_model_config(config)
    model, _, preprocess = open_clip.create_model_and_transforms(config.stem, pretrained=str(weights))
    tokens = open_clip.get_tokenizer(config.stem)(PROMPTS)
    from PIL import Image

    picture = Image.radial_gradient("L").convert("RGB")
    with torch.no_grad():
        text = model.eval().encode_text(tokens, normalize=True)
        image = model.encode_image(preprocess(picture)[None], normalize=True)
    assert (text - picturebook.encode_text(PROMPTS)).abs().max() < TOLERANCE
    assert (image - picturebook.encode_image([picture])).abs().max() < TOLERANCE


@pytest.mark.parametrize(("dtype", "error"), [("bfloat16", 2e-2), ("float16", 2e-3)])
def test_half_precision_stays_half_inside_and_gives_float32_latents(
    picturebook: Clip, pictures, dtype: str, error: float
) -> None:
    half = load_clip("picturebook", device="cpu", dtype=dtype)
    assert half.dtype == getattr(torch, dtype) and half.tower.layers[0].fc1.weight.dtype == half.dtype
    for ours, exact in (
        (half.encode_text(PROMPTS), picturebook.encode_text(PROMPTS)),
        (half.encode_image(pictures), picturebook.encode_image(pictures)),
    ):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.norm(dim=1), torch.ones(len(ours)))  # normalized after the rounding, not before
        assert (ours - exact).norm(dim=1).max() < 2 * error


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_gradients_of_half_precision_come_in_float32_and_close(picturebook: Clip, pictures, dtype: str) -> None:
    target = picturebook.encode_image(pictures[:1])
    ids = torch.tensor([picturebook.tokenizer.encode("a red fox and two owls")])
    _, exact = scores_and_gradients(picturebook, picturebook.embed(ids), target)
    half = load_clip("picturebook", device="cpu", dtype=dtype)
    _, gradient = scores_and_gradients(half, half.embed(ids), target)
    assert gradient.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(gradient.flatten(), exact.flatten(), dim=0) > 0.99


def test_an_unknown_precision_is_one_sentence() -> None:
    with pytest.raises(InputError, match="choose one of float32, float16, bfloat16"):
        load_clip("picturebook", device="cpu", dtype="float8")


def test_any_number_of_pictures_is_encoded_a_batch_at_a_time(picturebook: Clip, pictures, monkeypatch) -> None:
    seen: list[int] = []
    visual = picturebook.visual

    def counting(pixels: Tensor) -> Tensor:
        seen.append(len(pixels))
        return visual(pixels)

    monkeypatch.setattr(picturebook, "visual", counting)
    latents = picturebook.encode_image(pictures[i % len(pictures)] for i in range(70))  # an iterator: read as it is needed
    assert seen == [32, 32, 6] and latents.shape == (70, 256)
    torch.testing.assert_close(latents[67:], picturebook.encode_image(pictures)[[1, 2, 0]])


def test_a_device_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(InputError, match="cannot be used here"):
        load_clip("picturebook", device="warp")


@pytest.mark.parametrize(("cuda", "mps", "kind"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")])
def test_the_fastest_kind_of_device_is_picked(monkeypatch, cuda: bool, mps: bool, kind: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert pick_device(None) == torch.device(kind)
