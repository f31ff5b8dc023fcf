"""The regions that links between points form, link by link: a union-find that never holds more than a chunk of them.

In: points in a k-d tree, or pairs of neighbors; out: for each point the smallest number of a point in its region.
Whole branches of the tree that already lie in one region are passed over, so dense data costs no more than sparse.
Source: Galler and Fischer (1964); a root is always the smallest number, so that labels come in scikit-learn's order.
"""

from __future__ import annotations

import numpy as np

from clustering.kdtree import DEEPEST, LEAF, leaf_squares, nearest_of_box
from kernels.jit import cached_njit

MIXED, NO_CORE = -1, -2  # of a node: its core points are not known to lie in one region; it has none


@cached_njit(nogil=True)
def find(root, point):  # type: ignore[no-untyped-def]
    """The region's root, halving the way there."""
    while root[point] != point:
        root[point] = root[root[point]]
        point = root[point]
    return point


@cached_njit(nogil=True)
def unite(root, a, b):  # type: ignore[no-untyped-def]
    """Join the regions of two points; the smaller root stays."""
    a, b = find(root, a), find(root, b)
    if a < b:
        root[b] = a
    elif b < a:
        root[a] = b


@cached_njit(nogil=True)
def unite_pairs(root, rows, indices):  # type: ignore[no-untyped-def]
    """Join the regions of every pair."""
    for pair in range(len(rows)):
        unite(root, rows[pair], indices[pair])


@cached_njit(nogil=True)
def settle(root):  # type: ignore[no-untyped-def]
    """Let every point know its root."""
    for point in range(len(root)):
        root[point] = root[root[point]]  # a root is smaller than its points and has been settled before them


@cached_njit(nogil=True)
def region_of_leaf(tree, node, core, root):  # type: ignore[no-untyped-def]
    """The root of all core points of a leaf, MIXED or NO_CORE."""
    region = NO_CORE
    for place in range(tree.first[node], tree.end[node]):
        point = tree.order[place]
        if core[point]:
            own = find(root, point)
            if region == NO_CORE:
                region = own
            elif region != own:
                return MIXED
    return region


@cached_njit(nogil=True)
def region_of_branch(left, right, root):  # type: ignore[no-untyped-def]
    """The root of two nodes' core points, from what is known of each."""
    if left == NO_CORE or right == MIXED:
        return right
    if right == NO_CORE or left == MIXED:
        return left
    left, right = find(root, left), find(root, right)
    return left if left == right else MIXED


@cached_njit(nogil=True)
def link_core_points(tree, core, square, root):  # type: ignore[no-untyped-def]
    """Join all core points within a squared radius of each other."""
    nodes, leaves = len(tree.first), len(tree.first) // 2
    known = np.full(nodes, MIXED, np.int64)  # a point of the node's one region, or MIXED or NO_CORE
    for node in range(nodes - 1, -1, -1):
        known[node] = (
            region_of_leaf(tree, node, core, root)
            if node >= leaves
            else region_of_branch(known[2 * node + 1], known[2 * node + 2], root)
        )
    stack, lanes, query = np.empty(DEEPEST, np.int64), np.empty(LEAF), np.empty(tree.points.shape[0])
    for place in range(len(tree.order)):
        point = tree.order[place]
        if not core[point]:
            continue
        query[:] = tree.points[:, place]
        stack[0], held = 0, 1
        while held:
            held -= 1
            node = stack[held]
            if known[node] == NO_CORE or (known[node] >= 0 and find(root, known[node]) == find(root, point)):
                continue
            if nearest_of_box(tree, node, query) > square:
                continue
            if node < leaves:
                known[node] = region_of_branch(known[2 * node + 1], known[2 * node + 2], root)
                if known[node] >= 0 and find(root, known[node]) == find(root, point):
                    continue
                stack[held], stack[held + 1] = 2 * node + 1, 2 * node + 2
                held += 2
                continue
            known[node] = region_of_leaf(tree, node, core, root)
            if known[node] >= 0 and find(root, known[node]) == find(root, point):
                continue
            n = leaf_squares(tree, node, query, lanes)
            for lane in range(n):
                other = tree.order[tree.first[node] + lane]
                if lanes[lane] <= square and core[other]:
                    unite(root, point, other)


@cached_njit(nogil=True)
def weigh_neighbors(tree, queries, square, weights, sums):  # type: ignore[no-untyped-def]
    """The weights of all points within a squared radius of each query, added up in the points' tree order."""
    stack, leaves, lanes = np.empty(DEEPEST, np.int64), len(tree.first) // 2, np.empty(LEAF)
    for q in range(len(queries)):
        stack[0], held, total = 0, 1, 0.0
        while held:
            held -= 1
            node = stack[held]
            if nearest_of_box(tree, node, queries[q]) > square:
                continue
            if node < leaves:
                stack[held], stack[held + 1] = 2 * node + 2, 2 * node + 1
                held += 2
                continue
            n = leaf_squares(tree, node, queries[q], lanes)
            for lane in range(n):
                if lanes[lane] <= square:
                    total += weights[tree.order[tree.first[node] + lane]]
        sums[q] = total


