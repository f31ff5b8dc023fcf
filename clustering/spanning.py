"""Minimum spanning trees under the mutual reachability distance: what HDBSCAN grows its hierarchy from.

In: points (N, D) and core distances (N,); out: N − 1 edges (from, to, weight). Two points are as far apart as the
largest of their core distances and their own distance. Prim's algorithm looks at every pair, in scikit-learn's order,
so that ties fall alike; Borůvka's over a k-d tree looks at few of them. Sources: Prim (1957); Borůvka (1926), by March,
Ram and Gray, "Fast Euclidean minimum spanning tree" (2010).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from clustering.kdtree import DEEPEST, LEAF, Tree, leaf_squares, nearest_of_box
from clustering.regions import find, unite
from kernels.jit import cached_njit

SEVERAL = -1  # components in a node


@cached_njit(nogil=True)
def prim(x, core, start, end, weight):  # type: ignore[no-untyped-def]
    """Edges of the tree grown from point 0, in the order of their growing. x: (D, N) float64."""
    n = x.shape[1]
    outside = np.arange(1, n)
    least, source = np.full(n, np.inf), np.ones(n, np.int64)
    squares = np.empty(n)
    current, left = 0, n - 1
    for edge in range(n - 1):
        squares[:left] = 0.0
        for f in range(len(x)):
            at = x[f, current]
            for place in range(left):
                gap = at - x[f, outside[place]]
                squares[place] += gap * gap
        nearest, chosen = np.inf, -1
        for place in range(left):
            other = outside[place]
            reach = max(core[current], core[other], np.sqrt(squares[place]))
            if reach < least[other]:
                least[other], source[other] = reach, current
            if least[other] < nearest:
                nearest, chosen = least[other], place
        current = outside[chosen]
        start[edge], end[edge], weight[edge] = source[current], current, nearest
        left -= 1
        for place in range(chosen, left):  # kept in order, so that of equal edges the first point's is taken
            outside[place] = outside[place + 1]


@cached_njit(nogil=True)
def component_of_nodes(tree, root, component):  # type: ignore[no-untyped-def]
    """For each node the component of all its points, or SEVERAL."""
    nodes, leaves = len(tree.first), len(tree.first) // 2
    for node in range(nodes - 1, -1, -1):
        if node < leaves:
            left, right = component[2 * node + 1], component[2 * node + 2]
            component[node] = left if left == right else SEVERAL
        else:
            own = root[tree.order[tree.first[node]]]
            for place in range(tree.first[node] + 1, tree.end[node]):
                if root[tree.order[place]] != own:
                    own = SEVERAL
                    break
            component[node] = own


@cached_njit(nogil=True)
def least_core_of_nodes(tree, core):  # type: ignore[no-untyped-def]
    """For each node the smallest core distance of its points."""
    nodes, leaves = len(tree.first), len(tree.first) // 2
    least = np.empty(nodes)
    for node in range(nodes - 1, -1, -1):
        if node < leaves:
            least[node] = min(least[2 * node + 1], least[2 * node + 2])
        else:
            least[node] = np.inf
            for place in range(tree.first[node], tree.end[node]):
                least[node] = min(least[node], core[tree.order[place]])
    return least


@cached_njit(nogil=True)
def nearest_outside(tree, core, least, root, component, bound, best, best_from, best_to):  # type: ignore[no-untyped-def]
    """Lower best (N,) of every component, at its root, to its shortest edge to another component, and remember the edge.

    bound: (N,) below which no point outside its component lies; components only grow, so it holds ever after.
    """
    leaves, depth = len(tree.first) // 2, tree.points.shape[0]
    stack, bounds, lanes, query = np.empty(DEEPEST, np.int64), np.empty(DEEPEST), np.empty(LEAF), np.empty(depth)
    for place in range(len(tree.order)):
        point = tree.order[place]
        own, own_core = root[point], core[point]
        if bound[point] >= best[own]:
            continue
        query[:] = tree.points[:, place]
        found, stack[0], bounds[0], held = np.inf, 0, 0.0, 1
        while held:
            held -= 1
            node = stack[held]
            if component[node] == own:
                continue
            if bounds[held] >= best[own]:
                found = min(found, bounds[held])
                continue
            if node >= leaves:
                n = leaf_squares(tree, node, query, lanes)
                for lane in range(n):
                    other = tree.order[tree.first[node] + lane]
                    if root[other] != own:
                        reach = max(own_core, core[other], np.sqrt(lanes[lane]))
                        found = min(found, reach)
                        if reach < best[own]:
                            best[own], best_from[own], best_to[own] = reach, point, other
                continue
            near, far = 2 * node + 1, 2 * node + 2
            to_near = max(own_core, least[near], np.sqrt(nearest_of_box(tree, near, query)))
            to_far = max(own_core, least[far], np.sqrt(nearest_of_box(tree, far, query)))
            if to_far < to_near:
                near, far, to_near, to_far = far, near, to_far, to_near
            stack[held], bounds[held] = far, to_far
            stack[held + 1], bounds[held + 1] = near, to_near
            held += 2
        bound[point] = found


@cached_njit(nogil=True)
def boruvka(tree, core, start, end, weight):  # type: ignore[no-untyped-def]
    """Edges of the tree: in each round every component takes its shortest edge to another."""
    n, edges = len(core), 0
    parent, root = np.arange(n), np.arange(n)
    component, least, bound = np.empty(len(tree.first), np.int64), least_core_of_nodes(tree, core), core.copy()
    best, best_from, best_to = np.full(n, np.inf), np.full(n, -1, np.int64), np.full(n, -1, np.int64)
    while edges < n - 1:
        component_of_nodes(tree, root, component)
        nearest_outside(tree, core, least, root, component, bound, best, best_from, best_to)
        for own in range(n):
            if root[own] == own and best_to[own] >= 0:
                a, b = best_from[own], best_to[own]
                if find(parent, a) != find(parent, b):
                    unite(parent, a, b)
                    start[edges], end[edges], weight[edges] = a, b, best[own]
                    edges += 1
        for point in range(n):
            root[point] = find(parent, point)
        start_from_known(root, best, best_from, best_to)


@cached_njit(nogil=True)
def start_from_known(root, best, best_from, best_to):  # type: ignore[no-untyped-def]
    """For the next round: the shortest edges of former components that still lead out of the one they have become."""
    n = len(root)
    lengths, origins, targets = best.copy(), best_from.copy(), best_to.copy()
    best[:], best_to[:] = np.inf, -1
    for former in range(n):
        if targets[former] >= 0 and root[origins[former]] != root[targets[former]]:
            own = root[origins[former]]
            if lengths[former] < best[own]:
                best[own], best_from[own], best_to[own] = lengths[former], origins[former], targets[former]


def spanning_tree(points: Tensor, core: Tensor, tree: Tree | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges (N − 1,): from, to and weight. points and core distances in main memory or on a device; tree: for Borůvka's."""
    n = len(points)
    start, end, weight = np.empty(n - 1, np.int64), np.empty(n - 1, np.int64), np.empty(n - 1)
    if tree is not None:
        boruvka(tree, core.numpy(), start, end, weight)
    elif points.device.type == "cpu":
        prim(np.ascontiguousarray(points.double().numpy().T), core.numpy(), start, end, weight)
    else:
        start, end, weight = (part.numpy(force=True) for part in prim_on_device(points, core))
    return start, end, weight


def prim_on_device(points: Tensor, core: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`prim` where the points are: N − 1 steps of a few kernels, none of which waits for the host."""
    n, device = len(points), points.device
    least = torch.full((n,), torch.inf, dtype=core.dtype, device=device)
    source = torch.zeros(n, dtype=torch.int64, device=device)
    inside = torch.zeros(n, dtype=torch.bool, device=device)
    ends, weights = torch.empty(n - 1, dtype=torch.int64, device=device), torch.empty(n - 1, dtype=core.dtype, device=device)
    starts = torch.empty_like(ends)
    current = torch.zeros(1, dtype=torch.int64, device=device)
    for edge in range(n - 1):
        inside.index_fill_(0, current, True)
        far = (points - points[current]).to(core.dtype).square_().sum(1).sqrt_()
        reach = torch.maximum(torch.maximum(far, core), core[current])
        closer = reach < least
        least = torch.where(closer, reach, least)
        source = torch.where(closer, current, source)
        current = least.masked_fill(inside, torch.inf).argmin(0, keepdim=True)
        starts[edge : edge + 1], ends[edge : edge + 1], weights[edge : edge + 1] = source[current], current, least[current]
    return starts, ends, weights
