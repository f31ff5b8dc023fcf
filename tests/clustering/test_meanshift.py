"""Mean shift: the lesson's loop made fast, scikit-learn's modes, and neighbors that approximate all pairs."""

import numpy as np
import pytest
import sklearn.cluster
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.estimator_checks import check_estimator

from clustering import MeanShift, estimate_bandwidth
from clustering.merging import heaviest, merge_points
from clustering.shift import Kernel, shift_targets_all, shift_targets_nearest, shift_targets_radius, shift_targets_random

KERNELS = ["gaussian", "triangular", "flat"]


def blobs(n=400, d=2, k=4, seed=3, dtype=torch.float32):
    x, y = make_blobs(n, d, centers=k, cluster_std=0.7, center_box=(-12, 12), random_state=seed)
    return torch.from_numpy(x).to(dtype), y


def lesson_step(x, bandwidth):
    """One step as the lesson first writes it: point by point, in plain torch."""
    moved = x.clone()
    for i, point in enumerate(x):
        far = ((point - x) ** 2).sum(1).sqrt()
        weight = torch.exp(-0.5 * (far / bandwidth) ** 2) / (bandwidth * (2 * torch.pi) ** 0.5)
        moved[i] = (weight[:, None] * x).sum(0) / weight.sum()
    return moved


def test_scikit_learns_own_checks_pass():
    results = check_estimator(MeanShift(), on_skip=None)
    assert {r["check_name"] for r in results if r["status"] != "passed"} <= {"check_array_api_input"}  # needs SCIPY_ARRAY_API


@pytest.mark.parametrize("batch", [None, 1, 7, 1000])
def test_a_step_is_the_lessons_loop_whatever_the_batch(batch):
    x, _ = blobs(100, dtype=torch.float64)
    found = shift_targets_all(x, x, torch.ones(100, dtype=torch.float64), Kernel("gaussian", 2.5), batch)
    torch.testing.assert_close(found, lesson_step(x, 2.5))
    first = next(MeanShift(2.5, batch_size=batch).steps(x))
    torch.testing.assert_close(first, lesson_step(x, 2.5))


@pytest.mark.parametrize("lr", [0.1, 0.5])
def test_the_learning_rate_is_the_share_of_the_way(lr):
    x, _ = blobs(100, dtype=torch.float64)
    slow = next(MeanShift(2.5, lr=lr).steps(x))
    torch.testing.assert_close(slow, x + lr * (lesson_step(x, 2.5) - x))


def test_the_kernels_weigh_as_their_names_say():
    squares = torch.tensor([0.0, 1.0, 4.0, 9.0])
    assert Kernel("flat", 2.0).weights(squares.clone()).tolist() == [1, 1, 1, 0]
    assert Kernel("triangular", 2.0).weights(squares.clone()).tolist() == [1, 0.5, 0, 0]
    assert Kernel("triangular", 2.0, bias=0.25).weights(squares.clone()).tolist() == [1.25, 0.75, 0.25, 0.25]
    torch.testing.assert_close(Kernel("gaussian", 2.0).weights(squares.clone()), torch.exp(-squares / 8))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("algorithm", ["brute", "kd_tree", "grid"])
