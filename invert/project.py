"""From optimised embeddings back to tokens: nearest token, nearest combination, concepts.

In: embeddings (R, L, D) of all restarts. Out: for each position the nearest token, the two or three
tokens whose mean explains it better than any one (the seed thread's hyphenated terms), or the
statement that it has no word; and k-means concepts over all restarts with candidate words.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from clustering import KMeans
from invert.vocabulary import Vocabulary

COMBINATION_POOL = 24  # nearest tokens from which combinations are formed
COMBINATION_GAIN = 0.1  # share by which a combination must be nearer than the best single token


@dataclass(frozen=True)
class Projection:
    """One embedding as tokens. ids: one to three token ids. distance: Euclidean, from the embedding
    to the tokens' row or mean of rows. has_word: the distance is one that words keep among themselves."""

    ids: tuple[int, ...]
    distance: float
    has_word: bool

    def text(self, vocabulary: Vocabulary) -> str:
        """The tokens joined by hyphens, as the seed thread writes combinations."""
        tokens = (vocabulary.clip.token_text(token).removesuffix("</w>") for token in self.ids)
        return "-".join(tokens)


@dataclass(frozen=True)
class Concept:
    """A k-means centroid over the embeddings of all restarts. share: of restarts that contribute."""

    centroid: Tensor  # (D,)
    share: float
    words: tuple[tuple[int, float], ...]  # nearest vocabulary words and their distance, nearest first


def project(embeddings: Tensor, vocabulary: Vocabulary, most: int = 3) -> list[Projection]:
    """Each embedding (N, D) → its nearest token, or combination of up to `most` tokens."""
    ids, distances = vocabulary.nearest_tokens(embeddings, COMBINATION_POOL)
    chosen = []
    for embedding, near, far in zip(embeddings, ids, distances.tolist(), strict=True):
        best: tuple[int, ...] = (int(near[0]),)
        distance = far[0]
        if most > 1:
            combined, joint = nearest_combination(embedding, vocabulary.clip.token_embeddings[near], most)
            if joint < (1 - COMBINATION_GAIN) * distance:
                best, distance = tuple(int(near[i]) for i in combined), joint
        chosen.append(Projection(best, distance, distance <= vocabulary.no_word_distance))
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


def concepts(embeddings: Tensor, vocabulary: Vocabulary, seed: int, words: int = 5) -> list[Concept]:
    """What the restarts agree on: k-means over all R × L embeddings, as many clusters as positions.

    embeddings: (R, L, D). Sorted by the share of restarts that have an embedding in the cluster.
    """
    restarts, length, width = embeddings.shape
    points = embeddings.reshape(-1, width)
    fit = KMeans(n_clusters=min(length, len(points)), n_init=2, random_state=seed).fit(points)
    owner = torch.arange(restarts, device=points.device).repeat_interleave(length)
    ids, distances = vocabulary.nearest_tokens(fit.cluster_centers_, words)
    found = []
    for k, centroid in enumerate(fit.cluster_centers_):
        share = len(owner[fit.labels_ == k].unique()) / restarts
        near: dict[int, float] = {}
        for token, distance in zip(ids[k].tolist(), distances[k].tolist(), strict=True):
            near.setdefault(vocabulary.words_with_token[token][0], distance)
        found.append(Concept(centroid, share, tuple(near.items())))
    return sorted(found, key=lambda concept: -concept.share)
