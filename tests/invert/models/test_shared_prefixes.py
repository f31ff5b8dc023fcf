"""Prompts that share their beginnings get the latents that they get alone."""

from __future__ import annotations

import pytest
import torch

from invert.models.shared_prefixes import PrefixTree, encode_rows, encode_sharing


@pytest.fixture
def prompts(picturebook) -> tuple[torch.Tensor, torch.Tensor]:
    """40 prompts of 1 to 13 tokens that begin alike in twos, tens and all, with anything after their ends: ids and eot."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(5000, (40, 13), generator=generator)
    words[:, :2], words[20:, 2:6], words[::2, :9] = words[0, :2], words[20, 2:6], words[1::2, :9]
    eot = torch.randint(2, 15, (40,), generator=generator)
    ids = torch.cat([torch.full((40, 1), picturebook.frame.before[0]), words, words[:, :1]], 1)
    ids[torch.arange(40), eot] = picturebook.frame.after[0]
    return torch.nn.functional.pad(ids, (0, 1)), eot


def test_shared_prefixes_change_no_latent(picturebook, prompts):
    ids, eot = prompts
    exact = picturebook.tower.encode(picturebook.embed(ids), eot)
    torch.testing.assert_close(encode_sharing(picturebook.tower, ids, eot), exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("chosen", [slice(0, 1), slice(3, 9), slice(5, 40, 3)])
def test_a_latent_does_not_depend_on_the_batch_to_the_last_bit(picturebook, prompts, chosen):
    ids, eot = prompts
    assert torch.equal(
        encode_sharing(picturebook.tower, ids[chosen], eot[chosen]), encode_sharing(picturebook.tower, ids, eot)[chosen]
    )


def test_every_distinct_prefix_is_one_node(picturebook, prompts):
    ids, eot = prompts
    distinct = {tuple(row[: i + 1]) for row, end in zip(ids.tolist(), eot.tolist(), strict=True) for i in range(end + 1)}
    tree = PrefixTree(ids, eot)
    assert len(tree.token_ids) == len(distinct) + 1  # and one for all that is behind an end
    assert len(distinct) < 0.8 * int((eot + 1).sum())


def test_rows_with_room_behind_their_ends_have_the_latents_and_gradients_of_prompts_alone(picturebook, prompts):
    ids, eot = prompts
    at = picturebook.embed(ids).requires_grad_(True)
    latents = encode_rows(picturebook.tower, at, eot)
    (slopes,) = torch.autograd.grad(latents.pow(2).sum(), at)
    for i in (0, 7, 21):
        alone = picturebook.embed(ids[i : i + 1, : eot[i] + 1]).requires_grad_(True)
        latent = picturebook.tower.encode(alone)
        (slope,) = torch.autograd.grad(latent.pow(2).sum(), alone)
        torch.testing.assert_close(latents[i], latent[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(slopes[i, : eot[i] + 1], slope[0], rtol=1e-3, atol=1e-3)
        assert not slopes[i, eot[i] + 1 :].any()
