"""The product compiled by XLA, the compiler behind Nx's EXLA notebooks and JAX.

In: a (M, K), b (K, N) on a device that JAX has too; out: (M, N). The tensors cross over by DLPack, without a
copy where XLA takes their layout and alignment. Precision is "highest", so that float32 means float32 on GPUs too.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import torch
from torch import Tensor

ALIGNMENT = 16  # bytes; XLA's kernels for CUDA refuse memory that begins elsewhere, such as a view with an odd offset


@jax.jit
def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision="highest")


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """a (M, K) times b (K, N), any float dtype.

    On CPUs XLA flushes to zero: results below the dtype's smallest normal number (1.2e-38 in float32) are 0, where the
    other backends give subnormal numbers.
    """
    with jax.enable_x64(True):  # without it JAX would make float32 of float64
        result = _product(_to_jax(a), _to_jax(b)).block_until_ready()
        return torch.from_dlpack(result)


def _to_jax(tensor: Tensor) -> jax.Array:
    tensor = tensor.detach().contiguous()  # XLA's runtime takes row-major arrays only
    if tensor.data_ptr() % ALIGNMENT:
        tensor = tensor.clone()
    return jax.dlpack.from_dlpack(tensor)
