"""k-means with clusters of equal size: every size within 1 % of N / K, rounded outward.

In: points (N, D) and centers (K, D) on any device; out: labels (N,) of equally large clusters. An auction finds the
assignment: each center has a price that is added to its squared distances, too large clusters become dearer and too
small ones cheaper, for a bounded number of rounds. Points that go where distance + price is least have the least cost of
all assignments with the same sizes (a power diagram: Aurenhammer, Hoffmann and Aronov, 1998). What is left over is moved
greedily, the points that lose least first, and then points change places in pairs as long as both gain. A price is the
square of one more coordinate, so each round is an ordinary nearest-center pass: no N × K matrix is written.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from clustering.arrays import compute_dtype, sum_dtype
from clustering.lloyd import CHUNK_BYTES, Totals, assign, inertia, means_of, segment_totals
from clustering.pairwise import distance_chunks, squares_of
from clustering.runs import Descent, Run

SLACK = 0.01  # of N / K, by which sizes may differ from it
SMOOTH_ROUNDS = 60  # of the smooth prices that a run begins with
COLDEST = 0.01  # of the mean squared distance, the temperature that they end at
ROUNDS = 60  # most rounds of an auction
FASTER, SLOWER = 1.3, 0.4  # of a price's steps that go on in, or turn round, their direction
SWAPS = 10  # most rounds of changing places
PATIENCE = 5  # iterations without a better clustering after which a run ends


def size_bounds(n: int, k: int) -> tuple[int, int]:
    """The least and the largest size of k clusters of n points."""
    share = n / k
    least = min(math.floor(share), math.ceil(share * (1 - SLACK)))
    return least, max(math.ceil(share), math.floor(share * (1 + SLACK)))


def run(points: Tensor, weights: Tensor | None, start: Tensor, descent: Descent) -> Run:
    """Lloyd's iterations with balanced assignments from starting centers (K, D); the best clustering on the way.

    Sizes count points; weights (N,) count in means and inertia. Ends as `descent` says, or when the clustering has not
    become better for a while.
    """
    lifted = compute_dtype(points)
    lifted = torch.cat([lifted, lifted.new_zeros(len(points), 1)], 1)
    centers = compute_dtype(start)
    prices = smooth_prices(lifted, centers)
    best: Run | None = None
    for iteration in range(1, descent.max_iter + 1):
        labels, prices = assign_balanced(lifted, centers, prices)
        means = means_of(totals(lifted, labels, len(centers), weights), centers)
        means = normalize(means, dim=1) if descent.spherical else means
        loss = inertia(distances_to_own(lifted, means, labels), weights)
        shift = float((means - centers).square().sum())
        centers = means
        if descent.report is not None:
            descent.report(iteration, shift)
        if best is None or loss < best.inertia:
            best = Run(means, labels, loss, iteration)
        if shift <= descent.limit or iteration - best.iterations >= PATIENCE:
            break
    assert best is not None
    return best


def totals(lifted: Tensor, labels: Tensor, k: int, weights: Tensor | None) -> Totals:
    """Sums and counts of the points of each cluster."""
    found = segment_totals(lifted, labels, k, weights)
    return Totals(found.sums[:, :-1], found.counts)


def assign_balanced(lifted: Tensor, centers: Tensor, prices: Tensor) -> tuple[Tensor, Tensor]:
    """Labels (N,) of equally large clusters, and the prices (K,) that they were found with.

    lifted: points (N, D + 1), the last coordinate 0. prices: to begin with, those of the last iteration for one.
    """
    labels, prices = auction(lifted, centers, prices)
    labels = move_excess(lifted, centers, prices, labels)
    return swap(lifted, centers, labels), prices


def lift(centers: Tensor, prices: Tensor) -> Tensor:
    """Centers (K, D + 1) whose squared distances are those of the centers and the prices."""
    return torch.cat([centers, (prices - prices.min()).sqrt()[:, None]], 1)


def smooth_prices(lifted: Tensor, centers: Tensor) -> Tensor:
    """Prices (K,) to begin with, by Sinkhorn's iterations at a falling temperature: a rough balance over long ways."""
    points = lifted[:, :-1]
    hot = float(torch.cdist(centers, centers).square().max())
    cold = max(float(assign(points, centers)[1].mean()), torch.finfo(centers.dtype).eps * hot)
    prices = centers.new_zeros(len(centers))
    for step in range(SMOOTH_ROUNDS if hot > 0 else 0):
        temperature = hot * (COLDEST * cold / hot) ** (step / (SMOOTH_ROUNDS - 1))
        sizes = torch.zeros_like(prices)
        for _, block in distance_chunks(points, centers):
            sizes += torch.softmax((block + prices).div_(-temperature), 1).sum(0)
        share = sizes * (len(centers) / len(points))
        prices = prices + temperature * share.clamp(min=torch.finfo(prices.dtype).tiny).log().clamp(-5, 5)
    return prices - prices.min()


