"""Nearest center of every point, without the N x K matrix of distances: what k-means does in every step.

In: points (N, D), centers (K, D), on any device; out: labels and squared distances (N,). On CUDA one fused
Triton kernel (`pairwise_triton`) keeps a running minimum in registers; on the CPU a chunk of the matrix at a time
passes through the cache. Labels come from |c|^2 - 2 x.c, one matrix product, distances from their definition,
so that they are exact even where |x| is large beside |x - c|. Source: Yang et al., Flash-KMeans, 2026.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.arrays import FLOATS, check_dense, dtype_name, without_autocast
from kernels.registry import BACKENDS, unavailable_reason

SMALLEST = 1e-15  # of what centers are apart in float32: squares of less lose their digits
MOST_ELEMENTS = 1 << 20  # of a chunk of the product on the CPU: 4 MiB of float32, which the caches hold


def nearest_centers(x: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """The center nearest to each point.

    Args:
        x: (N, D) finite points of float16, bfloat16, float32 or float64; any strides, any device. Products of norms of points
            and centers have to lie in the range of float32 on CUDA (norms below 1e19), and in that of float64 for float64
            points (1e154); on the CPU others may have any norm, and what does not fit is compared in float64.
        centers: (K, D), K at least 1, of the same dtype and device.

    Returns:
        labels (N,) int64; squared distances (N,), float64 for float64 points and float32 for all others. Centers whose
        distances differ by less than the product's rounding, equal ones included, count as equally near: any of them may be
        taken, of equal centers the first. Comparing them exactly would cost up to as much again as the product.

    Raises:
        ValueError: shapes that do not fit, or no center.
        TypeError: dtypes or devices that do not match, or a dtype that is not one of those above.

    Examples:
        >>> nearest_centers(torch.tensor([[0.0], [4.0]]), torch.tensor([[5.0], [1.0]]))
        (tensor([1, 0]), tensor([1., 1.]))
    """
    _check(x, centers)
    x, centers = x.detach(), centers.detach()
    if x.dtype != torch.float64 and unavailable_reason("triton", x.device.type) is None and 0 not in x.shape:
        from kernels.pairwise_triton import nearest_centers as fused

        return fused(x, centers)
    return _in_chunks(x, centers)


@without_autocast
def _in_chunks(x: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    wide = torch.promote_types(x.dtype, torch.float32)
    centers = centers.to(wide)
    offset = centers.mean(0)  # |c|^2 - 2 x.c loses digits where norms are large
    shifted = centers - offset
    half_norms = shifted.square().sum(1) / 2
    looks = wide != torch.float64 and x.device.type == "cpu"  # on others each look would wait for the device
    # Where squares are zero no score tells the centers apart. (Through NumPy: what the CPU's memory holds is there to be read.)
    is_tiny = looks and 0 < shifted.abs().sum().numpy().item() < SMALLEST
    labels = torch.empty(len(x), dtype=torch.int64, device=x.device)
    distances = torch.empty(len(x), dtype=wide, device=x.device)
    rows = max(1, MOST_ELEMENTS // len(centers))
    for first in range(0, len(x), rows):
        points = x[first : first + rows].to(wide)
        # half of |x - c|^2 - |x|^2, and |x|^2 is the same for every center
        scores = torch.addmm(half_norms, points - offset, shifted.T, alpha=-1)
        nearest = scores.argmin(1)
        if looks:
            lost = is_tiny | ~scores.gather(1, nearest[:, None])[:, 0].isfinite()  # a square or product was too large
            if lost.numpy().any():
                nearest[lost] = _in_chunks(points[lost].double(), centers.double())[0]
        labels[first : first + rows] = nearest
        distances[first : first + rows] = (points - centers[nearest]).square().sum(1)
    return labels, distances


def _check(x: Tensor, centers: Tensor) -> None:
    check_dense(x, centers)
    if x.ndim != 2 or centers.ndim != 2 or x.shape[1] != centers.shape[1] or len(centers) == 0:
        raise ValueError(f"points (N, D) and centers (K, D) must share D, with K at least 1: not {x.shape} and {centers.shape}")
    if x.dtype != centers.dtype or x.device != centers.device:
        raise TypeError(
            f"points are {dtype_name(x)} on {x.device}, centers {dtype_name(centers)} on {centers.device}: they must be alike"
        )
    if x.dtype not in FLOATS:
        raise TypeError(f"points must be of {', '.join(BACKENDS['torch'].dtypes)}, not {dtype_name(x)}")
