"""All pairs of many points of many features, by one matrix product: neighbors of each, and bounds for everything else.

In: points (N, D) in main memory; out: each point's nearest, measured exactly, and how near the points of every group come
to it at least. Groups are those of a rough k-means, so that most of them lie in one cluster and are far from the others.
The product is rounded; it is lowered by more than its error, so that it never says more than the true distance.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from clustering import cpu
from clustering.exact import PADDING, by_differences, refine
from clustering.lloyd import assign
from clustering.pairwise import expansion_error
from clustering.passes import make_pass
from clustering.runs import Descent
from clustering.seeding import choose_spread
from kernels.jit import cached_njit

GROUP_POINTS = 1024  # in a group, at most, while there are no more groups than two for each feature
SAMPLE_POINTS, SAMPLE_ITERATIONS = 64, 5  # for each group, and Lloyd iterations over them
LISTED = 16  # neighbors of each point, at least
ROWS, COLUMNS = 512, 2048  # of a block of products: it stays in the cache
TRIED, UNSURE = 256, 0.05  # points tried in float32, and the share of them beyond which float64 serves
ROUNDING = 4  # epsilons beside the product's own: coordinates are rounded, too
WIDTH = 64  # columns looked at together, in vector registers


class Groups(NamedTuple):
    """Points in the order of their groups; all that follows counts by places in this order."""

    order: np.ndarray  # (N,) int64: the point at each place
    first: np.ndarray  # (G + 1,) int64: the places where groups begin, and N
    points: np.ndarray  # (D, N) float64
    near: np.ndarray  # (N, K) int64: the places of the nearest, itself included
    far: np.ndarray  # (N, K) their distances, float64, in rising order
    unlisted: np.ndarray  # (N,) below which no other point lies
    least: np.ndarray  # (N, G) float32: below which no point of a group lies


class Product(NamedTuple):
    """left @ right.T + norms[:, None] is at most the squared distance of each pair."""

    left: Tensor  # (N, D + 1)
    right: Tensor  # (N, D + 1)
    norms: Tensor  # (N,)


@cached_njit(nogil=True)
def smallest_of(products, lanes):  # type: ignore[no-untyped-def]
    """The smallest of products; lanes (WIDTH,): room for what WIDTH columns have found, as no compiler splits a minimum."""
    lanes[:] = np.inf
    whole = len(products) // WIDTH * WIDTH
    for start in range(0, whole, WIDTH):
        some = products[start : start + WIDTH]
        for lane in range(WIDTH):
            lanes[lane] = some[lane] if some[lane] < lanes[lane] else lanes[lane]
    smallest = lanes.min()
    for column in range(whole, len(products)):
        smallest = min(smallest, products[column])
    return smallest


@cached_njit(nogil=True)
def insert(square, place, low, near):  # type: ignore[no-untyped-def]
    """Put a place into a list (K,) that rises, and let its last go."""
    at = len(low) - 1
    while at > 0 and low[at - 1] > square:
        low[at], near[at] = low[at - 1], near[at - 1]
        at -= 1
    low[at], near[at] = square, place


@cached_njit(nogil=True)
def keep_nearest(block, norms, cuts, groups, place, low, near, least):  # type: ignore[no-untyped-def]
    """Put what is near among a block's columns into the lists low and near (R, K), rising, and lower least (R, G).

    cuts, groups: the columns where pieces of groups begin, and which these are. place: of the first column.
    """
    lanes = np.empty(WIDTH, block.dtype)
    for row in range(len(block)):
        norm, limit = norms[row], low[row, -1] - norms[row]
        for piece in range(len(groups)):
            products = block[row, cuts[piece] : cuts[piece + 1]]
            smallest, group = smallest_of(products, lanes), groups[piece]
            least[row, group] = min(least[row, group], max(smallest + norm, 0))
            if smallest < limit:
                for column in range(len(products)):
                    if products[column] < limit:
                        insert(products[column] + norm, place + cuts[piece] + column, low[row], near[row])
                        limit = low[row, -1] - norm


def group_points(points: Tensor) -> tuple[Tensor, np.ndarray]:
    """The points in an order (N,) in which groups lie side by side, and where they begin (G + 1,), N included.

    The nearest of a few centers is a point's group; large groups are cut.
    """
    k = max(1, min(len(points) // GROUP_POINTS, points.shape[1]))
    sample = points[:: max(1, len(points) // (k * SAMPLE_POINTS))].contiguous()
    start = sample[choose_spread(sample, k, torch.Generator().manual_seed(0))]
    centers = Descent(0.0, SAMPLE_ITERATIONS).run([make_pass(sample, None, k)], start, sample.dtype).centers
    labels = assign(points, centers)[0]
    most = max(GROUP_POINTS, len(points) // points.shape[1])
    ends = torch.bincount(labels, minlength=k).cumsum(0).tolist()
    first = [place for begin, end in zip([0, *ends], ends, strict=False) for place in range(begin, end, most)]
    return labels.argsort(stable=True), np.array([*first, len(points)])


def make_product(points: Tensor, kind: torch.dtype) -> Product:
    """The factors of points (N, D), in float32 or float64."""
    x = (points.double() - points.double().mean(0)).to(kind)
    error = expansion_error(kind, x.shape[1]) + ROUNDING * torch.finfo(kind).eps
    norms = (x.double().square().sum(1) * (1 - error)).to(kind)
    return Product(torch.cat([x, torch.ones_like(x[:, :1])], 1), torch.cat([-2 * x, norms[:, None]], 1), norms)


def search(product: Product, rows: Tensor, first: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """low and near (R, K) and least (R, G) of some rows (R,) against all columns."""
    n, kind = len(product.norms), product.norms.dtype
    low = product.norms.new_full((len(rows), k), torch.inf).numpy()
    near = np.full((len(rows), k), -1, np.int64)
    least = np.full((len(rows), len(first) - 1), np.inf, np.float32 if kind == torch.float32 else np.float64)
    room = product.norms.new_empty(min(ROWS, len(rows)) * min(COLUMNS, n))
    for begin in range(0, len(rows), ROWS):
        part = slice(begin, begin + ROWS)
        left, norms = product.left[rows[part]], product.norms[rows[part]].numpy()
        own = int(rows[begin]) // COLUMNS  # the nearest are mostly there: what is farther is then passed over
        for strip in sorted(range(-(-n // COLUMNS)), key=lambda strip: abs(strip - own)):
            place = strip * COLUMNS
            right = product.right[place : place + COLUMNS]
            block = torch.mm(left, right.T, out=room[: len(left) * len(right)].view(len(left), len(right))).numpy()
            begun = int(np.searchsorted(first, place, "right")) - 1
            ended = int(np.searchsorted(first, place + len(right), "left"))
            cuts = np.clip(first[begun : ended + 1] - place, 0, len(right))
            pieces = np.arange(begun, ended)
            parts = cpu.shares_of(len(left), torch.get_num_threads())

            def share(thread: int) -> None:
                own = slice(begin + parts[thread].start, begin + parts[thread].stop)  # noqa: B023
                some = block[parts[thread]], norms[parts[thread]]  # noqa: B023
                keep_nearest(*some, cuts, pieces, place, low[own], near[own], least[own])  # noqa: B023

            cpu.run_shares(share, len(parts))
    return low, near, least


def find_groups(given: Tensor, neighbors: int) -> tuple[Groups, Product]:
    """Groups of points (N, D), in main memory, whose lists hold at least so many neighbors that are surely the nearest."""
    order, first = group_points(given)
    points, k = given[order].contiguous(), min(len(given), max(neighbors, LISTED) + PADDING)
    product = make_product(points, torch.float32)
    tried = torch.arange(0, len(points), max(1, len(points) // TRIED), device=points.device)
    low, near, _ = search(product, tried, first, k)
    squares, _ = refine(points, points[tried], torch.from_numpy(near))
    if float((squares[:, neighbors - 1].numpy() > np.maximum(low[:, -1], 0)).mean()) > UNSURE:
        product = make_product(points, torch.float64)
    low, near, least = search(product, torch.arange(len(points), device=points.device), first, k)
    squares, indices = refine(points, points, torch.from_numpy(near))
    unlisted = torch.from_numpy(np.maximum(low[:, -1], 0).astype(np.float64))
    if k == len(points):
        unlisted.fill_(torch.inf)
    unproven = (squares[:, neighbors - 1] > unlisted).nonzero()[:, 0]
    if len(unproven):
        squares[unproven], indices[unproven] = by_differences(points, points[unproven], k)
        unlisted[unproven] = squares[unproven, -1]
    wide = np.ascontiguousarray(points.double().numpy().T)
    found = indices.numpy(), squares.sqrt_().numpy(), unlisted.sqrt_().numpy()
    return Groups(order.numpy(), first, wide, *found, lowered_roots(least)), product


def lowered_roots(squares: np.ndarray) -> np.ndarray:
    """Square roots, overwriting squares, in float32 and not above the true ones."""
    return np.nextafter(np.sqrt(squares, out=squares).astype(np.float32), np.float32(0))
