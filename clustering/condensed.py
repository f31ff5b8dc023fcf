"""The hierarchy of HDBSCAN: from a spanning tree to clusters that persist over many scales.

In: the edges of a minimum spanning tree; out: the condensed tree, in which a cluster loses points until it splits in
two of at least a given size or ends, and from it the clusters, how strongly each point belongs to its own, and how much
of an outlier it is. λ is one over a distance. Sources: Campello, Moulavi and Sander (2013); Campello, Moulavi, Zimek
and Sander (2015) for the outlier scores (GLOSH); Malzer and Baum (2020) for the threshold epsilon.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kernels.jit import cached_njit


class Condensed(NamedTuple):
    """Rows of the condensed tree; points are numbers below N, N is the root, clusters are numbers above it."""

    parent: np.ndarray  # (R,) int64: the cluster that is left
    child: np.ndarray  # (R,) int64: the point or cluster that leaves it
    rate: np.ndarray  # (R,) λ at which it leaves
    size: np.ndarray  # (R,) int64 points of the child

    @property
    def root(self) -> int:
        return int(self.parent.min())

    def clusters(self) -> Condensed:
        """The rows whose children are clusters."""
        return Condensed(*(column[self.size > 1] for column in self))


@cached_njit()
def link(start, end, left, right, sizes):  # type: ignore[no-untyped-def]
    """Single linkage from edges in rising order: merge i joins nodes left and right into node N + i of so many points."""
    n = len(start) + 1
    parent, size = np.full(2 * n - 1, -1, np.int64), np.ones(2 * n - 1, np.int64)
    for merge in range(n - 1):
        a, b = start[merge], end[merge]
        while parent[a] >= 0:
            a = parent[a]
        while parent[b] >= 0:
            b = parent[b]
        for first, root in ((start[merge], a), (end[merge], b)):
            node = first
            while node != root:  # later ways are short
                above = parent[node]
                parent[node] = root
                node = above
        left[merge], right[merge] = a, b
        parent[a] = parent[b] = n + merge
        size[n + merge] = sizes[merge] = size[a] + size[b]


@cached_njit()
def drop(node, n, left, right, queue, cluster, rate, rows, parents, children, rates):  # type: ignore[no-untyped-def]
    """Let every point below a node leave a cluster; the number of rows after it."""
    queue[0], head, tail = node, 0, 1
    while head < tail:
        at = queue[head]
        head += 1
        if at < n:
            parents[rows], children[rows], rates[rows] = cluster, at, rate
            rows += 1
        else:
            queue[tail], queue[tail + 1] = left[at - n], right[at - n]
            tail += 2
    return rows


@cached_njit()
def condense_nodes(left, right, sizes, weight, least, parents, children, rates, counts):  # type: ignore[no-untyped-def]
    """Fill the condensed tree's columns; the number of its rows."""
    n = len(left) + 1
    queue, waiting = np.empty(2 * n, np.int64), np.empty(2 * n, np.int64)
    label = np.full(2 * n, -1, np.int64)
    waiting[0], head, tail = 2 * n - 2, 0, 1
    label[2 * n - 2], following, rows = n, n + 1, 0
    while head < tail:
        node = waiting[head]
        head += 1
        merge = node - n
        rate = 1.0 / weight[merge] if weight[merge] > 0 else np.inf
        sides = (left[merge], right[merge])
        large = [(sizes[side - n] if side >= n else 1) >= least for side in sides]
        for which in range(2):
            side = sides[which]
            if large[0] and large[1]:
                label[side] = following
                following += 1
                size = sizes[side - n] if side >= n else 1
                parents[rows], children[rows], rates[rows], counts[rows] = label[node], label[side], rate, size
                rows += 1
            elif large[which]:
                label[side] = label[node]
            else:
                before = rows
                rows = drop(side, n, left, right, queue, label[node], rate, rows, parents, children, rates)
                counts[before:rows] = 1
                continue
            if side >= n:
                waiting[tail] = side
                tail += 1
    return rows


def condense(start: np.ndarray, end: np.ndarray, weight: np.ndarray, min_cluster_size: int) -> Condensed:
    """The condensed tree of a spanning tree's edges (N − 1,)."""
    order = np.argsort(weight)
    start, end, weight = start[order], end[order], weight[order]
    left, right, sizes = (np.empty(len(start), np.int64) for _ in range(3))
    link(start, end, left, right, sizes)
    room = 2 * (len(start) + 1)
    columns = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room), np.empty(room, np.int64)
    rows = condense_nodes(left, right, sizes, weight, min_cluster_size, *columns)
    return Condensed(*(column[:rows].copy() for column in columns))


def stabilities(tree: Condensed) -> dict[int, float]:
    """How long the points of each cluster stay in it: the sum over its rows of size × (λ − the λ of its birth)."""
    root, last = tree.root, int(max(tree.parent.max(), tree.child.max()))
    births = np.zeros(last + 1)
    births[tree.child] = tree.rate
    births[root] = 0.0
    with np.errstate(invalid="ignore"):
        stay = (tree.rate - births[tree.parent]) * tree.size
    sums = np.zeros(last + 1 - root)
    np.add.at(sums, tree.parent - root, stay)
    return {root + k: float(sums[k]) for k in range(len(sums))}


