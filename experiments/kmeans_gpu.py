"""How fast is k-means on a card, beside its peers, from the same start and for equal iterations?

Milliseconds of an iteration (a fit of 22 or 102 less a fit of 2), the final inertia judged by one exact pass, peak memory beside
the points, and the shares of what the card can do: of the copy bandwidth, were the points read once an iteration, and
of the matrix product's rate in the points' dtype. Then how time grows with points, clusters and features. Peers
that are not installed are named. fastkmeans draws its own start and moves the points to the card in every fit.

Predictions, written before the runs (NVIDIA H200), from counts of bytes and instructions:
8,000,000 x 128 float16, k = 1,024: the products take 2.7 ms at the card's rate and the minima 1.7 ms of its comparing units; with
one running ahead of the other 3.2 ms, with the sort (0.25) and the sums, which gather rows at random (0.6), 4.1 ms.
1,000,000 x 64 float32, k = 256: three TF32 products 0.3 ms, sort and sums 0.15, 0.5 ms in all.
50,000 x 512 float32, k = 1,024: 0.4 ms of products, 0.5 ms in all.
10,000,000 x 2, k = 8: 95 instructions a point, 34 us where every cycle issues one; 45 us, the last sums included.
Growth: linear in all three where the card is full, flat below.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from statistics import median
from typing import Any

import torch
from torch import Tensor

from clustering import KMeans
from clustering.lloyd import assign
from experiments.harness.runner import Context
from experiments.harness.timing import wall_seconds
from invert.errors import InputError
from kernels.timing import copy_bandwidth

FEW, REPEATS = 2, 3  # iterations of the shorter fit, and how often both run
JUDGED = 12  # iterations before the inertia is compared
NAMES = {torch.float16: "float16", torch.float32: "float32"}
Fit = Callable[[int], tuple[Tensor, int]]  # iterations wanted → centers (K, D), iterations made


@dataclass(frozen=True)
class Problem:
    """n points of d features around k centers."""

    n: int
    d: int
    k: int
    dtype: torch.dtype = torch.float32

    @property
    def name(self) -> str:
        return f"{self.n:,} × {self.d} {NAMES[self.dtype]}, k = {self.k:,}"

    @property
    def iterations(self) -> int:
        """Of the longer fit: enough to stand out from what a fit does once."""
        return 22 if self.n * self.d * self.k > 10**10 else 102

    def points(self, seed: int, device: torch.device) -> Tensor:
        """Points (N, D) on the device around k true centers; blobs overlap, so that hardly a cluster becomes empty."""
        generator = torch.Generator(device).manual_seed(seed)
        middles = torch.randn(self.k, self.d, device=device, generator=generator)
        x = torch.empty(self.n, self.d, dtype=self.dtype, device=device)
        for rows in x.split(1 << 20):
            labels = torch.randint(self.k, (len(rows),), device=device, generator=generator)
            rows.copy_(middles[labels] / 2 + torch.randn(len(rows), self.d, device=device, generator=generator))
        return x

    def start(self, x: Tensor, seed: int) -> Tensor:
        """k different points (K, D)."""
        generator = torch.Generator(x.device).manual_seed(seed)
        return x[torch.randperm(len(x), device=x.device, generator=generator)[: self.k]].clone()


PROBLEMS = (
    Problem(8_000_000, 128, 1024, torch.float16),
    Problem(1_000_000, 64, 256),
    Problem(50_000, 512, 1024),
    Problem(10_000_000, 2, 8),
)
BASE = Problem(1_000_000, 64, 256, torch.float16)
GROWTH = {
    "points": [replace(BASE, n=n) for n in (100_000, 1_000_000, 8_000_000)],
    "clusters": [replace(BASE, k=k) for k in (16, 256, 4096, 65_536)],
    "features": [replace(BASE, d=d) for d in (4, 16, 64, 256, 1024)],
}


def ours(x: Tensor, start: Tensor) -> Fit:
    def fit(iterations: int) -> tuple[Tensor, int]:
        model = KMeans(len(start), init=start, max_iter=iterations, tol=0.0).fit(x)
        return model.cluster_centers_, model.n_iter_

    return fit


def flash_kmeans(x: Tensor, start: Tensor) -> Fit:
    from flash_kmeans import batch_kmeans_Euclid

    def fit(iterations: int) -> tuple[Tensor, int]:
        made = batch_kmeans_Euclid(x[None], len(start), max_iters=iterations, tol=-1.0, init_centroids=start[None].clone())
        return made[1][0], made[2]

    return fit


def fastkmeans(x: Tensor, start: Tensor) -> Fit:
    from fastkmeans import FastKMeans

    array = x.float().cpu().numpy()

    def fit(iterations: int) -> tuple[Tensor, int]:
        model = FastKMeans(x.shape[1], len(start), niter=iterations, tol=-1.0, gpu=True)
        model.train(array)
        return torch.from_numpy(model.centroids).to(x), iterations

    return fit


def faiss(x: Tensor, start: Tensor) -> Fit:
    import faiss

    if not hasattr(faiss, "StandardGpuResources"):
        raise ImportError("FAISS without CUDA")
    array, init = x.float().cpu().numpy(), start.float().cpu().numpy()

    def fit(iterations: int) -> tuple[Tensor, int]:
        model = faiss.Kmeans(array.shape[1], len(init), niter=iterations, gpu=True, max_points_per_centroid=len(array))
        model.train(array, init_centroids=init)
        return torch.from_numpy(model.centroids).to(x), iterations

    return fit


def cuml(x: Tensor, start: Tensor) -> Fit:
    from cuml.cluster import KMeans as Peer

    def fit(iterations: int) -> tuple[Tensor, int]:
        model = Peer(n_clusters=len(start), init=start.float().cpu().numpy(), n_init=1, max_iter=iterations, tol=0.0).fit(x)
        return torch.as_tensor(model.cluster_centers_).to(x), int(model.n_iter_)

    return fit


PEERS: dict[str, Callable[[Tensor, Tensor], Fit]] = {
    "ours": ours,
    "flash-kmeans": flash_kmeans,
    "fastkmeans": fastkmeans,
    "faiss-gpu": faiss,
    "cuml": cuml,
}
OWN_START = ("fastkmeans",)
SLOW = ("fastkmeans", "faiss-gpu")  # they move the points in every fit: one repeat, and not more than SLOW_BYTES
SLOW_BYTES, SLOW_ITERATIONS = 1 << 29, 8
MODULES = {"flash-kmeans": "flash_kmeans", "faiss-gpu": "faiss"}


def run(context: Context) -> dict[str, Any]:
    if context.device.type != "cuda":
        raise InputError("kmeans-gpu measures a card: add --device cuda")
    bandwidth = copy_bandwidth(context.device)
    rates = {name: product_rate(dtype, context.device) for dtype, name in NAMES.items()}
    problems = [replace(p, n=p.n // 8) for p in PROBLEMS] if context.quick else PROBLEMS
    found: dict[str, dict[str, Any]] = {p.name: {} for p in problems}
    growths: dict[str, Any] = {}
    for peers in (tuple(peer for peer in PEERS if peer not in SLOW), SLOW):  # the slow last: some have crashed the card's context
        for problem in problems:
            found[problem.name] |= compare(problem, peers, bandwidth, rates[NAMES[problem.dtype]], context)
        if not context.quick and not growths:
            growths = {axis: growth(line, context) for axis, line in GROWTH.items()}
    return {
        "copy_terabytes_per_second": bandwidth / 1e12,
        "product_teraflops": {name: rate / 1e12 for name, rate in rates.items()},
        "problems": found,
        "growth": growths,
        "not_installed": [name for name in PEERS if name != "ours" and find_spec(MODULES.get(name, name)) is None],
    }


def product_rate(dtype: torch.dtype, device: torch.device, size: int = 8192) -> float:
    """Operations a second of the vendor's own product of size³ in this dtype."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    a @ b
    return 2 * size**3 / median(wall_seconds(lambda: a @ b, device) for _ in range(5))


