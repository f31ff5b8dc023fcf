"""Points stay on their device: on a pretended GPU, where mixing devices or reading a value back is an error."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from clustering import DBSCAN, KMeans, MeanShift, MiniBatchKMeans, NearestNeighbors, distances
from clustering.lloyd import means_of, segment_totals
from clustering.seeding import choose_spread, draw, potential, sq_distances
from clustering.shift import Kernel, shift_targets_all, shift_targets_random
from kernels import nearest_centers

GPU = torch.device("cuda")


class NoTransfers(TorchDispatchMode):
    """Fails on a copy to another device, and counts values read back by Python."""

    def __init__(self):
        super().__init__()
        self.read_back = 0

    def __torch_dispatch__(self, function, kinds, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = function.overloadpacket.__name__
        if name == "_to_copy" and kwargs.get("device") not in (None, args[0].device):
            raise AssertionError(f"{args[0].device} copied to {kwargs['device']}")
        if name == "copy_" and args[0].device != args[1].device:
            raise AssertionError(f"{args[1].device} copied to {args[0].device}")
        self.read_back += name == "_local_scalar_dense"
        return function(*args, **kwargs)


def test_an_iteration_of_lloyd_stays_on_the_gpu_and_reads_nothing_back():
    with FakeTensorMode():
        x, weights = torch.empty(500, 8, device=GPU, dtype=torch.float64), torch.empty(500, device=GPU, dtype=torch.float64)
        labels, nearest = nearest_centers(x, x[:7])
        moved = means_of(segment_totals(x, labels, 7, weights), x[:7])
        assert {t.device.type for t in (labels, nearest, moved)} == {"cuda"}


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "cosine"])
@pytest.mark.parametrize("formulation", ["broadcast", "einsum", "feature"])
def test_distances_stay_on_the_gpu(metric, formulation):
    with FakeTensorMode():
        x = torch.empty(60, 8, device=GPU, dtype=torch.bfloat16)
        assert distances(x, x[:9], metric, formulation).device.type == "cuda"


def test_weighted_sampling_stays_on_the_gpu(monkeypatch):
    rand = torch.rand
    monkeypatch.setattr(torch, "rand", lambda *shape, generator, **kind: rand(*shape, **kind))  # no CUDA stream here
    with FakeTensorMode():
        x, weights = torch.empty(60, 8, device=GPU), torch.empty(60, device=GPU)
        candidates = draw(weights, 4, None)
        assert candidates.device.type == "cuda"
        assert potential(x, x[candidates], sq_distances(x, x[:1])[:, 0], weights).device.type == "cuda"


def test_kmeans_plusplus_reads_nothing_back_and_a_fit_one_value_or_two_an_iteration():
    x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    weights = torch.rand(500, generator=torch.Generator().manual_seed(1))
    with NoTransfers() as start:
        choose_spread(x, 12, torch.Generator().manual_seed(0), weights)
    assert start.read_back == 0
    with NoTransfers() as fit:
        model = KMeans(12, init=x[:12], max_iter=50, tol=0).fit(x, sample_weight=weights)
    assert fit.read_back <= 2 * model.n_iter_ + 10


def test_a_step_of_mean_shift_stays_on_the_gpu_and_reads_nothing_back(monkeypatch):
    randint = torch.randint
    monkeypatch.setattr(torch, "randint", lambda high, shape, generator, device: randint(high, shape, device=device))
    with FakeTensorMode():
        x = torch.empty(300, 2, device=GPU)
        for kernel in ("gaussian", "triangular", "flat"):
            assert shift_targets_all(x, x, x[:, 0], Kernel(kernel, 1.0)).device.type == "cuda"
            assert shift_targets_random(x, x, x[:, 0], Kernel(kernel, 1.0), 50, None).device.type == "cuda"


@pytest.mark.parametrize(
    "fit",
    [
        lambda x: MeanShift(1.0, neighbors=("nearest", 8), algorithm="grid", max_iter=5).fit(x),
        lambda x: MeanShift(1.0, "flat", neighbors="radius", algorithm="grid", blurring=False, max_iter=5).fit(x),
        lambda x: DBSCAN(0.3, algorithm="grid").fit(x),
        lambda x: NearestNeighbors(5, algorithm="lsh").fit(x).kneighbors(x),
        lambda x: MiniBatchKMeans(4).fit(x),
        lambda x: distances(x.repeat(1, 4), x.repeat(1, 4)),
    ],
)
def test_whole_fits_move_nothing_to_another_device(fit):
    with NoTransfers():
        fit(torch.randn(400, 2, generator=torch.Generator().manual_seed(0)))
