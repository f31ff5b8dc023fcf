"""k-means over chunks, over numbers far from the origin, in mini-batches and without an estimator."""

import numpy as np
import pytest
import torch
from sklearn.datasets import make_blobs

from clustering import Chunks, KMeans, MiniBatchKMeans
from clustering.runs import k_means, mean_variance


def blobs(n=600, d=3, k=5, seed=0, dtype=np.float32):
    x, _ = make_blobs(n, d, centers=k, random_state=seed)
    return x.astype(dtype)


def test_a_memory_map_is_clustered_in_chunks_with_the_same_result(tmp_path):
    x = blobs(5000, 4, 6)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    whole = KMeans(6, init=x[:6]).fit(x)
    for source in (mapped, lambda: iter(np.array_split(x, 7)), lambda: torch.from_numpy(x).split(999)):
        model = KMeans(6, init=torch.from_numpy(x[:6])).fit(Chunks(source, rows=700))
        np.testing.assert_array_equal(model.labels_, whole.labels_)
        np.testing.assert_allclose(model.cluster_centers_, whole.cluster_centers_, rtol=1e-5)
        assert model.inertia_ == pytest.approx(whole.inertia_, rel=1e-5)


@pytest.mark.parametrize("spherical", [False, True])
def test_chunks_choose_their_own_start_and_fill_empty_clusters(spherical):
    x = blobs(4000, 4, 6)
    model = KMeans(6, n_init=4, spherical=spherical).fit(Chunks(x, rows=512))
    whole = KMeans(6, n_init=4, spherical=spherical).fit(torch.from_numpy(x))
    assert model.inertia_ == pytest.approx(whole.inertia_, rel=0.02)
    far = torch.full((6, 4), 1e3) + torch.arange(6)[:, None]
    assert len(KMeans(6, init=far).fit(Chunks(x, rows=512)).labels_.unique()) == 6


def test_a_generator_that_runs_out_is_refused():
    with pytest.raises(TypeError, match="start over"):
        Chunks(iter([torch.rand(5, 2)]))
    with pytest.raises(ValueError, match="no points"):
        KMeans(2).fit(Chunks(lambda: iter([])))
    with pytest.raises(ValueError, match="sample_weight"):
        KMeans(2).fit(Chunks(torch.rand(9, 2)), sample_weight=torch.ones(8))


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64])
@pytest.mark.parametrize(("n", "d", "k"), [(40_000, 1, 2), (300_000, 2, 2), (30_000, 16, 20)])  # torch, compiled, bounded
@pytest.mark.parametrize("weighted", [False, True])
def test_means_of_many_large_numbers_are_exact(kind, n, d, k, weighted):
    values = torch.arange(k) * 512 + 49152  # held by every dtype
    x = values.repeat(n // k)[:, None].repeat(1, d).to(kind)
    weights = torch.rand(len(x), generator=torch.Generator().manual_seed(0)) + 0.1 if weighted else None
    for model in (KMeans(k), MiniBatchKMeans(k, max_epochs=2, batch_size=4096)):
        model.fit(x, sample_weight=weights)
        assert model.cluster_centers_[:, 0].double().sort().values.tolist() == values.tolist()
        assert model.inertia_ == 0


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e6])
@pytest.mark.parametrize(("n", "d", "k"), [(2000, 3, 5), (60_000, 2, 12), (6000, 24, 20)])
@pytest.mark.parametrize("weighted", [False, True])
def test_away_from_the_origin_centers_stay_in_the_box_of_their_points(offset, n, d, k, weighted):
    x = torch.from_numpy(blobs(n, d, k, dtype=np.float64) * 10 + offset).float()
    weights = torch.rand(n, generator=torch.Generator().manual_seed(0)) if weighted else None
    chunks = KMeans(k, n_init=2).fit(Chunks(x, rows=n // 3 + 1))
    batches = MiniBatchKMeans(k).fit(x, sample_weight=weights)
    for model in (KMeans(k, max_iter=100).fit(x, sample_weight=weights), chunks, batches):
        used = None if model is chunks else weights
        own = model.cluster_centers_.double()[model.labels_]
        squares = (x.double() - own).square().sum(1)
        assert model.inertia_ == pytest.approx(float(squares.sum() if used is None else squares @ used.double()), rel=1e-5)
        if model is batches:
            assert bool(((own >= x.double().amin(0)) & (own <= x.double().amax(0))).all())
            continue
        for label in range(k):
            members = x[model.labels_ == label]
            assert bool((model.cluster_centers_[label] >= members.amin(0)).all())
            assert bool((model.cluster_centers_[label] <= members.amax(0)).all())


def test_blobs_are_told_apart_wherever_they_lie():
    rng = np.random.default_rng(3)
    x = np.concatenate([rng.normal(c, 0.3, (2000, 2)) for c in ((0, 0), (5, 5), (0, 5))])
    for offset in (0, 1e4, 1e5):
        for model in (KMeans(3), MiniBatchKMeans(3)):
            assert np.bincount(model.fit((x + offset).astype("f4")).labels_).tolist() == [2000] * 3


def test_variance_in_chunks_is_the_variance():
    x = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 5.0, 0.1]) + 30
    assert mean_variance(x.split(77)) == pytest.approx(float(x.double().var(0, correction=0).mean()), rel=1e-5)


def test_mini_batches_come_close_to_full_passes():
    x = torch.from_numpy(blobs(6000, 3, 5))
    full = KMeans(5, n_init=3).fit(x)
    assert MiniBatchKMeans(5, batch_size=256).fit(x).inertia_ < 1.1 * full.inertia_


def test_a_partially_fitted_center_is_the_mean_of_all_that_came_to_it():
    x = torch.from_numpy(blobs(900, 2, 2, dtype=np.float64))
    model = MiniBatchKMeans(1)
    for batch in x.split(100):
        model.partial_fit(batch)
    torch.testing.assert_close(model.cluster_centers_[0], x.mean(0))
    assert model.counts_.tolist() == [900]
    assert model.n_iter_ == 9


def test_the_estimator_prints_itself():
    assert repr(KMeans(3, random_state=7)) == "KMeans(n_clusters=3, random_state=7)"


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64, torch.int64])
def test_runs_without_an_estimator_give_the_estimators_result(dtype: torch.dtype) -> None:
    points = (torch.randn(200, 5, generator=torch.Generator().manual_seed(3)) * 9).to(dtype)
    run, fit = k_means(points, 6, n_init=3, random_state=7), KMeans(6, n_init=3, random_state=7).fit(points)
    assert torch.equal(run.centers, fit.cluster_centers_) and torch.equal(run.labels, fit.labels_)
    assert (run.inertia, run.iterations) == (fit.inertia_, fit.n_iter_)


@pytest.mark.parametrize("points", [torch.zeros(2, 3), torch.full((9, 3), torch.nan), torch.zeros(9)])
def test_runs_without_an_estimator_refuse_what_it_refuses(points: torch.Tensor) -> None:
    with pytest.raises(ValueError):
        k_means(points, 3)
