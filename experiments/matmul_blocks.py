"""Why do 256 CUDA threads as 16×16, 1×256 or 256×1 differ tenfold in the lesson's matrix product?

The thread's table of block shapes, for (50000×784)·(784×10) and its transpose, beside what a count of memory
transactions predicts (`harness.memory_traffic`) and, on a GPU, beside our own times. Without a GPU it is the prediction
alone that stands beside the thread. Two blocks were predicted before they were measured: PREDICTED.
Source: the fast.ai Part 2 2022 thread on numba's block sizes.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from experiments.harness.memory_traffic import ASSUMED, H200, Block, traffic
from experiments.harness.runner import Context

PER_DEVICE = True  # a card's figures lie beside the CPU's
PRODUCTS = {"product": (50_000, 784, 10), "transpose": (10, 784, 50_000)}
BLOCKS: list[Block] = [(1 << i, 256 >> i) for i in range(9)]  # (x over rows, y over columns)
PREDICTED: dict[str, Block] = {"product": (16, 10), "transpose": (10, 16)}  # no thread without a number to compute
# The thread's times, on its own card. Of its two for 1×256 we read the second as the transpose's; the others are the product's.
THREAD_MS: dict[str, dict[Block, float]] = {
    "product": {(16, 16): 5.5, (1, 256): 14.6, (256, 1): 39.8},
    "transpose": {(1, 256): 3.4},
}


def run(context: Context) -> dict[str, Any]:
    rows = [row for name in PRODUCTS for row in predict(name)]
    if context.device.type == "cuda":
        for name in PRODUCTS:
            measured = measure(name, context.device, context.seed)
            for row in rows:
                if row["product"] == name:
                    row["measured_ms"] = measured[tuple(row["block"])] * 1000
    draw(rows, context)
    return {
        "rows": rows,
        "thread_ranking": sorted(THREAD_MS["product"], key=THREAD_MS["product"].__getitem__),
        "predicted_ranking": {name: ranking(rows, name, "predicted_clocks") for name in PRODUCTS},
        "measured_ranking": {name: ranking(rows, name, "measured_ms") for name in PRODUCTS if "measured_ms" in rows[0]},
    }


def predict(name: str) -> list[dict[str, Any]]:
    """The model's count for every block."""
    rows = []
    for block in [*BLOCKS, PREDICTED[name]]:
        found = traffic(*PRODUCTS[name], block)
        rows.append(
            {
                "product": name,
                "block": list(block),
                "predicted_clocks": found.clocks(ASSUMED),
                "limit": found.limit(ASSUMED),
                "h200_model_ms": found.clocks(H200) / (H200.clocks_per_ms or 1),
                "h200_limit": found.limit(H200),
                "requested_sectors": found.requested,
                "fetched_sectors": found.fetched,
                "threads_working": found.working,
                "thread_ms": THREAD_MS[name].get(block),
            }
        )
    return rows


def measure(name: str, device: torch.device, seed: int) -> dict[Block, float]:
    """Seconds of the naive kernel in every block, in turns."""
    from kernels import matmul
    from kernels.bench import operands
    from kernels.timing import interleaved_time

    a, b = operands(*PRODUCTS[name], torch.float32, device, seed)
    blocks = [*BLOCKS, PREDICTED[name]]
    calls = {str(block): partial(matmul, a, b, "numba-cuda-naive", block=block) for block in blocks}
    seconds = interleaved_time(calls, device, budget=10)
    return {block: seconds[str(block)] for block in blocks}


def ranking(rows: list[dict[str, Any]], name: str, key: str) -> list[Block]:
    """The thread's three blocks, fastest first."""
    times = {tuple(row["block"]): row[key] for row in rows if row["product"] == name}
    return sorted(THREAD_MS["product"], key=times.__getitem__)


def draw(rows: list[dict[str, Any]], context: Context) -> None:
    """Predicted time of every block as a multiple of 16×16's; the H200 model's, the thread's and our times likewise."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True, layout="constrained")
    colors = {"loads": "#4477aa", "memory": "#ee6677", "latency": "#ccbb44"}
    for axis, (name, (m, k, n)) in zip(axes, PRODUCTS.items(), strict=True):
        own = [row for row in rows if row["product"] == name]
        square = next(row for row in own if row["block"] == [16, 16])
        for place, row in enumerate(own):
            axis.bar(place, row["predicted_clocks"] / square["predicted_clocks"], color=colors[row["limit"]], width=0.7)
            axis.plot(place, row["h200_model_ms"] / square["h200_model_ms"], "k_", markersize=18)
            if row["thread_ms"]:
                axis.plot(place, row["thread_ms"] / THREAD_MS["product"][16, 16], "kD", markersize=6)
            if "measured_ms" in row:
                axis.plot(place, row["measured_ms"] / square["measured_ms"], "wo", markeredgecolor="k", markersize=6)
        axis.set(title=f"({m}×{k})·({k}×{n})", xlabel="block: threads over rows × over columns", yscale="log", ylim=(0.2, 12))
        axis.set_xticks(range(len(own)), [f"{row['block'][0]}×{row['block'][1]}" for row in own])
        axis.set_yticks([0.25, 0.5, 1, 2, 4, 8], ["¼", "½", "1", "2", "4", "8"])
        axis.axhline(1, color="#999999", linewidth=0.8, zorder=0)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("time, 16×16 = 1")
    marks: list[Any] = [plt.Rectangle((0, 0), 1, 1, color=color) for color in colors.values()]
    labels = [f"assumed card; the limit is {limit}" for limit in colors]
    marks.append(plt.Line2D([], [], color="k", marker="_", markersize=12, linestyle=""))
    labels.append("model fitted to an H200")
    marks.append(plt.Line2D([], [], color="k", marker="D", linestyle=""))
    labels.append("the thread's time")
    if "measured_ms" in rows[0]:
        marks.append(plt.Line2D([], [], color="w", marker="o", markeredgecolor="k", linestyle=""))
        labels.append("measured here")
    axes[1].legend(marks, labels, loc="upper left", frameon=False, fontsize=9)
    figure.savefig(context.path("blocks.png"), dpi=130)
    plt.close(figure)
