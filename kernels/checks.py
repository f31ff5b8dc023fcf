"""What only a GPU can show: `python -m kernels.bench --check`.

The simulator and the interpreter show that indices, barriers and sums are right; they show neither registers, nor
alignment faults, nor streams, nor speed. Each check is a function that raises AssertionError with one sentence,
or whatever the driver raises, and returns what it saw. Sizes are small except where the issue is speed.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
from rich.console import Console

from kernels.accuracy import LAYOUTS, error_share, laid_out
from kernels.api import matmul
from kernels.pairwise import nearest_centers
from kernels.registry import BACKENDS, available
from kernels.timing import interleaved_time

SHAPES = ((1, 1, 1), (33, 47, 17), (300, 784, 10), (10, 784, 300), (257, 130, 129), (512, 512, 512))
BLOCKS = ((16, 16), (1, 256), (256, 1), (1024, 1), (1, 1024), (32, 32))
SAMPLE_SECONDS = 45.0  # for products of all backends: nearly all of it is compiling
DEVICE = torch.device("cuda")


def sample_products(name: str, chance: random.Random) -> Iterator[tuple[tuple[int, int, int], str, str, str]]:
    """Shapes, dtypes and the layouts of a and of b for a backend, without end: the first six hold every one of each.

    Kernels are compiled for each dtype and layout, seconds for each, so all combinations would take minutes.
    """
    dtypes, seconds = list(BACKENDS[name].dtypes), list(LAYOUTS)
    chance.shuffle(dtypes)
    chance.shuffle(seconds)
    for turn, shape in enumerate(SHAPES):
        yield shape, dtypes[turn % len(dtypes)], LAYOUTS[turn % 4], seconds[turn % 4]
    while True:
        yield chance.choice(SHAPES), chance.choice(dtypes), chance.choice(LAYOUTS), chance.choice(LAYOUTS)


def products_are_right_in_every_layout() -> str:
    """Every backend but torch's own, dtype, shape and memory layout, a sample of them together, on memory that held NaN."""
    seed = random.SystemRandom().randrange(1 << 16)
    return products_of_a_sample(seed)


def products_of_a_sample(seed: int, budget: float = SAMPLE_SECONDS) -> str:
    """The products that a seed draws, for at most `budget` seconds after the first six of each backend."""
    chance, count = random.Random(seed), 0
    names = [name for name in available("cuda") if not BACKENDS[name].differentiable]
    torch.use_deterministic_algorithms(True, warn_only=True)  # with it, torch fills new memory with NaN
    try:
        for name in names:
            deadline = time.perf_counter() + budget / len(names)
            for turn, ((m, k, n), number, la, lb) in enumerate(sample_products(name, chance)):
                if turn >= len(SHAPES) and time.perf_counter() > deadline:
                    break
                dtype = getattr(torch, number)
                a, b = laid_out(la, m, k, dtype, 0, DEVICE), laid_out(lb, k, n, dtype, 1, DEVICE)
                share = error_share(matmul(a, b, name), a, b, tf32=name == "triton" and dtype == torch.float32)
                assert share <= 1, f"{name} {number} {(m, k, n)} {la} by {lb}: {share:.3g} of the error bound (seed {seed})"
                count += 1
    finally:
        torch.use_deterministic_algorithms(False)
    return f"{count} products, seed {seed}"


def every_block_shape_launches() -> str:
    """Blocks up to 1,024 threads: the register caps hold, or the launch would fail."""
    names = [name for name in available("cuda") if BACKENDS[name].takes_block]
    a, b = torch.randn(100, 70, device=DEVICE), torch.randn(70, 90, device=DEVICE)
    for name, block, dtype in itertools.product(names, BLOCKS, (torch.float32, torch.float64)):
        share = error_share(matmul(a.to(dtype), b.to(dtype), name, block=block), a.to(dtype), b.to(dtype))
        assert share <= 1, f"{name} in blocks of {block}: {share:.3g} of the error bound"
    return f"{len(names)} backends, {len(BLOCKS)} blocks"