def compare(problem: Problem, peers: tuple[str, ...], bandwidth: float, rate: float, context: Context) -> dict[str, Any]:
    """The peers that are installed, on one problem."""
    x = problem.points(context.seed, context.device)
    start = problem.start(x, context.seed + 1)
    found: dict[str, Any] = {}
    for name in peers:
        if name in SLOW and x.nbytes > SLOW_BYTES:
            found[name] = {"skipped": "moves the points to the card in every fit"}
            continue
        try:
            found[name] = measure(
                PEERS[name](x, start), x, *((SLOW_ITERATIONS, 1) if name in SLOW else (problem.iterations, REPEATS))
            )
        except ImportError as error:
            found[name] = {"not_installed": str(error)}
            continue
        except (RuntimeError, AssertionError, ValueError) as error:
            if name == "ours":
                raise
            found[name] = {"failed": str(error).split("\n")[0]}
            continue
        seconds = found[name]["milliseconds_per_iteration"] / 1e3
        found[name]["share_of_copy_bandwidth"] = x.nbytes / seconds / bandwidth
        found[name]["share_of_product_rate"] = 2 * problem.n * problem.d * problem.k / seconds / rate
        found[name]["own_start"] = name in OWN_START
    return found


def measure(fit: Fit, x: Tensor, many: int, repeats: int) -> dict[str, Any]:
    """Milliseconds of an iteration and of a whole fit, peak memory beside the points, and the inertia it comes to."""
    fit(FEW)  # compiles
    before = torch.cuda.memory_allocated(x.device)
    torch.cuda.reset_peak_memory_stats(x.device)
    centers, _ = fit(JUDGED)
    peak = torch.cuda.max_memory_allocated(x.device) - before
    single, whole, made = [], [], [0, 0]
    for _ in range(repeats):
        seconds = []
        for fit_number, iterations in enumerate((FEW, many)):
            torch.cuda.synchronize(x.device)
            began = time.perf_counter()
            _, made[fit_number] = fit(iterations)
            torch.cuda.synchronize(x.device)
            seconds.append(time.perf_counter() - began)
        single.append(1e3 * (seconds[1] - seconds[0]) / max(1, made[1] - made[0]))
        whole.append(1e3 * seconds[1])
    return {
        "milliseconds_per_iteration": median(single),
        "spread": max(single) - min(single),
        "milliseconds_of_a_fit": median(whole),
        "iterations_of_the_fit": made[1],
        "inertia": float(assign(x, centers.to(x.dtype))[1].sum(dtype=torch.float64)),
        "peak_mebibytes": peak / 2**20,
    }


def growth(line: list[Problem], context: Context) -> list[dict[str, Any]]:
    """Our milliseconds of an iteration along one axis."""
    found = []
    for problem in line:
        x = problem.points(context.seed, context.device)
        took = measure(ours(x, problem.start(x, context.seed + 1)), x, problem.iterations, 1)
        found.append({"problem": problem.name, "milliseconds_per_iteration": took["milliseconds_per_iteration"]})
    return found