def test_looking_at_every_neighbor_or_within_reach_is_looking_at_all(kernel, algorithm):
    x, _ = blobs(150, dtype=torch.float64)
    mass = torch.rand(150, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1
    shape = Kernel(kernel, 1.5)
    every = shift_targets_all(x, x, mass, shape)
    torch.testing.assert_close(shift_targets_nearest(x, x, mass, shape, 150, algorithm, 40), every)
    tolerance = 1e-2 if kernel == "gaussian" else 1e-9  # a Gaussian's tail is cut at 4 σ
    torch.testing.assert_close(shift_targets_radius(x, x, mass, shape, algorithm, 40), every, rtol=tolerance, atol=tolerance)


def test_a_random_sample_is_right_on_average():
    x, _ = blobs(300, dtype=torch.float64)
    mass, kernel = torch.ones(300, dtype=torch.float64), Kernel("gaussian", 2.5)
    every, generator = shift_targets_all(x, x, mass, kernel), torch.Generator().manual_seed(0)
    samples = torch.stack([shift_targets_random(x, x, mass, kernel, 150, generator) for _ in range(40)])
    assert float((samples.mean(0) - every).norm(dim=1).mean()) < 0.15 * float((x - every).norm(dim=1).mean())


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_point_that_sees_nothing_stays(kernel):
    alone, data = torch.tensor([[1e4, 0.0]]), torch.zeros(5, 2)
    assert shift_targets_all(alone, data, torch.ones(5), Kernel(kernel, 1.0)).tolist() == alone.tolist()
    biased = shift_targets_all(alone, data, torch.ones(5), Kernel("triangular", 1.0, bias=1e-4))
    assert biased.tolist() == [[0.0, 0.0]]


def test_bias_is_the_default_where_the_triangular_kernel_is_sampled():
    x, _ = blobs(100)
    sampled = MeanShift(2.0, "triangular", ("random", 5), max_iter=3, random_state=1).fit(x).shifted_
    same = MeanShift(2.0, "triangular", ("random", 5), max_iter=3, random_state=1, bias=1e-4).fit(x).shifted_
    without = MeanShift(2.0, "triangular", ("random", 5), max_iter=3, random_state=1, bias=0.0).fit(x).shifted_
    assert torch.equal(sampled, same)
    assert not torch.equal(sampled, without)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("neighbors", ["all", "radius"])
def test_the_flat_kernel_finds_scikit_learns_modes(seed, neighbors):
    x, _ = blobs(300, seed=seed, dtype=torch.float64)
    ours = MeanShift(2.0, "flat", neighbors, blurring=False).fit(x)
    theirs = sklearn.cluster.MeanShift(bandwidth=2.0).fit(x.numpy())
    assert len(ours.cluster_centers_) == len(theirs.cluster_centers_)
    far = torch.cdist(ours.cluster_centers_, torch.from_numpy(theirs.cluster_centers_)).min(1).values
    assert float(far.max()) < 0.05
    assert adjusted_rand_score(ours.labels_, theirs.labels_) > 0.99


@pytest.mark.parametrize("blurring", [True, False])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("neighbors", ["all", "radius", ("nearest", 30), ("random", 200)])
def test_every_form_finds_the_blobs(blurring, kernel, neighbors):
    x, truth = blobs()
    wide = 1.5 if kernel == "gaussian" else 3.5
    if neighbors[0] == "nearest" and not blurring:
        neighbors = ("nearest", 100)  # a density that stays shows each point only its own neighborhood
    model = MeanShift(wide, kernel, neighbors, blurring=blurring, max_iter=40).fit(x)
    assert adjusted_rand_score(model.labels_, truth) > 0.95
    assert torch.equal(model.predict(x), model.labels_)
    assert model.shifted_.shape == x.shape


def test_without_merging_the_nearest_points_see_only_each_other():
    x, _ = blobs(400)
    stuck = MeanShift(1.5, neighbors=("nearest", 8), resolution=0.0, max_iter=40).fit(x)
    merged = MeanShift(1.5, neighbors=("nearest", 8), max_iter=40).fit(x)
    assert len(merged.shifted_.round(decimals=1).unique(dim=0)) < len(stuck.shifted_.round(decimals=1).unique(dim=0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_kind_and_dtype_come_back_as_they_went_in(dtype):
    x, truth = blobs(dtype=dtype)
    model = MeanShift(1.5).fit(x)
    assert model.cluster_centers_.dtype == model.shifted_.dtype == dtype
    assert adjusted_rand_score(model.labels_, truth) > 0.98
    assert isinstance(MeanShift(1.5).fit(x.float().numpy()).shifted_, np.ndarray)


@given(st.integers(0, 10_000), st.floats(-100, 100))
@settings(max_examples=10)
def test_order_and_place_of_the_points_do_not_matter(seed, away):
    x, _ = blobs(120, dtype=torch.float64)
    order = torch.randperm(120, generator=torch.Generator().manual_seed(seed))
    here, there = MeanShift(1.5).fit(x), MeanShift(1.5).fit(x[order] + away)
    torch.testing.assert_close(here.shifted_[order] + away, there.shifted_)
    assert adjusted_rand_score(here.labels_[order], there.labels_) == 1


def test_one_point_and_constant_points_are_one_cluster():
    for x in (torch.ones(1, 3), torch.ones(20, 3)):
        model = MeanShift().fit(x)
        assert model.labels_.tolist() == [0] * len(x)
        torch.testing.assert_close(model.cluster_centers_, torch.ones(1, 3))


def test_the_same_seed_gives_the_same_bits_and_no_gradient():
    x, _ = blobs()
    x.requires_grad_()
    first, second = (MeanShift(1.5, neighbors=("random", 40), max_iter=5, random_state=2).fit(x) for _ in range(2))
    assert torch.equal(first.shifted_, second.shifted_)
    assert not first.shifted_.requires_grad


def test_scikit_learns_bandwidth_rule_is_theirs():
    x, _ = blobs(200, dtype=torch.float64)
    assert estimate_bandwidth(x, "scikit-learn", n_samples=None) == pytest.approx(sklearn.cluster.estimate_bandwidth(x.numpy()))


@pytest.mark.parametrize(("kernel", "reach"), [("gaussian", 3), ("triangular", 1), ("flat", 1)])
def test_the_lessons_rule_covers_a_third_of_the_data(kernel, reach):
    x, _ = blobs(600, k=1)
    wide = estimate_bandwidth(x, "third", kernel, random_state=0)
    share = (torch.cdist(x, x) <= reach * wide).float().mean()
    assert 0.28 < share < 0.40


def test_points_of_a_cell_become_their_weighted_mean():
    x, mass = torch.tensor([[0.1, 0.1], [0.3, 0.1], [5.2, 5.0]]), torch.tensor([1.0, 3.0, 1.0])
    merged = merge_points(x, mass, 1.0)
    assert merged.inverse[0] == merged.inverse[1] != merged.inverse[2]
    torch.testing.assert_close(merged.points[merged.inverse[0]], torch.tensor([0.25, 0.1]))
    assert float(merged.weights.sum()) == 5
    assert len(merge_points(torch.randn(500, 9, generator=torch.Generator().manual_seed(0)), torch.ones(500), 1e-4).points) == 500


def test_the_heaviest_rules_out_its_neighbors():
    x = torch.tensor([[0.0], [0.5], [2.0], [2.4]])
    assert heaviest(x, torch.tensor([1.0, 3.0, 2.0, 1.0]), 1.0).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (MeanShift(kernel="epanechnikov"), "kernel"),
        (MeanShift(bandwidth=-1.0), "bandwidth"),
        (MeanShift(lr=0.0), "lr"),
        (MeanShift(neighbors="some"), "neighbors"),
        (MeanShift(neighbors=("nearest", 0)), "int k of at least 1"),
    ],
)
def test_bad_parameters_are_named(model, sentence):
    with pytest.raises(ValueError, match=sentence):
        model.fit(torch.rand(9, 2))


@pytest.mark.parametrize("bad", [torch.full((3, 2), torch.nan), torch.full((3, 2), torch.inf), torch.empty(0, 2)])
def test_bad_points_are_refused(bad):
    with pytest.raises(ValueError, match="points"):
        MeanShift(1.0).fit(bad)


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e5, 1e6])
@pytest.mark.parametrize("d", [2, 6])
@pytest.mark.parametrize("neighbors", ["all", "radius", ("nearest", 40), ("random", 150)])
def test_float32_blobs_are_found_wherever_they_lie(offset, d, neighbors):
    rng = np.random.default_rng(0)
    centers = np.zeros((3, d))
    centers[1:, 0], centers[2, 1] = 5, 5
    x = (np.concatenate([rng.normal(c, 0.3, (100, d)) for c in centers]) + offset).astype("f4")
    model = MeanShift(1.0, neighbors=neighbors, max_iter=50).fit(x)
    assert sorted(np.bincount(model.labels_)) == [100] * 3
    assert bool((np.abs(model.cluster_centers_ - offset) < 6).all())