def kernels_run_on_the_current_stream() -> str:
    """A product waits for what its own stream wrote before, with no synchronization in between."""
    stream = torch.cuda.Stream()
    for name in available("cuda"):
        a, b = torch.zeros(1024, 1024, device=DEVICE), torch.eye(1024, device=DEVICE)
        matmul(a, b, name)
        torch.cuda.synchronize()
        with torch.cuda.stream(stream):
            torch.cuda._sleep(50_000_000)  # clock ticks, tens of milliseconds
            a.fill_(1.0)
            c = matmul(a, b, name)
        stream.synchronize()
        assert bool((c == 1).all()), f"{name} did not wait for its stream"
    return ", ".join(available("cuda"))


def no_operand_is_copied() -> str:
    """Transposed float32 operands are read where they lie: the only new memory is the result."""
    names = [name for name in available("cuda") if name.startswith("numba") or name == "triton"]
    a, b = torch.randn(2048, 2048, device=DEVICE).T, torch.randn(2048, 2048, device=DEVICE).T
    for name in names:
        matmul(a, b, name)
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        c = matmul(a, b, name)
        grown = torch.cuda.max_memory_allocated() - before
        assert grown <= c.nbytes + 4096, f"{name} took {grown} bytes for a result of {c.nbytes}"
        del c
    return ", ".join(names)


def nearest_centers_needs_no_matrix() -> str:
    """Labels and distances agree with float64, and the memory stays far below N x K."""
    x, centers = torch.randn(200_000, 96, device=DEVICE), torch.randn(1000, 96, device=DEVICE)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    labels, distances = nearest_centers(x, centers)
    grown = torch.cuda.max_memory_allocated() - before
    assert grown < len(x) * len(centers) * 4 // 20, f"it took {grown} bytes"
    exact = torch.cdist(x[:5000].double(), centers.double()).square()
    chosen = exact.gather(1, labels[:5000, None])[:, 0]
    assert bool((chosen <= exact.min(1).values * (1 + 1e-5)).all()), "a label is not the nearest center's"
    assert torch.allclose(distances[:5000].double(), chosen, rtol=1e-5), "a distance is not that of its label"
    return f"{grown / 1e6:.1f} MB beside points and centers"


def k_means_is_exact_and_repeats() -> str:
    """Sums agree with float64 near the origin and far from it, in every kind of pass, and the same call gives the same bits."""
    from kernels.lloyd import Lloyd  # loads triton

    shapes = [(100_003, 8, 2, torch.float32, 0.0), (100_003, 8, 2, torch.float32, 1e6), (50_000, 100, 3, torch.float32, 1e6)]
    shapes += (
        (100_003, 1024, 128, torch.float16, 0.0),
        (20_001, 300, 33, torch.float32, 1e4),
        (20_001, 100, 600, torch.bfloat16, 0.0),
    )
    worst = 0.0
    for n, k, d, dtype, far in shapes:
        x = (3 * torch.randn(n, d, device=DEVICE) + far).to(dtype)
        centers = x[:k].float()
        lloyd = Lloyd(x, None, k)
        (sums, counts), again = lloyd.accumulate(centers), lloyd.accumulate(centers)
        assert torch.equal(sums, again[0]) and torch.equal(counts, again[1]), f"{n} x {d}, k = {k}: two calls differ"
        labels = torch.cat(
            [torch.cdist(rows.double(), centers.double()).argmin(1) for rows in x.split(1 << 14)]
            if far == 0
            else [(rows.double()[:, None] - centers.double()).square().sum(2).argmin(1) for rows in x.split(1 << 10)]
        )
        exact = torch.zeros_like(sums).index_add_(0, labels, x.double())
        sizes = torch.bincount(labels, minlength=k)
        error = ((sums / counts.clamp(min=1)[:, None] - exact / sizes.clamp(min=1)[:, None]).abs().max() / 3).item()
        worst = max(worst, error)
        assert error < 1e-3 and bool(((counts - sizes).abs() <= 1 + sizes / 1e4).all()), (
            f"{n} x {d}, k = {k}: means off by {error:.1e}"
        )
    return f"means within {worst:.0e} of the points' spread"


