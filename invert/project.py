"""From optimized embeddings back to tokens: nearest token, nearest combination, concepts.

In: embeddings (R, L, D) of all restarts. Out: for each position the nearest token, the two or three
tokens whose mean explains it better than any one (the seed thread's hyphenated terms), or the
statement that it has no word; and k-means concepts over all restarts with candidate words.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from clustering.runs import k_means
from invert.models.clip import Clip
from invert.models.precision import at_least_float32
from invert.token_index import TokenIndex

COMBINATION_POOL = 24  # nearest tokens from which combinations are formed
COMBINATION_GAIN = 0.1  # share by which a combination must be nearer than the best single token


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
    chosen = []
    for embedding, pool, pool_distances in zip(embeddings, ids, distances.tolist(), strict=True):
        best: tuple[int, ...] = (int(pool[0]),)
        distance = pool_distances[0]
        if most > 1:
            combined, joint = nearest_combination(embedding, at_least_float32(index.table[pool]), most)
            if joint < (1 - COMBINATION_GAIN) * distance:
                best, distance = tuple(int(pool[i]) for i in combined), joint
        chosen.append(Projection(best, distance, distance <= index.no_word_distance))
    return chosen


def nearest_combination(embedding: Tensor, rows: Tensor, most: int) -> tuple[tuple[int, ...], float]:
    """The 2…most rows (P, D) whose mean lies nearest to embedding (D,): (indices, distance).

    Every combination is tried; fewer than two rows give ((), inf).
    """
    pick: tuple[int, ...] = ()
    nearest = torch.inf
    for size in range(2, min(most, len(rows)) + 1):
        members = torch.combinations(torch.arange(len(rows), device=rows.device), size)  # (C, size)
        distance = (rows[members].mean(1) - embedding).norm(dim=1)
        best = int(distance.argmin())
        if float(distance[best]) < nearest:
            pick, nearest = tuple(members[best].tolist()), float(distance[best])
    return pick, nearest


def concepts(embeddings: Tensor, index: TokenIndex, seed: int, words: int = 5) -> list[Concept]:
    """What the restarts agree on: k-means over all R × L embeddings (R, L, D), as many clusters as positions.

    The concepts come in the order of the share of restarts that have an embedding in them.
    """
    restarts, length, width = embeddings.shape
    points = embeddings.reshape(-1, width)
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
