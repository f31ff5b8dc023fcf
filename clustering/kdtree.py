"""A k-d tree over points in main memory: exact neighbors in few features, and the order that DBSCAN and HDBSCAN walk.

In: points (N, D); out: the nearest k, all within a radius, or how many there are. Distances are sums of squared
differences in float64, feature after feature: scikit-learn's own, so that a point at exactly the radius is found.
Of equally distant points the first is nearest. Nodes are halved at the median of their widest feature until a leaf
holds few points; a leaf's points lie side by side, feature by feature, so that one vector instruction serves several.
Source: Friedman, Bentley and Finkel (1977).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kernels.jit import cached_njit

LEAF = 32  # points in a leaf, at most
DEEPEST = 64  # levels of a tree, more than memory could hold points for


class Tree(NamedTuple):
    """The tree as arrays; children of node i are 2 i + 1 and 2 i + 2."""

    order: np.ndarray  # (N,) int64: the point at each place
    points: np.ndarray  # (D, N) float64, in that order
    first: np.ndarray  # (nodes,) int64: the places of a node's points, and end
    end: np.ndarray
    low: np.ndarray  # (nodes, D): the box around a node's points, and high
    high: np.ndarray

    @property
    def leaves(self) -> int:
        """Nodes above this number are leaves: the first of them."""
        return len(self.first) // 2


def build(points: np.ndarray) -> Tree:
    """The tree over points (N, D) of any floating dtype."""
    wide = np.ascontiguousarray(points, np.float64)
    levels = max(0, int(np.ceil(np.log2(max(1, len(points) / LEAF)))))
    nodes = 2 ** (levels + 1) - 1
    order = np.arange(len(points))
    first, end = np.zeros(nodes, np.int64), np.zeros(nodes, np.int64)
    low, high = np.empty((nodes, points.shape[1])), np.empty((nodes, points.shape[1]))
    split_nodes(wide, order, first, end, low, high)
    return Tree(order, np.ascontiguousarray(wide[order].T), first, end, low, high)


@cached_njit(nogil=True)
def split_nodes(x, order, first, end, low, high):  # type: ignore[no-untyped-def]
    """Fill order, first, end and the boxes, node by node."""
    depth, nodes = x.shape[1], len(first)
    end[0] = len(x)
    for node in range(nodes):
        for f in range(depth):
            smallest, largest = np.inf, -np.inf
            for place in range(first[node], end[node]):
                value = x[order[place], f]
                smallest = min(smallest, value)
                largest = max(largest, value)
            low[node, f], high[node, f] = smallest, largest
        if 2 * node + 2 < nodes:
            widest = 0
            for f in range(1, depth):
                if high[node, f] - low[node, f] > high[node, widest] - low[node, widest]:
                    widest = f
            middle = (first[node] + end[node]) // 2
            select(x, order, first[node], end[node] - 1, middle, widest)
            first[2 * node + 1], end[2 * node + 1] = first[node], middle
            first[2 * node + 2], end[2 * node + 2] = middle, end[node]


@cached_njit(nogil=True)
def select(x, order, left, right, middle, feature):  # type: ignore[no-untyped-def]
    """Quickselect (Hoare): order[left : middle] hold values of the feature not above those of order[middle : right + 1]."""
    while left < right:
        a, b, c = x[order[left], feature], x[order[(left + right) // 2], feature], x[order[right], feature]
        pivot = max(min(a, b), min(max(a, b), c))
        i, j = left, right
        while i <= j:
            while x[order[i], feature] < pivot:
                i += 1
            while x[order[j], feature] > pivot:
                j -= 1
            if i <= j:
                order[i], order[j] = order[j], order[i]
                i += 1
                j -= 1
        if middle <= j:
            right = j
        elif middle >= i:
            left = i
        else:
            return


@cached_njit(nogil=True)
def nearest_of_box(tree, node, query):  # type: ignore[no-untyped-def]
    """Squared distance of a query to a node's box; rounded as the points' own, so never above any of them."""
    total = 0.0
    for f in range(len(query)):
        gap = max(tree.low[node, f] - query[f], query[f] - tree.high[node, f], 0.0)
        total += gap * gap
    return total


@cached_njit(nogil=True)
def farthest_of_box(tree, node, query):  # type: ignore[no-untyped-def]
    """Squared distance of a query to the farthest corner of a node's box."""
    total = 0.0
    for f in range(len(query)):
        gap = max(query[f] - tree.low[node, f], tree.high[node, f] - query[f])
        total += gap * gap
    return total


@cached_njit(nogil=True)
def leaf_squares(tree, node, query, squares):  # type: ignore[no-untyped-def]
    """Squared distances of a leaf's points to a query, into squares; their number."""
    start = tree.first[node]
    n = tree.end[node] - start
    squares[:n] = 0.0
    for f in range(len(query)):
        at = query[f]
        row = tree.points[f, start : start + n]
        for lane in range(n):
            gap = row[lane] - at
            squares[lane] += gap * gap
    return n