def mean_shift_and_dbscan_need_no_matrix() -> str:
    """A step of 20,000 points agrees with float64 and takes memory for the points alone; so do DBSCAN's counts."""
    from kernels.regions_triton import Runs
    from kernels.shift_triton import settings_of, shift_step

    x = torch.randn(20_000, 2, device=DEVICE)
    ones, moved, moves = torch.ones(len(x), device=DEVICE), torch.empty_like(x), torch.zeros(1, device=DEVICE)
    runs = Runs(x, 0.1, 2, x.amin(0), [int(width / 0.1) + 1 for width in (x.amax(0) - x.amin(0)).tolist()])
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    shift_step(x, x, ones, settings_of(x, 0.3, 0.0, 1.0, 0.0), moves, 0, moved, "gaussian")
    near = runs.weights_near(ones)
    grown = torch.cuda.max_memory_allocated() - before
    assert grown < 64 * len(x), f"they took {grown} bytes"
    far = torch.cdist(x[:500].double(), x.double(), compute_mode="donot_use_mm_for_euclid_dist").square()
    weights = torch.exp(-far / 0.18)
    assert torch.allclose(moved[:500].double(), weights @ x.double() / weights.sum(1, keepdim=True), atol=1e-5), "a step is wrong"
    counts = torch.empty_like(near).scatter_(0, runs.order, near)[:500]
    assert torch.equal(counts, (far <= 0.1**2).sum(1).double()), "a count of neighbors is wrong"
    return f"{grown / 1e6:.1f} MB"


def speed_targets() -> str:
    """The project's aims, each as a ratio of one run: skinny and blocked float32, bfloat16 on the tensor cores."""
    torch.set_float32_matmul_precision("highest")
    aims = (
        ("numba-cuda", (50_000, 784, 10), torch.float32, 1.0),
        ("numba-cuda", (10, 784, 50_000), torch.float32, 1.0),
        ("numba-cuda", (4096, 4096, 4096), torch.float32, 0.65),
        ("triton", (50_000, 784, 10), torch.float32, 1.0),
        ("triton", (10, 784, 50_000), torch.float32, 1.0),
        ("triton", (4096, 4096, 4096), torch.float32, 1.0),
        ("triton", (4096, 4096, 4096), torch.bfloat16, 0.9),
    )
    said, missed = [], 0
    for name, (m, k, n), dtype, aim in aims:
        a, b = torch.randn(m, k, device=DEVICE, dtype=dtype), torch.randn(k, n, device=DEVICE, dtype=dtype)
        seconds = interleaved_time({"torch": partial(torch.mm, a, b), name: partial(matmul, a, b, name)}, DEVICE)
        share = seconds["torch"] / seconds[name]
        said.append(f"{name} ({m}×{k})·({k}×{n}) {share:.0%} of cuBLAS (aim {aim:.0%})")
        missed += share < aim
    assert not missed, "; ".join(said)
    return "; ".join(said)


CHECKS: tuple[Callable[[], str], ...] = (
    products_are_right_in_every_layout,
    every_block_shape_launches,
    kernels_run_on_the_current_stream,
    no_operand_is_copied,
    nearest_centers_needs_no_matrix,
    k_means_is_exact_and_repeats,
    mean_shift_and_dbscan_need_no_matrix,
    speed_targets,
)


def name_of(check: Callable[[], str]) -> str:
    """A check's name as a sentence."""
    return check.__name__.replace("_", " ")


def main(console: Console) -> int:
    """Run all checks; 0 if all pass, 1 if one fails, 2 if there is no GPU to check."""
    if not torch.cuda.is_available():
        console.print("The checks need a CUDA GPU, and there is none here. They would show that:")
        for check in CHECKS:
            console.print(f"  {name_of(check)}")
        return 2
    failed = 0
    for check in CHECKS:
        try:
            console.print(f"[green]holds[/] {name_of(check)}: {check()}")
        except Exception as error:  # a launch that fails is a finding like a wrong number
            failed = 1
            console.print(f"[red]fails[/] {name_of(check)}: {error}")
    return failed
