"""Minimum spanning trees of many points of many features, where no tree of boxes prunes: Borůvka's over groups of points.

In: points (N, D) in main memory; out: N − 1 edges, and the core distances. A component takes its shortest
edge where the lists of neighbors prove which one that is. Else it is looked for, but for the largest component's: bounds are
raised by one more matrix product where they speak of a component's own points, and what is still below the shortest edge
known is measured, in float64, from the lowest bound on.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from clustering.groups import WIDTH, Groups, Product, find_groups, lowered_roots, smallest_of
from clustering.regions import find, unite
from clustering.spanning import SEVERAL, start_from_known
from kernels.jit import cached_njit

LANES = 256  # points measured at a time
ROWS = 1024  # of a block of products
SURE = 0.25  # share of components with a proven edge, below which the others' edges are looked for, too


@cached_njit(nogil=True)
def take_listed(groups, core, root, best, best_from, best_to, limit):  # type: ignore[no-untyped-def]
    """Lower best (N,) of every component, at its root, to its shortest listed edge; limit: below it no edge is unlisted."""
    limit[:] = np.inf
    for place in range(len(core)):
        own = root[place]
        limit[own] = min(limit[own], max(core[place], groups.unlisted[place]))
        for at in range(groups.near.shape[1]):
            other, far = groups.near[place, at], groups.far[place, at]
            if far >= best[own]:
                break
            reach = max(core[place], core[other], far)
            if root[other] != own and reach < best[own]:
                best[own], best_from[own], best_to[own] = reach, place, other


@cached_njit(nogil=True)
def component_of_groups(groups, root, component):  # type: ignore[no-untyped-def]
    """For each group the component of all its points, or SEVERAL."""
    for group in range(len(component)):
        component[group] = root[groups.first[group]]
        for place in range(groups.first[group] + 1, groups.first[group + 1]):
            if root[place] != component[group]:
                component[group] = SEVERAL
                break


@cached_njit(nogil=True)
def bound_of(groups, core, least_core, root, component, place, group):  # type: ignore[no-untyped-def]
    """Below which length no edge leads from a point to another component within a group."""
    if component[group] == root[place]:
        return np.inf
    return max(core[place], least_core[group], np.float64(groups.least[place, group]))


@cached_njit(nogil=True)
def measure(groups, core, root, place, group, squares):  # type: ignore[no-untyped-def]
    """The shortest edge from a point to another component within a group: its length and the point there."""
    shortest, target = np.inf, -1
    for start in range(groups.first[group], groups.first[group + 1], LANES):
        n = min(LANES, groups.first[group + 1] - start)
        squares[:n] = 0.0
        for f in range(len(groups.points)):
            at, row = groups.points[f, place], groups.points[f, start : start + n]
            for lane in range(n):
                gap = row[lane] - at
                squares[lane] += gap * gap
        for lane in range(n):
            if root[start + lane] != root[place]:
                reach = max(core[place], core[start + lane], np.sqrt(squares[lane]))
                if reach < shortest:
                    shortest, target = reach, start + lane
    return shortest, target


@cached_njit(nogil=True)
def nearest_outside(groups, core, least_core, root, component, largest, best, best_from, best_to):  # type: ignore[no-untyped-def]
    """Lower best (N,) of every component but the largest, at its root, to its shortest edge, and remember the edge.

    The points with the smallest bounds come first: what they find spares the others.
    """
    n, count = len(core), len(component)
    nearest = np.full(n, np.inf)
    for place in range(n):
        if root[place] != largest and max(core[place], groups.unlisted[place]) < best[root[place]]:
            for group in range(count):
                nearest[place] = min(nearest[place], bound_of(groups, core, least_core, root, component, place, group))
    squares, seen = np.empty(LANES), np.full(count, -1)
    for place in np.argsort(nearest):
        own = root[place]
        while nearest[place] < best[own]:
            group, lowest = -1, best[own]
            for other in range(count):
                if seen[other] != place:
                    bound = bound_of(groups, core, least_core, root, component, place, other)
                    if bound < lowest:
                        group, lowest = other, bound
            if group < 0:
                break
            seen[group] = place
            reach, target = measure(groups, core, root, place, group, squares)
            groups.least[place, group] = np.float32(reach * (1 - 1e-7))
            if reach < best[own]:
                best[own], best_from[own], best_to[own] = reach, place, target


@cached_njit(nogil=True)
def largest_component(root):  # type: ignore[no-untyped-def]
    """The root of the component with the most points."""
    sizes = np.zeros(len(root), np.int64)
    for place in range(len(root)):
        sizes[root[place]] += 1
    return np.argmax(sizes)


@cached_njit(nogil=True)
def join(parent, root, best, best_from, best_to, sure, edges, start, end, weight):  # type: ignore[no-untyped-def]
    """Join every component whose shortest edge is sure along it; how many edges there are then."""
    for own in range(len(root)):
        if root[own] == own and sure[own] and best[own] < np.inf:
            a, b = best_from[own], best_to[own]
            if find(parent, a) != find(parent, b):
                unite(parent, a, b)
                start[edges], end[edges], weight[edges] = a, b, best[own]
                edges += 1
    for place in range(len(root)):
        root[place] = find(parent, place)
    return edges


@cached_njit(nogil=True)
def smallest_outside(block, own, begin, end, smallest):  # type: ignore[no-untyped-def]
    """Of each row the smallest outside the columns of its own component: those from begin[own] to end[own]."""
    lanes = np.empty(WIDTH, block.dtype)
    for row in range(len(block)):
        before, after = block[row, : begin[own[row]]], block[row, end[own[row]] :]
        smallest[row] = min(smallest_of(before, lanes), smallest_of(after, lanes))


def raise_bounds(
    groups: Groups,
    product: Product,
    core: np.ndarray,
    least_core: np.ndarray,
    root: np.ndarray,
    component: np.ndarray,
    largest: int,
    best: np.ndarray,
) -> None:
    """Let bounds of groups that hold several components speak of the others' points alone, where they may matter."""
    hopeful = np.flatnonzero((root != largest) & (np.maximum(core, groups.unlisted) < best[root]))
    for group in np.flatnonzero(component == SEVERAL):
        columns = np.arange(groups.first[group], groups.first[group + 1])
        columns = columns[np.argsort(root[columns], kind="stable")]
        inside, begin = np.unique(root[columns], return_index=True)
        end = np.append(begin[1:], len(columns))
        own = np.minimum(np.searchsorted(inside, root[hopeful]), len(inside) - 1)
        low = np.maximum(core[hopeful], np.maximum(least_core[group], groups.least[hopeful, group]))
        wanted = (inside[own] == root[hopeful]) & (low < best[root[hopeful]])
        rows, own, right = hopeful[wanted], own[wanted], product.right[torch.from_numpy(columns)].T
        for first in range(0, len(rows), ROWS):
            some = rows[first : first + ROWS]
            places = torch.from_numpy(some)
            left = product.left[places]
            block = torch.mm(left, right, out=left.new_empty(len(left), right.shape[1])).numpy()  # in full, autocast or not
            smallest = np.empty(len(some), block.dtype)
            smallest_outside(block, own[first : first + ROWS], begin, end, smallest)
            squares = np.maximum(smallest + product.norms[places].numpy(), 0)
            groups.least[some, group] = np.maximum(groups.least[some, group], lowered_roots(squares))


