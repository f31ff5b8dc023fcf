"""B problems at once are B problems alone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clustering import KMeans, MiniBatchKMeans, batched, load


def problems(b=5, n=60, d=3, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(b, 4, d, generator=generator, dtype=torch.float64) * 6
    own = torch.randint(4, (b, n), generator=generator)
    noise = torch.randn(b, n, d, generator=generator, dtype=torch.float64)
    return (centers.gather(1, own[..., None].expand(-1, -1, d)) + noise).to(dtype)


def close(ours, alone, tolerance):
    torch.testing.assert_close(torch.as_tensor(ours), torch.as_tensor(alone), rtol=tolerance, atol=1e-5)


def check_equal_to_a_loop(model, x, weights=None):
    params = model.get_params()
    model.fit(x, sample_weight=weights)
    for number, one in enumerate(x):
        init = params["init"]
        own = {**params, "init": init if isinstance(init, str) or callable(init) or init.ndim == 2 else init[number]}
        alone = KMeans(**own).fit(one, sample_weight=None if weights is None else weights[number])
        np.testing.assert_array_equal(model.labels_[number], alone.labels_)
        close(model.cluster_centers_[number], alone.cluster_centers_, 1e-4)
        np.testing.assert_allclose(float(model.inertia_[number]), alone.inertia_, rtol=1e-4)
        assert int(model.n_iter_[number]) == alone.n_iter_
        assert type(model.labels_) is type(alone.labels_) and model.cluster_centers_.dtype == alone.cluster_centers_.dtype
        close(model.transform(x)[number], alone.transform(one), 1e-3)
        np.testing.assert_allclose(float(model.score(x)[number]), alone.score(one), rtol=1e-4)
        np.testing.assert_array_equal(model.predict(x)[number], alone.predict(one))


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(1, 6),
    st.integers(1, 5),
    st.sampled_from(["k-means++", "random"]),
    st.integers(1, 3),
    st.booleans(),
    st.booleans(),
)
def test_a_batch_is_fitted_as_a_loop_would(seed, b, k, init, n_init, spherical, weighted):
    x = problems(b, 30, 3, seed)
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randint(0, 4, (b, 30), generator=generator).double() * 0.3 if weighted else None
    if weights is not None:
        weights[:, 0] = 1
    check_equal_to_a_loop(KMeans(k, init=init, n_init=n_init, random_state=seed, spherical=spherical), x, weights)


def first_points(x, n_clusters, random_state):
    return x[:n_clusters]


@pytest.mark.parametrize(
    "init",
    [problems()[:, :4], problems()[0, :4], first_points, problems()[:, :4] + 1e3],
    ids=["own", "shared", "callable", "far"],
)
def test_starts_are_shared_or_each_problems_own_and_empty_clusters_are_filled(init):
    check_equal_to_a_loop(KMeans(4, init=init), problems())


@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16, torch.int64, "numpy"], ids=str)
def test_every_kind_of_batch(kind):
    x = problems().numpy().astype("f4") if kind == "numpy" else (problems() * 4).to(kind)
    check_equal_to_a_loop(KMeans(4, random_state=2), x)


@pytest.mark.parametrize("algorithm", ["lloyd", "balanced"])
def test_large_or_balanced_problems_run_one_after_the_other(algorithm, monkeypatch):
    monkeypatch.setattr(batched, "WORTH_COMPILING", 1)
    check_equal_to_a_loop(KMeans(4, algorithm=algorithm, init=problems()[:, :4]), problems())


def test_problems_in_several_groups_are_those_in_one(monkeypatch):
    x, model = problems(7), KMeans(3)
    whole = model.fit(x).labels_
    monkeypatch.setattr(batched, "group_size", lambda points, k: 2)
    assert torch.equal(model.fit(x).labels_, whole) and torch.equal(model.predict(x), whole)


def test_a_fitted_batch_is_saved_moved_and_shown(tmp_path, capsys):
    x = problems()
    model = KMeans(4, verbose=1)
    labels = model.fit_predict(x)
    assert "inertia" in capsys.readouterr().err
    again = load(model.save(tmp_path / "batch.safetensors"))
    assert torch.equal(again.predict(x), labels) and torch.equal(again.inertia_, model.inertia_)
    assert model.get_feature_names_out().tolist() == ["kmeans0", "kmeans1", "kmeans2", "kmeans3"]
    assert model.fit(x[0]).labels_.shape == (60,), "a refit on one problem forgets the batch"


def test_what_no_batch_is_is_refused():
    x = problems()
    model = KMeans(4).fit(x)
    with pytest.raises(ValueError, match=r"pass points of shape \(B, N, D\)"):
        model.predict(x[0])
    with pytest.raises(ValueError, match="5 were fitted"):
        model.predict(x[:3])
    with pytest.raises(ValueError, match="2 features"):
        model.predict(x[..., :2])
    with pytest.raises(ValueError, match=r"expected \(5, 60\)"):
        model.fit(x, sample_weight=torch.ones(60))
    with pytest.raises(ValueError, match="zero everywhere in a problem"):
        model.fit(x, sample_weight=torch.ones(5, 60) * torch.tensor([1.0, 0, 1, 1, 1])[:, None])
    with pytest.raises(ValueError, match="NaN"):
        model.fit(torch.full_like(x, torch.nan))
    with pytest.raises(ValueError, match="at least one problem"):
        model.fit(x[:0])
    with pytest.raises(ValueError, match="n_samples=60"):
        KMeans(61).fit(x)
    with pytest.raises(ValueError, match="of 2 problems"):
        KMeans(4, init=x[:2, :4]).fit(x)
    with pytest.raises(ValueError, match="shape"):
        MiniBatchKMeans(4).fit(x)
    with pytest.raises(ValueError, match="shape"):
        KMeans(4).fit(x[0]).predict(x)
