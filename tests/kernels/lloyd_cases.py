"""`kernels.lloyd` in Triton's interpreter; `test_emulated.py` runs this file in a process of its own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import clustering.lloyd
import clustering.passes
from clustering import KMeans
from kernels.accuracy import laid_out
from kernels.lloyd import EMPTY, RESTED, RUNNING, Lloyd
from kernels.pairwise_triton import INTERPRETED
from kernels.tiles import LabelTile

assert INTERPRETED, "run this file through test_emulated.py"
SMALL = LabelTile(points=16, centers=16, depth=16, warps=1, stages=1)
# (points, clusters, features, kind): edges of blocks on all sides
SHAPES = [
    (70, 1, 1, "few"),
    (301, 5, 2, "few"),
    (130, 3, 3, "few"),
    (77, 8, 4, "few"),
    (60, 4, 1, "few"),
    (40, 20, 5, "many"),
    (35, 33, 16, "many"),
    (60, 40, 4, "many"),
    (18, 18, 17, "many"),
    (65, 70, 3, "many"),
    (40, 1, 40, "many"),
]
SIXTEEN_BITS = [(301, 5, 2, "few"), (35, 33, 16, "many"), (18, 18, 17, "many")]  # these differ in how they are loaded
CASES = [(*shape, torch.float32, "rows") for shape in SHAPES] + [(*shape, torch.float32, "gaps") for shape in SHAPES[1::2]]
CASES += [(*shape, *how) for shape in SIXTEEN_BITS for how in ((torch.float16, "rows"), (torch.bfloat16, "gaps"))]


def reference(x: Tensor, centers: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Labels, sums and counts in float64."""
    exact = torch.cdist(x.double(), centers.double(), compute_mode="donot_use_mm_for_euclid_dist")
    labels = exact.argmin(1)
    mass = torch.ones(len(x), dtype=torch.float64) if weights is None else weights.double()
    sums = torch.zeros(centers.shape, dtype=torch.float64).index_add(0, labels, x.double() * mass[:, None])
    return labels, sums, torch.zeros(len(centers), dtype=torch.float64).index_add(0, labels, mass)


def apart(k: int, d: int, dtype: torch.dtype) -> Tensor:
    """Centers (k, d) on a grid, exact in every dtype, none nearer to another than 4."""
    index = torch.arange(k)
    return torch.stack([(index // 4**f % 4) * 4.0 for f in range(min(d, 4))] + [torch.zeros(k)] * (d - min(d, 4)), 1).to(dtype)


@pytest.mark.parametrize(("n", "k", "d", "kind", "dtype", "layout"), CASES)
def test_totals_agree_with_float64(n: int, k: int, d: int, kind: str, dtype: torch.dtype, layout: str) -> None:
    noise = laid_out(layout, n, d, dtype, seed=n).clamp_(-0.9, 0.9)
    centers = apart(k, d, dtype)
    x = noise.copy_(noise + centers[torch.arange(n) % k])
    weights = None if layout == "rows" else torch.rand(n, generator=torch.Generator().manual_seed(1)).double()
    lloyd = Lloyd(x, weights, k, tile=SMALL)
    assert lloyd.kind == kind
    sums, counts = lloyd.accumulate(centers.float())
    _, exact, mass = reference(x, centers, weights)
    assert sums.dtype == counts.dtype == torch.float64
    torch.testing.assert_close(counts, mass, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(sums, exact, rtol=1e-6, atol=1e-5 * float(mass.max()))


@pytest.mark.parametrize(("k", "d"), [(2, 2), (3, 9), (20, 20)])
def test_means_far_from_the_origin_stay_among_their_points(k: int, d: int) -> None:
    x = 1e6 + torch.arange(60.0)[:, None] // (60 // k) * 10 + torch.zeros(60, d)
    lloyd = Lloyd(x, None, k, tile=SMALL)
    found, made, state = lloyd.iterate(x[:: 60 // k][:k], 0.0, 5)
    assert (made, state) == (1, RESTED)
    assert torch.equal(found, x[:: 60 // k][:k])


@pytest.mark.parametrize(("k", "d"), [(6, 2), (20, 8), (20, 20), (30, 3)])
def test_of_equal_centers_the_first_takes_all_points_and_the_others_are_empty(k: int, d: int) -> None:
    x = laid_out("rows", 70, d, torch.float32, 3)
    centers = x[:1].repeat(k, 1)
    lloyd = Lloyd(x, None, k, tile=SMALL)
    _, counts = lloyd.accumulate(centers)
    assert counts.tolist() == [70.0] + [0.0] * (k - 1)
    found, made, state = lloyd.iterate(centers, 0.0, 3)
    assert (made, state) == (0, EMPTY) and torch.equal(found, centers)


@pytest.mark.parametrize(("k", "d"), [(4, 2), (10, 6), (9, 20)])
@pytest.mark.parametrize("normalize", [False, True])
def test_iterations_are_lloyd_s(k: int, d: int, normalize: bool) -> None:
    x = laid_out("columns", 90, d, torch.float32, 5)
    x = torch.nn.functional.normalize(x, dim=1) if normalize else x
    centers = x[:k].double()
    for _ in range(3):
        _, sums, counts = reference(x, centers)
        assert bool((counts > 0).all())
        centers = sums / counts[:, None]
        centers = torch.nn.functional.normalize(centers, dim=1) if normalize else centers
    found, made, state = Lloyd(x, None, k, normalize, SMALL).iterate(x[:k], -1.0, 3)
    assert (made, state) == (3, RUNNING)
    torch.testing.assert_close(found.double(), centers, rtol=1e-5, atol=1e-6)


def test_the_same_call_gives_the_same_bits() -> None:
    x = laid_out("rows", 100, 20, torch.float32, 6)
    lloyd = Lloyd(x, None, 12, tile=SMALL)
    first, again = (lloyd.accumulate(x[:12]) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_huge_and_tiny_weights_do_not_overflow() -> None:
    x = laid_out("rows", 40, 2, torch.float32, 7)
    for scale in (1e300, 1e-300):
        sums, counts = Lloyd(x, torch.full((40,), scale, dtype=torch.float64), 1).accumulate(x[:1])
        torch.testing.assert_close(sums / counts[:, None], x.double().mean(0, keepdim=True), rtol=1e-6, atol=1e-7)


def test_shapes_that_no_pass_takes_are_named() -> None:
    with pytest.raises(ValueError, match="at most"):
        Lloyd(torch.zeros(3, 5000), None, 1)


@pytest.mark.parametrize(("n", "k", "d", "weighted", "spherical"), [(200, 5, 2, 0, 0), (150, 6, 2, 1, 1), (60, 13, 9, 0, 0)])
def test_k_means_by_fused_passes_is_k_means(
    n: int, k: int, d: int, weighted: int, spherical: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = laid_out("rows", n, d, torch.float32, 8)
    x[: k - 1] = x[0]  # equal starts, so that clusters begin empty
    weights = torch.rand(n, generator=torch.Generator().manual_seed(0)) if weighted else None
    fused, plain = (KMeans(k, init=x[:k].clone(), max_iter=8, spherical=bool(spherical)) for _ in range(2))
    fused.fit(x, sample_weight=weights)
    for module in (clustering.lloyd, clustering.passes):
        monkeypatch.setattr(module, "has_fused_kernels", lambda points: False)
    plain.fit(x, sample_weight=weights)
    assert fused.n_iter_ == plain.n_iter_ and torch.equal(fused.labels_, plain.labels_)
    torch.testing.assert_close(fused.cluster_centers_, plain.cluster_centers_, rtol=1e-5, atol=1e-6)