def grow(groups: Groups, product: Product, core: np.ndarray, start: np.ndarray, end: np.ndarray, weight: np.ndarray) -> None:
    """Fill in the edges of the tree, by places."""
    n, edges = len(core), 0
    parent, root = np.arange(n), np.arange(n)
    best, limit = np.full(n, np.inf), np.empty(n)
    best_from, best_to = np.full(n, -1, np.int64), np.full(n, -1, np.int64)
    component, least_core = np.empty(len(groups.first) - 1, np.int64), np.minimum.reduceat(core, groups.first[:-1])
    while edges < n - 1:
        take_listed(groups, core, root, best, best_from, best_to, limit)
        sure, roots = best <= limit, np.flatnonzero(root == np.arange(n))
        if sure[roots].mean() < SURE:
            component_of_groups(groups, root, component)
            largest = int(largest_component(root))
            known = core, least_core, root, component, largest, best
            raise_bounds(groups, product, *known)
            nearest_outside(groups, *known, best_from, best_to)
            sure = sure | (np.arange(n) != largest)
        edges = join(parent, root, best, best_from, best_to, sure, edges, start, end, weight)
        start_from_known(root, best, best_from, best_to)


def spanning_tree_of_groups(points: Tensor, neighbors: int) -> tuple[Tensor, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Core distances (N,) by the so-many-th neighbor, and the edges (N − 1,) from, to and weight of the tree."""
    groups, product = find_groups(points, neighbors)
    n = len(points)
    start, end, weight = np.empty(n - 1, np.int64), np.empty(n - 1, np.int64), np.empty(n - 1)
    core = groups.far[:, neighbors - 1].copy()
    grow(groups, product, core, start, end, weight)
    own = np.empty(n)
    own[groups.order] = core
    return torch.from_numpy(own), (groups.order[start], groups.order[end], weight)
