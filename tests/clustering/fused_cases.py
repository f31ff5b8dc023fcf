"""MeanShift and DBSCAN through their fused kernels, in Triton's interpreter; `test_fused.py` runs this file in a process."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sklearn.cluster
import torch
from torch import Tensor

from clustering import DBSCAN, MeanShift, meanshift_fused, regions_fused
from clustering.region_finders import find_regions
from kernels import modes_triton, regions_triton, shift_triton
from kernels.backends import triton_tiles

assert triton_tiles.INTERPRETED, "run this file through test_fused.py"


@pytest.fixture(autouse=True)
def few_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in (
        (shift_triton, "ROWS", 64),
        (shift_triton, "TILE", 64),
        (shift_triton, "SELECTION", ((32, 1), (64, 1))),
        (modes_triton, "ROWS", 64),
        (modes_triton, "TILE", 64),
        (regions_triton, "BLOCK", 64),
        (regions_triton, "TILE", 64),
    ):
        monkeypatch.setattr(module, name, value)


def blobs(each: int, features: int = 2, far: float = 0.0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    centers = torch.tensor([[0.0, 0.0], [12.0, 3.0], [-4.0, 15.0]])
    centers = torch.cat([centers, torch.zeros(3, features - 2)], 1)
    return centers.repeat_interleave(each, 0) + torch.randn(3 * each, features, generator=generator) + far


def general(model: MeanShift, x: Tensor, monkeypatch: pytest.MonkeyPatch) -> MeanShift:
    """The same fit by the general way."""
    with monkeypatch.context() as patch:
        patch.setattr(meanshift_fused, "is_applicable", lambda *arguments: False)
        return model.fit(x)


NEAR: list[dict[str, Any]] = [
    {},
    {"max_iter": 5, "tol": 0},
    {"max_iter": 11, "lr": 0.4, "kernel": "triangular", "bandwidth": 6.0},
    {"blurring": False, "max_iter": 4},
    {"resolution": 0.1, "max_iter": 8},
    {"neighbors": ("nearest", 4), "max_iter": 1},
]
FAR: list[dict[str, Any]] = [
    {},
    {"max_iter": 5, "lr": 0.4, "kernel": "triangular", "bandwidth": 6.0},
    {"resolution": 0.1, "max_iter": 8},
    {"neighbors": ("nearest", 4), "resolution": 0.0, "max_iter": 1},
]


@pytest.mark.parametrize(("options", "far"), [*((one, 0.0) for one in NEAR), *((one, 1e5) for one in FAR)], ids=str)
def test_the_fused_way_finds_what_the_general_one_finds(
    options: dict[str, Any], far: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = blobs(4 if "neighbors" in options else 20, far=far)
    options = {"bandwidth": 2.5, **options}
    expected, found = general(MeanShift(**options), x, monkeypatch), MeanShift(**options).fit(x)
    assert torch.equal(found.labels_, expected.labels_) and found.n_iter_ == expected.n_iter_
    torch.testing.assert_close(found.shifted_, expected.shifted_, rtol=1e-6, atol=1e-4)
    torch.testing.assert_close(found.cluster_centers_, expected.cluster_centers_, rtol=1e-6, atol=1e-4)


def test_a_mode_left_in_kept_buffers_is_no_cluster_of_the_next_fit() -> None:
    few, many = blobs(7), torch.cat([blobs(4), blobs(3) + 100])
    model = MeanShift(2.5, resolution=0.1)
    assert len(model.fit(many).cluster_centers_) == 6
    assert len(model.fit(few).cluster_centers_) == 3 and sorted(model.labels_.bincount().tolist()) == [7, 7, 7]


@pytest.mark.parametrize("options", [{"neighbors": ("nearest", 6)}, {"resolution": 0.1}], ids=str)
def test_steps_over_kept_buffers_find_what_steps_over_new_ones_find(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    meanshift_fused.merging.cache_clear()
    model = MeanShift(2.5, max_iter=5, **options)
    for far in (0.0, 30.0):  # the second fit finds the first one's buffers, with another grid
        x = blobs(7, far=far)
        with monkeypatch.context() as patch:
            patch.setattr(meanshift_fused, "GRAPH_POINTS", 0)
            patch.setattr(meanshift_fused, "FINDING_POINTS", 0)
            expected = model.fit(x).shifted_
        labels, centers = model.labels_, model.cluster_centers_
        found = model.fit(x)
        assert torch.equal(found.shifted_, expected) and torch.equal(found.labels_, labels)
        assert torch.equal(found.cluster_centers_, centers)
    assert meanshift_fused.merging.cache_info().misses == 1


def test_random_neighbors_find_the_clusters_and_the_same_seed_gives_the_same() -> None:
    x = blobs(20)
    fits = [MeanShift(2.5, neighbors=("random", 20), batch_size=25, max_iter=4, random_state=s).fit(x) for s in (1, 1, 2)]
    assert torch.equal(fits[0].shifted_, fits[1].shifted_) and not torch.equal(fits[0].shifted_, fits[2].shifted_)
    for label in range(3):
        assert len(set(fits[0].labels_[label * 20 : label * 20 + 20].tolist())) == 1


def test_what_the_kernels_do_not_take_goes_the_general_way() -> None:
    for x, kind, merging, blurring in (
        (torch.ones(3, 9), "all", False, True),
        (torch.ones(3, 2), "radius", False, True),
        (torch.ones(3, 2), "random", True, True),
        (torch.ones(3, 2), "all", True, False),
        (torch.ones(3, 2).double(), "nearest", True, True),
    ):
        assert not meanshift_fused.is_applicable(x, kind, merging, blurring)
    assert not regions_fused.is_applicable(torch.ones(3, 9))


@pytest.mark.parametrize(
    ("n", "features", "eps", "min_samples"), [(90, 2, 0.5, 4), (60, 1, 0.05, 3), (60, 3, 1.0, 4), (40, 8, 3.0, 3), (1, 2, 1.0, 1)]
)
def test_dbscan_gives_scikit_learn_s_labels(n: int, features: int, eps: float, min_samples: int) -> None:
    generator = torch.Generator().manual_seed(n)
    x, weights = torch.randn(n, features, generator=generator), torch.rand(n, generator=generator) * 2
    if features == 2:
        x = (x * 4).round() / 4  # many pairs lie exactly eps apart, and points coincide
    assert type(find_regions(x, eps, "auto")) is regions_fused.FusedRegions
    for weigh in (None, weights):
        expected = sklearn.cluster.DBSCAN(eps=eps, min_samples=min_samples).fit(x.double(), sample_weight=weigh)
        found = DBSCAN(eps, min_samples=min_samples).fit(x, sample_weight=weigh)
        assert np.array_equal(found.labels_, expected.labels_)
        assert np.array_equal(found.core_sample_indices_, expected.core_sample_indices_)


def test_dbscan_of_data_that_no_grid_holds_goes_the_general_way() -> None:
    x = torch.tensor([[0.0], [1e-4], [1e9], [1e9]])
    assert type(find_regions(x, 1e-3, "auto")) is not regions_fused.FusedRegions


def test_a_fitted_dbscan_predicts_its_own_labels() -> None:
    x = blobs(10)
    model = DBSCAN(1.0, min_samples=3).fit(x)
    assert torch.equal(model.predict(x), model.labels_)
