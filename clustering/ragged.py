"""Results with rows of their own lengths, as users get them: lists of tensors, arrays of arrays, sparse matrices.

In: flat tensors (P,) and how they are cut into rows; out: the kind that goes with what the user passed.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor


def sparse_rows(offsets: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """torch's sparse matrix of rows, without its notice that such matrices are young."""
    _let_torch_say_it_once()
    return torch.sparse_csr_tensor(offsets, columns, values, shape, device=values.device)


@cache
def _let_torch_say_it_once() -> None:
    """torch says it of the first such matrix of a process. Hiding warnings is not safe among threads, so it is done but once."""
    none = torch.zeros(1, dtype=torch.int64, device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.sparse_csr_tensor(none, none[:0], none[:0], (0, 0), device="cpu")


def ragged(flat: Tensor, sizes: list[int], like: Any) -> Any:
    """Rows of the given sizes: a list of tensors, or an object array of arrays."""
    parts = list(flat.split(sizes)) if sizes else []
    if isinstance(like, Tensor):
        return parts
    out = np.empty(len(parts), dtype=object)
    for row, part in enumerate(parts):  # assigned at once, rows of one length would become a matrix
        out[row] = part.numpy(force=True)
    return out