@cached_njit(nogil=True)
def first_label_within(tree, queries, square, labels, found):  # type: ignore[no-untyped-def]
    """The smallest label of a core point within a squared radius of each query, or −1. labels: −1 for all others."""
    stack, leaves, lanes = np.empty(DEEPEST, np.int64), len(tree.first) // 2, np.empty(LEAF)
    for q in range(len(queries)):
        stack[0], held, best = 0, 1, np.int64(-1)
        while held:
            held -= 1
            node = stack[held]
            if nearest_of_box(tree, node, queries[q]) > square:
                continue
            if node < leaves:
                stack[held], stack[held + 1] = 2 * node + 1, 2 * node + 2
                held += 2
                continue
            n = leaf_squares(tree, node, queries[q], lanes)
            for lane in range(n):
                if lanes[lane] <= square:
                    label = labels[tree.order[tree.first[node] + lane]]
                    if label >= 0 and (best < 0 or label < best):
                        best = label
        found[q] = best


@cached_njit(nogil=True)
def is_near(x, a, b, square):  # type: ignore[no-untyped-def]
    """Whether two points lie within a squared radius of each other: the differences in float64, feature after feature."""
    total = 0.0
    for f in range(x.shape[1]):
        gap = np.float64(x[a, f]) - np.float64(x[b, f])
        total += gap * gap
    return total <= square


@cached_njit(nogil=True)
def decide_block(x, points, first, block, sure, maybe, square, near):  # type: ignore[no-untyped-def]
    """Which pairs of a block of rounded squares (n, C) are near, into near (n, C) bool.

    points: (n,) the numbers of the rows; the columns are those from number first on. Up to sure (n,) a square says that a
    pair is near, above maybe (n,) that it is not; what lies between is measured.
    """
    for row in range(len(block)):
        squares, found, low, high, undecided = block[row], near[row], sure[row], maybe[row], np.int32(0)
        for other in range(len(squares)):
            found[other] = squares[other] <= low
        for other in range(len(squares)):
            undecided += np.int32((squares[other] > low) & (squares[other] <= high))
        if undecided:
            for other in range(len(squares)):
                if low < squares[other] <= high:
                    found[other] = is_near(x, points[row], first + other, square)


@cached_njit(nogil=True)
def weigh_block(near, weights, sums):  # type: ignore[no-untyped-def]
    """What is near the rows of a block (n, N) bool. weights: (N,), or (0,) to count."""
    for row in range(len(near)):
        if len(weights):
            total = 0.0
            for other in range(near.shape[1]):
                if near[row, other]:
                    total += weights[other]
            sums[row] = total
        else:
            count = 0
            for other in range(near.shape[1]):
                count += near[row, other]
            sums[row] = count


@cached_njit(nogil=True)
def link_block(first, near, core, root):  # type: ignore[no-untyped-def]
    """Join the core points of a block's rows (n, N) bool, from number first on, with all near core points before them."""
    for row in range(len(near)):
        point = first + row
        if core[point]:
            for other in range(point):
                if near[row, other] and core[other] and root[other] != root[point]:
                    unite(root, point, other)


@cached_njit(nogil=True)
def list_block(first, near, core, pairs):  # type: ignore[no-untyped-def]
    """The pairs (2, P) of a block's rows (n, N) bool, from number first on, that are no core points with what is near them."""
    held = 0
    for row in range(len(near)):
        if not core[first + row]:
            for other in range(near.shape[1]):
                if near[row, other]:
                    pairs[0, held], pairs[1, held] = first + row, other
                    held += 1


@cached_njit(nogil=True)
def first_label_of_block(near, labels, found):  # type: ignore[no-untyped-def]
    """The smallest label of a core point near each of a block's rows (n, N) bool, or −1. labels: −1 for all others."""
    for row in range(len(near)):
        best = np.int64(-1)
        for other in range(near.shape[1]):
            if near[row, other] and labels[other] >= 0 and (best < 0 or labels[other] < best):
                best = labels[other]
        found[row] = best


@cached_njit(nogil=True)
def first_label_of_pairs(pairs, labels, found):  # type: ignore[no-untyped-def]
    """Lower found (N,) of each pair's first point to the label of its second, where that has one."""
    for pair in range(pairs.shape[1]):
        point, label = pairs[0, pair], labels[pairs[1, pair]]
        if label >= 0 and (found[point] < 0 or label < found[point]):
            found[point] = label