@cached_njit(nogil=True)
def sink(best, index):  # type: ignore[no-untyped-def]
    """Put the new root of a heap, the farthest (or of equals the last) on top, in its place."""
    at, n = 0, len(best)
    while True:
        child = 2 * at + 1
        if child >= n:
            return
        right = child + 1
        if right < n and (best[right] > best[child] or (best[right] == best[child] and index[right] > index[child])):
            child = right
        if best[child] < best[at] or (best[child] == best[at] and index[child] < index[at]):
            return
        best[at], best[child] = best[child], best[at]
        index[at], index[child] = index[child], index[at]
        at = child


@cached_njit(nogil=True)
def nearest_points(tree, queries, squares, indices):  # type: ignore[no-untyped-def]
    """The k nearest points of each query (Q, D): squares and indices (Q, k), nearest first."""
    k, leaves = squares.shape[1], len(tree.first) // 2
    nodes, bounds = np.empty(DEEPEST, np.int64), np.empty(DEEPEST)
    lanes = np.empty(LEAF)
    largest = np.iinfo(np.int64).max
    for q in range(len(queries)):
        query, best, index = queries[q], squares[q], indices[q]
        best[:] = np.inf
        index[:] = largest
        nodes[0], bounds[0], held = 0, 0.0, 1
        while held:
            held -= 1
            node = nodes[held]
            if bounds[held] > best[0]:
                continue
            if node >= leaves:
                n = leaf_squares(tree, node, query, lanes)
                start = tree.first[node]
                for lane in range(n):
                    if lanes[lane] <= best[0]:
                        point = tree.order[start + lane]
                        if lanes[lane] < best[0] or point < index[0]:
                            best[0], index[0] = lanes[lane], point
                            sink(best, index)
                continue
            near, far = 2 * node + 1, 2 * node + 2
            to_near, to_far = nearest_of_box(tree, near, query), nearest_of_box(tree, far, query)
            if to_far < to_near:
                near, far, to_near, to_far = far, near, to_far, to_near
            nodes[held], bounds[held] = far, to_far
            nodes[held + 1], bounds[held + 1] = near, to_near
            held += 2
        for last in range(k - 1, 0, -1):  # the heap's root is the farthest
            best[0], best[last] = best[last], best[0]
            index[0], index[last] = index[last], index[0]
            sink(best[:last], index[:last])


@cached_njit(nogil=True)
def count_within(tree, queries, square, enough, counts):  # type: ignore[no-untyped-def]
    """How many points lie within a squared radius of each query; counting may stop once there are enough."""
    nodes, leaves, lanes = np.empty(DEEPEST, np.int64), len(tree.first) // 2, np.empty(LEAF)
    for q in range(len(queries)):
        query = queries[q]
        nodes[0], held, count = 0, 1, 0
        while held and count < enough:
            held -= 1
            node = nodes[held]
            if nearest_of_box(tree, node, query) > square:
                continue
            if farthest_of_box(tree, node, query) <= square:
                count += tree.end[node] - tree.first[node]
            elif node >= leaves:
                n = leaf_squares(tree, node, query, lanes)
                for lane in range(n):
                    count += lanes[lane] <= square
            else:
                nodes[held], nodes[held + 1] = 2 * node + 1, 2 * node + 2
                held += 2
        counts[q] = count


@cached_njit(nogil=True)
def list_within(tree, queries, square, offsets, indices, squares):  # type: ignore[no-untyped-def]
    """All points within a squared radius of each query, from offsets[q] on."""
    nodes, leaves, lanes = np.empty(DEEPEST, np.int64), len(tree.first) // 2, np.empty(LEAF)
    for q in range(len(queries)):
        query, at = queries[q], offsets[q]
        nodes[0], held = 0, 1
        while held:
            held -= 1
            node = nodes[held]
            if nearest_of_box(tree, node, query) > square:
                continue
            if node >= leaves:
                n = leaf_squares(tree, node, query, lanes)
                for lane in range(n):
                    if lanes[lane] <= square:
                        indices[at], squares[at] = tree.order[tree.first[node] + lane], lanes[lane]
                        at += 1
            else:
                nodes[held], nodes[held + 1] = 2 * node + 1, 2 * node + 2
                held += 2


@cached_njit(nogil=True)
def pair_squares(x, queries, rows, indices, squares):  # type: ignore[no-untyped-def]
    """Squared distances (P,) of pairs of a query (row) and a point (index), as everywhere in this file."""
    for pair in range(len(rows)):
        total = 0.0
        for f in range(x.shape[1]):
            gap = np.float64(x[indices[pair], f]) - np.float64(queries[rows[pair], f])
            total += gap * gap
        squares[pair] = total
