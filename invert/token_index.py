"""Nearest-neighbor search among the token embeddings that a lexicon uses.

The FAISS index is cached on disk under the table's hash, with each token's distance to its nearest
other token: an embedding farther from every token than those are from each other has no word.
"""

from __future__ import annotations

import hashlib
from functools import cached_property

import faiss
import numpy as np
import torch
from torch import Tensor

from invert.cache import cache_folder, write_whole
from invert.lexicon import Lexicon

NO_WORD_PERCENTILE = 95  # of the tokens' own nearest-neighbor distances


class TokenIndex:
    """The distinct tokens of a lexicon's words, and the nearest of them to an embedding.

    Attributes:
        token_ids: (T,) int64, sorted, on the model's device.
        embeddings: (T, D), their input embeddings.
        table: (V, D), those of all of the model's tokens.
    """

    def __init__(self, token_embeddings: Tensor, lexicon: Lexicon) -> None:
        """token_embeddings: (V, D), the model's whole table."""
        distinct = sorted({token for word in lexicon.words for token in word.ids})
        self.lexicon, self.table = lexicon, token_embeddings
        self.token_ids = torch.tensor(distinct, device=token_embeddings.device)
        self.embeddings = token_embeddings[self.token_ids]

    def __len__(self) -> int:
        return len(self.token_ids)

    @cached_property
    def word_means(self) -> Tensor:
        """(W, D): the mean token embedding of each word of the lexicon."""
        return torch.stack([self.table[list(word.ids)].mean(0) for word in self.lexicon.words])

    def nearest(self, embeddings: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k nearest tokens to embeddings (N, D).

        Returns:
            Token ids (N, k) int64 and Euclidean distances (N, k), nearest first, on the embeddings' device.
        """
        queries = np.ascontiguousarray(embeddings.detach().float().cpu().numpy())
        squared, found = self._index[0].search(queries, min(k, len(self)))
        ids = self.token_ids.cpu().numpy()[found]
        distances = np.sqrt(np.maximum(squared, 0))
        return torch.from_numpy(ids).to(embeddings.device), torch.from_numpy(distances).to(embeddings.device)

    @cached_property
    def no_word_distance(self) -> float:
        """An embedding farther than this (Euclidean) from every token has no word."""
        return float(np.percentile(self._index[1], NO_WORD_PERCENTILE))

    @cached_property
    def _index(self) -> tuple[faiss.Index, np.ndarray]:
        rows = self.embeddings.detach().float().cpu().numpy()
        index, nearest = cached_index(np.ascontiguousarray(rows))
        if self.embeddings.device.type == "cuda" and hasattr(faiss, "StandardGpuResources"):
            index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), self.embeddings.device.index or 0, index)
        return index, nearest


def cached_index(rows: np.ndarray) -> tuple[faiss.Index, np.ndarray]:
    """The exact L2 index of rows (T, D) and each row's distance to its nearest other row, from disk where known."""
    digest = hashlib.sha256(repr(rows.shape).encode() + rows.tobytes()).hexdigest()[:16]
    folder = cache_folder()
    index_file, distances_file = folder / f"{digest}.faiss", folder / f"{digest}.npy"
    try:
        index, distances = faiss.read_index(str(index_file)), np.load(distances_file)
        if (index.ntotal, index.d) == rows.shape and distances.shape == (len(rows),):
            return index, distances
    except (RuntimeError, OSError, ValueError, EOFError):
        pass  # not there, or damaged: made again below
    index = faiss.IndexFlatL2(rows.shape[1])
    index.add(rows)
    squared, _ = index.search(rows, min(2, len(rows)))
    distances = np.sqrt(np.maximum(squared[:, -1], 0))
    write_whole(index_file, lambda path: faiss.write_index(index, path))
    write_whole(distances_file, lambda path: np.save(path, distances))
    return index, distances
