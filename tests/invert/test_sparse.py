"""Sparse combinations of words: what scikit-learn's lasso finds, and the words that a latent was made of."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.linear_model import Lasso

from invert.bundle import ModelBundle
from invert.errors import InputError
from invert.inverter import Inverter
from invert.methods.configs import InvertMethodConfig, SpliceConfig
from invert.sparse import nonnegative_lasso, sparse_weights


def test_it_finds_the_weights_of_scikit_learns_lasso() -> None:
    generator = torch.Generator().manual_seed(0)
    atoms = F.normalize(torch.randn(60, 24, generator=generator), dim=1)
    wanted = F.normalize(atoms[3] + 0.5 * atoms[7] + 0.1 * torch.randn(24, generator=generator), dim=0)
    theirs = Lasso(alpha=0.1 / 24, positive=True, fit_intercept=False, tol=1e-8, max_iter=10_000).fit(
        atoms.T.numpy(), wanted.numpy()
    )
    torch.testing.assert_close(
        nonnegative_lasso(atoms, wanted, 0.1, steps=2000), torch.from_numpy(theirs.coef_).float(), atol=1e-4, rtol=1e-3
    )


def test_a_latent_made_of_words_is_taken_apart_again() -> None:
    generator = torch.Generator().manual_seed(1)
    words = F.normalize(torch.randn(500, 64, generator=generator) + 1, dim=1)  # with much in common
    mean = words.mean(0)
    target = F.normalize(mean + 0.7 * (words[5] - mean) + 0.4 * (words[9] - mean), dim=0)
    weights = sparse_weights(target, words, l1=0.1)
    assert weights.topk(2).indices.tolist() == [5, 9] and (weights >= 0).all() and (weights > 0).sum() < 20
    assert sparse_weights(target, words, l1=0.3).sum() < weights.sum()
    gap = torch.randn(64, generator=generator) * 0.1
    assert sparse_weights(target - gap, words, mean - gap).topk(1).indices.tolist() == [5]


def test_the_method_gives_words_and_bans_them(toy_bundle: ModelBundle) -> None:
    inverter, picture = Inverter(toy_bundle), Image.new("RGB", (32, 32), "teal")
    result = inverter.invert(picture, method="splice", method_config=SpliceConfig(n_words=3, l1=0.01))
    words = result.prompt.split(", ")
    assert 1 <= len(words) <= 3 and set(words) <= {word.text for word in toy_bundle.lexicon.words}
    other = inverter.invert(picture, method="splice", ban=(words[0],))
    assert words[0] not in other.prompt.split(", ")
    assert inverter.invert(picture, method="splice", max_tokens=1).prompt == words[0]
    with pytest.raises(InputError, match="n_words"):
        SpliceConfig(n_words=0)


def test_a_search_tries_the_sparse_words_first(toy_bundle: ModelBundle) -> None:
    inverter, picture = Inverter(toy_bundle.with_(corpus=["w1 w2"])), Image.new("RGB", (32, 32), "teal")
    result = inverter.invert(picture, soft_steps=1, restarts=1, max_tokens=6, method_config=InvertMethodConfig(n_sparse=4))
    assert result.score > -1 and result.prompt