def test_groups_far_apart_keep_their_digits():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(c, 0.3, (50, 6)) for c in (0, 1, 1e4, 1e4 + 3)]).astype("f4")
    exact = MeanShift(0.6).fit(x.astype("f8"))
    assert adjusted_rand_score(MeanShift(0.6).fit(x).labels_, exact.labels_) == 1


def test_where_most_points_coincide_each_value_is_a_cluster():
    values = np.array([107.0, 107, 107, 108, 108, 108, 109, 109])[:, None]
    for x in (values, values / 1e6, torch.tensor(values)):
        model = MeanShift().fit(x)
        assert model.bandwidth_ == 0
        assert sorted(np.bincount(model.labels_)) == [2, 3, 3]
        assert sorted(np.asarray(model.cluster_centers_)[:, 0]) == sorted({float(v) for v in x[:, 0]})


@pytest.mark.parametrize("features", [1, 2, 3, 8])
@pytest.mark.parametrize("far", [1e6, -1e9, 1e14])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_one_distant_point_changes_nothing_for_the_others(features: int, far: float, dtype: str) -> None:
    blobs = np.arange(90) % 3
    x = 20.0 * blobs[:, None] * np.eye(1, features) + np.random.default_rng(0).uniform(-0.3, 0.3, (90, features))
    x[5, -1] = far
    found = MeanShift(bandwidth=5.0, kernel="flat").fit(x.astype(dtype))
    labels = found.labels_
    assert (found.predict(x.astype(dtype)) == labels).all()
    others = np.arange(90) != 5
    assert len(set(labels)) == 4 and len(set(zip(blobs[others], labels[others], strict=True))) == 3


def test_a_point_so_distant_that_nothing_is_told_is_refused() -> None:
    with pytest.raises(ValueError, match="from their median"):
        MeanShift(bandwidth=5.0).fit(np.array([[0.0], [1.0], [1e30]]))