class Selector:
    """Which clusters of the condensed tree are the answer."""

    def __init__(self, tree: Condensed) -> None:
        clusters = tree.clusters()
        self.tree, self.root = tree, tree.root
        self.above = dict(zip(clusters.child.tolist(), clusters.parent.tolist(), strict=True))
        self.birth = dict(zip(clusters.child.tolist(), clusters.rate.tolist(), strict=True))
        self.size = dict(zip(clusters.child.tolist(), clusters.size.tolist(), strict=True))
        self.below: dict[int, list[int]] = {}
        for child, parent in self.above.items():
            self.below.setdefault(parent, []).append(child)

    def descendants(self, cluster: int) -> list[int]:
        found, waiting = [], list(self.below.get(cluster, []))
        while waiting:
            found.append(waiting.pop())
            waiting += self.below.get(found[-1], [])
        return found

    def select(self, method: str, epsilon: float, allow_single: bool, most: int | None) -> list[int]:
        """The selected clusters, by number."""
        stable = stabilities(self.tree)
        nodes = sorted(stable, reverse=True)
        if not allow_single:
            nodes = nodes[:-1]
        if method == "leaf":
            leaves = [cluster for cluster in self.above if cluster not in self.below]
            chosen = set(leaves) if leaves else {self.root}
            if epsilon and leaves:
                chosen = self._merge_below(chosen, epsilon, allow_single)
            return sorted(chosen if leaves or allow_single else set())
        chosen = self._excess_of_mass(nodes, stable, len(self.tree.parent) + 1 if most is None else most)
        if epsilon and self.above:
            if chosen == {self.root}:
                return [self.root] if allow_single else []
            chosen = self._merge_below(chosen, epsilon, allow_single)
        return sorted(chosen)

    def _excess_of_mass(self, nodes: list[int], stable: dict[int, float], most: int) -> set[int]:
        """Clusters that are more stable than all that they split into; nodes: leaves first."""
        flagged: set[int] = set()
        chosen: set[int] = set()
        covered: set[int] = set()
        points = int(self.tree.size[self.tree.parent == self.root].sum())
        for node in nodes:
            split = sum(stable[child] for child in self.below.get(node, []))
            if split > stable[node] or self.size.get(node, points) > most:
                stable[node] = split
            else:
                flagged.add(node)
        for node in reversed(nodes):  # parents first: whatever is below a chosen one is part of it
            if self.above.get(node) in chosen or self.above.get(node) in covered:
                covered.add(node)
            elif node in flagged:
                chosen.add(node)
        return chosen

    def _merge_below(self, chosen: set[int], epsilon: float, allow_single: bool) -> set[int]:
        """Instead of clusters born at a distance below epsilon, the first above them that is not."""
        kept: set[int] = set()
        covered: set[int] = set()
        for cluster in chosen:
            if cluster == self.root or 1 / self.birth[cluster] >= epsilon:
                kept.add(cluster)
            elif cluster not in covered:
                while True:
                    parent = self.above[cluster]
                    if parent == self.root:
                        cluster = parent if allow_single else cluster
                        break
                    cluster = parent
                    if 1 / self.birth[cluster] > epsilon:
                        break
                kept.add(cluster)
                covered.update(self.descendants(cluster))
        return kept


def home_of_clusters(tree: Condensed, chosen: list[int]) -> np.ndarray:
    """For each cluster, from the root on, the position in chosen of itself or the one above it that was chosen, or −1."""
    clusters, root = tree.clusters(), tree.root
    home = np.full(int(tree.parent.max()) + 1 - root, -1)
    position = {cluster: k for k, cluster in enumerate(chosen)}
    home[0] = position.get(root, -1)
    for parent, child in zip(clusters.parent.tolist(), clusters.child.tolist(), strict=True):  # parents come first
        if child - root < len(home):
            home[child - root] = position.get(child, home[parent - root])
    return home


def deaths(tree: Condensed) -> np.ndarray:
    """For each cluster, from the root on, the largest λ at which anything leaves it."""
    last = np.zeros(int(tree.parent.max()) + 1 - tree.root)
    np.maximum.at(last, tree.parent - tree.root, tree.rate)
    return last


def label_points(tree: Condensed, chosen: list[int], epsilon: float, allow_single: bool) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N,), −1 for noise, and probabilities (N,), the strength of membership."""
    points = tree.child < tree.root
    n = tree.root
    labels, probabilities = np.full(n, -1, np.int64), np.zeros(n)
    home = home_of_clusters(tree, chosen)[tree.parent[points] - tree.root]
    rates = tree.rate[points]
    in_root = np.isin(home, [k for k, cluster in enumerate(chosen) if cluster == tree.root])
    if in_root.any():  # the root is everything: its members are who stays as long as the last, or until epsilon
        alone = len(chosen) == 1 and allow_single
        threshold = 1 / epsilon if epsilon else tree.rate[tree.parent == tree.root].max()
        home = np.where(in_root & ~((rates >= threshold) & alone), -1, home)
    labels[tree.child[points]] = home
    most = deaths(tree)[np.asarray(chosen, np.int64)[home] - tree.root] if chosen else np.ones(len(home))
    with np.errstate(invalid="ignore", divide="ignore"):
        strength = np.where((most == 0) | ~np.isfinite(rates), 1.0, np.minimum(rates, most) / most)
    probabilities[tree.child[points]] = np.where(home >= 0, strength, 0.0)
    return labels, probabilities


def outlier_scores(tree: Condensed) -> np.ndarray:
    """GLOSH (N,): 0 for points that stay until the last of their cluster and those below it, towards 1 for those gone first."""
    last = deaths(tree)
    clusters, root = tree.clusters(), tree.root
    for parent, child in zip(clusters.parent[::-1].tolist(), clusters.child[::-1].tolist(), strict=True):  # children first
        if child - root < len(last):
            last[parent - root] = max(last[parent - root], last[child - root])
    points = tree.child < tree.root
    rates, most = tree.rate[points], last[tree.parent[points] - tree.root]
    scores = np.zeros(tree.root)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(np.isinf(most), 1.0, (most - rates) / most)  # beside points that coincide, all others are gone at once
        scores[tree.child[points]] = np.where((most == 0) | ~np.isfinite(rates), 0.0, share)
    return scores
