"""Nearest-neighbor search among the token embeddings that a lexicon uses.

Each token's distance to its nearest other token is cached on disk under the table's hash: an embedding
farther from every token than those are from each other has no word. The FAISS index itself is the table,
and made faster than it is read.
"""

from __future__ import annotations

import hashlib
from functools import cached_property

import faiss
import numpy as np
import torch
from torch import Tensor

from invert.cache import cached_arrays
from invert.lexicon import Lexicon
from invert.models.precision import at_least_float32

WORDS = 4096  # whose token embeddings are averaged at once
NO_WORD_PERCENTILE = 95  # of the tokens' own nearest-neighbor distances


class TokenIndex:
    """The distinct tokens of a lexicon's words, and the nearest of them to an embedding.

    Attributes:
        token_ids: (T,) int64, sorted, on the model's device.
        embeddings: (T, D) float32 or wider, their input embeddings.
        table: (V, D), those of all of the model's tokens, in the model's type.
    """

    def __init__(self, token_embeddings: Tensor, lexicon: Lexicon) -> None:
        """token_embeddings: (V, D), the model's whole table."""
        distinct = sorted({token for word in lexicon.words for token in word.ids})
        self.lexicon, self.table = lexicon, token_embeddings
        self.token_ids = torch.tensor(distinct, device=token_embeddings.device)
        self.embeddings = at_least_float32(token_embeddings[self.token_ids])

    def __len__(self) -> int:
        return len(self.token_ids)

    @cached_property
    def word_means(self) -> Tensor:
        """(W, D) float32 or wider: the mean token embedding of each word of the lexicon."""
        by_length: dict[int, list[int]] = {}
        for i, word in enumerate(self.lexicon.words):
            by_length.setdefault(len(word.ids), []).append(i)
        means = self.embeddings.new_empty(len(self.lexicon), self.embeddings.shape[1])
        for alike in by_length.values():
            for begin in range(0, len(alike), WORDS):
                part = alike[begin : begin + WORDS]
                ids = torch.tensor([self.lexicon.words[i].ids for i in part], device=self.table.device)
                means[part] = at_least_float32(self.table[ids]).mean(1)
        return means

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
    """The exact L2 index of rows (T, D) and each row's distance to its nearest other row, which is kept on disk."""
    index = faiss.IndexFlatL2(rows.shape[1])
    index.add(rows)

    def nearest_others() -> dict[str, np.ndarray]:
        squared, _ = index.search(rows, min(2, len(rows)))
        return {"distances": np.sqrt(np.maximum(squared[:, -1], 0))}

    digest = hashlib.sha256(repr(rows.shape).encode() + rows.tobytes()).hexdigest()[:16]
    kept = cached_arrays(
        f"{digest}.tokens", ("distances",), nearest_others, lambda arrays: arrays["distances"].shape == (len(rows),)
    )
    return index, kept["distances"]