def auction(lifted: Tensor, centers: Tensor, prices: Tensor) -> tuple[Tensor, Tensor]:
    """Labels and prices of the round in which the fewest points were too many or missing."""
    k = len(centers)
    least, most = size_bounds(len(lifted), k)
    labels, _ = assign(lifted, lift(centers, prices))
    steps = (distances_to_own(lifted, centers, labels).mean().to(prices) / 10).expand(k).clone()
    before = torch.zeros_like(prices)
    best, best_prices, fewest = labels, prices, math.inf
    for _ in range(ROUNDS):
        sizes = labels.bincount(minlength=k)
        wrong = int((sizes - most).clamp(min=0).sum() + (least - sizes).clamp(min=0).sum())
        if wrong < fewest:
            best, best_prices, fewest = labels, prices, wrong
        if not wrong:
            break
        way = torch.sign(sizes - len(lifted) / k).to(prices)
        turn = way * before
        steps = torch.where(turn > 0, steps * FASTER, torch.where(turn < 0, steps * SLOWER, steps))
        prices, before = prices + way * steps, way
        labels, _ = assign(lifted, lift(centers, prices))
    return best, best_prices


def quotas(sizes: Tensor, n: int) -> Tensor:
    """The allowed sizes (K,), n together, that are nearest to the given ones."""
    least, most = size_bounds(n, len(sizes))
    sizes = sizes.clamp(least, most)
    missing = n - sizes.sum()
    room = torch.where(missing > 0, most - sizes, sizes - least)
    share = (missing.abs() - (room.cumsum(0) - room)).clamp(min=0).minimum(room)
    return sizes + share * torch.sign(missing)


def move_excess(lifted: Tensor, centers: Tensor, prices: Tensor, labels: Tensor) -> Tensor:
    """Move points from too large clusters to those with room, the ones that lose least first.

    A round fills a cluster or empties all queues, so there are at most K.
    """
    k, priced = len(centers), lift(centers, prices)
    sizes = labels.bincount(minlength=k)
    goal = quotas(sizes, len(labels))
    labels = labels.clone()
    while bool((sizes > goal).any()):
        excess, room = (sizes - goal).clamp(min=0), (goal - sizes).clamp(min=0)
        rows = (excess[labels] > 0).nonzero()[:, 0]
        targets = (room > 0).nonzero()[:, 0]
        source = labels[rows]
        near, cost = assign(lifted[rows], priced[targets])
        order = (cost - distances_to_own(lifted[rows], centers, source) - (prices - prices.min())[source]).argsort(stable=True)
        order = order[rank_in(source[order]) < excess[source[order]]]
        target = targets[near[order]]
        fits = rank_in(target) < room[target]
        labels[rows[order[fits]]] = target[fits]
        sizes = labels.bincount(minlength=k)
    return labels


def swap(lifted: Tensor, centers: Tensor, labels: Tensor) -> Tensor:
    """Let points change places in pairs where both come nearer to their centers."""
    k, labels = len(centers), labels.clone()
    nearest, squares = assign(lifted, lift(centers, torch.zeros_like(centers[:, 0])))
    for _ in range(SWAPS):
        rows = (nearest != labels).nonzero()[:, 0]
        own, other = labels[rows], nearest[rows]
        gain = distances_to_own(lifted[rows], centers, own) - squares[rows]
        order = gain.argsort(descending=True, stable=True)
        rows, own, other = rows[order], own[order], other[order]
        rank = rank_in(own * k + other)
        here, there = (own * k + other) * len(labels) + rank, (other * k + own) * len(labels) + rank
        meets = torch.isin(here, there)
        if not bool(meets.any()):
            break
        labels[rows[meets]] = other[meets]
    return labels


def rank_in(groups: Tensor) -> Tensor:
    """How many entries of the same group stand before each one, (n,)."""
    order = groups.argsort(stable=True)
    ordered = groups[order]
    place = torch.arange(len(groups), device=groups.device)
    first = torch.searchsorted(ordered, ordered)
    return torch.empty_like(place).index_copy_(0, order, place - first)


def distances_to_own(lifted: Tensor, centers: Tensor, labels: Tensor) -> Tensor:
    """Squared distances (N,) of lifted points to the centers of their clusters, without their prices."""
    rows = max(1, CHUNK_BYTES // (8 * lifted.shape[1]))
    parts = zip(lifted.split(rows), labels.split(rows), strict=True)
    found = [squares_of(some[:, :-1], centers[own]) for some, own in parts]
    return torch.cat(found).to(sum_dtype(lifted.device)) if found else lifted.new_zeros(0, dtype=sum_dtype(lifted.device))
