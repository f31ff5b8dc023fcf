"""Results with rows of their own lengths, as users get them: lists of tensors, arrays of arrays, sparse matrices.

In: flat tensors (P,) and how they are cut into rows; out: the kind that goes with what the user passed.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor


def sparse_rows(offsets: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """torch's sparse matrix of rows, without its notice that such matrices are young."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse", UserWarning)
        return torch.sparse_csr_tensor(offsets, columns, values, shape)


def ragged(flat: Tensor, sizes: list[int], like: Any) -> Any:
    """Rows of the given sizes: a list of tensors, or an object array of arrays."""
    parts = list(flat.split(sizes)) if sizes else []
    if isinstance(like, Tensor):
        return parts
    out = np.empty(len(parts), dtype=object)
    for row, part in enumerate(parts):  # assigned at once, rows of one length would become a matrix
        out[row] = part.numpy(force=True)
    return out
