"""The ladder, one file a step, each with `matmul(a, b)` on two checked, non-empty 2-D tensors of one dtype.

On the CPU: `loops`, `broadcast`, `einsum`, `numpy_blas`, `numba_cpu`, `torch_blas`, `jax_xla`.
On CUDA: `cuda_naive`, `cuda_tiled`, `cuda_blocked` with `cuda_skinny`, `triton_tiles`.
"""
