"""From optimized embeddings back to tokens: nearest token, nearest combination, concepts.

In: embeddings (R, L, D) of all restarts. Out: for each position the nearest token, the two or three
tokens whose mean explains it better than any one (the seed thread's hyphenated terms), or the
statement that it has no word; and k-means concepts over all restarts with candidate words.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from clustering.runs import k_means
from invert.models.clip import Clip
from invert.models.precision import at_least_float32
from invert.token_index import TokenIndex

COMBINATION_POOL = 24  # nearest tokens from which combinations are formed
COMBINATION_GAIN = 0.1  # share by which a combination must be nearer than the best single token
AT_ONCE = 64  # embeddings whose combinations are compared together


@dataclass(frozen=True)
class Projection:
    """One embedding as tokens.

    Attributes:
        ids: one to three token ids.
        distance: Euclidean, from the embedding to the token's embedding or the mean of several.
        has_word: whether it is no farther than tokens are from each other.
    """

    ids: tuple[int, ...]
    distance: float
    has_word: bool

    def text(self, clip: Clip) -> str:
        """The tokens joined by hyphens, as the seed thread writes combinations."""
        return "-".join(clip.tokenizer.text(token) for token in self.ids)


@dataclass(frozen=True, eq=False)
class Concept:
    """A k-means cluster of the embeddings of all restarts.

    Attributes:
        centroid: (D,).
        share: of the restarts that have an embedding in it.
        words: indices of the lexicon's words nearest to the centroid with their distances, nearest first.
    """

    centroid: Tensor
    share: float
    words: tuple[tuple[int, float], ...]


def project(embeddings: Tensor, index: TokenIndex, most: int = 3) -> list[Projection]:
    """Each embedding (N, D) → its nearest token, or combination of up to `most` tokens."""
    ids, distances = index.nearest(embeddings, COMBINATION_POOL)
    singles = [
        (tuple(pool[:1]), pool_distances[0]) for pool, pool_distances in zip(ids.tolist(), distances.tolist(), strict=True)
    ]
    joint = singles if most < 2 else nearest_combinations(embeddings, at_least_float32(index.table[ids]), most)
    chosen = []
    for pool, (best, distance), (combined, smaller) in zip(ids.tolist(), singles, joint, strict=True):
        if smaller < (1 - COMBINATION_GAIN) * distance:
            best, distance = tuple(pool[i] for i in combined), smaller
        chosen.append(Projection(best, distance, distance <= index.no_word_distance))
    return chosen


def nearest_combinations(embeddings: Tensor, rows: Tensor, most: int) -> list[tuple[tuple[int, ...], float]]:
    """For each embedding (N, D) the 2…most of its rows (N, P, D) whose mean lies nearest to it: (indices, distance).

    Every combination is tried; fewer than two rows give ((), inf). On the host, whichever device they are on: there
    is little to compute.
    """
    found: list[tuple[tuple[int, ...], float]] = []
    parts = zip(embeddings.detach().cpu().split(AT_ONCE), rows.detach().cpu().split(AT_ONCE), strict=True)
    for some, own in parts:
        best: list[tuple[tuple[int, ...], float]] = [((), torch.inf)] * len(some)
        ways = own - some[:, None]
        products = (ways @ ways.mT).flatten(1)  # a mean's squared distance is the mean of these over pairs of its members
        for size in range(2, min(most, own.shape[1]) + 1):
            members, pairs = combinations_of(own.shape[1], size)
            picked = members[products[:, pairs].sum(2).argmin(1)]  # (N, size)
            distances = (own[torch.arange(len(own))[:, None], picked].mean(1) - some).norm(dim=1)
            these = zip(map(tuple, picked.tolist()), distances.tolist(), strict=True)
            best = [new if new[1] < old[1] else old for old, new in zip(best, these, strict=True)]
        found += best
    return found


@lru_cache(maxsize=8)
def combinations_of(n: int, size: int) -> tuple[Tensor, Tensor]:
    """All combinations of so many of n, (C, size), and the places in a flat n × n matrix of each one's pairs, (C, size²)."""
    members = torch.combinations(torch.arange(n), size)
    return members, (members[:, :, None] * n + members[:, None]).flatten(1)


def concepts(embeddings: Tensor, index: TokenIndex, seed: int, words: int = 5) -> list[Concept]:
    """What the restarts agree on: k-means over all R × L embeddings (R, L, D), as many clusters as positions.

    The concepts come in the order of the share of restarts that have an embedding in them; they are on the host.
    """
    restarts, length, width = embeddings.shape
    points = embeddings.reshape(-1, width).cpu()  # so few that a card would take longer to launch it
    fit = k_means(points, min(length, len(points)), n_init=2, random_state=seed)
    restart = torch.arange(restarts, device=points.device).repeat_interleave(length)
    ids, distances = index.nearest(fit.centers, words)
    found = []
    for k, centroid in enumerate(fit.centers):
        share = len(restart[fit.labels == k].unique()) / restarts
        nearest: dict[int, float] = {}
        for token, distance in zip(ids[k].tolist(), distances[k].tolist(), strict=True):
            nearest.setdefault(index.lexicon.words_with_token[token][0], distance)
        found.append(Concept(centroid, share, tuple(nearest.items())))
    return sorted(found, key=lambda concept: -concept.share)
