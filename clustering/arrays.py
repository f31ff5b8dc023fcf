"""What comes into an estimator and what goes out: NumPy arrays, lists or tensors to tensors, and back to the same kind.

In: whatever the user has, (N, D); out: a floating-point tensor over the same memory where that is possible,
on the data's own device, without gradients. Bad input ends here, with one sentence that names what is wrong.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data
from torch import Tensor

from kernels.arrays import as_tensor

FLOATS = (np.float64, np.float32, np.float16)
CHECK_ROWS = 1 << 16  # looked at together when non-finite values are searched for


def read_points(estimator: BaseEstimator, x: Any, reset: bool = False, at_least: int = 1) -> Tensor:
    """The points of x as a tensor (N, D).

    Tensors stay on their device and in their dtype (integers become torch's default float); everything else
    passes scikit-learn's own validation, so that feature names and error messages are the ones users know.
    reset: the call is a `fit` and sets n_features_in_. at_least: fewest rows. Raises ValueError for another
    shape, for too few rows, for NaN or infinity, and for another number of features than was fitted.
    """
    if not isinstance(x, Tensor):
        array = validate_data(estimator, x, reset=reset, dtype=FLOATS, ensure_min_samples=at_least)
        return as_tensor(array, "x")
    points = x.detach()
    check_tensor(points, at_least)
    if reset:
        estimator.n_features_in_ = points.shape[1]
    elif points.shape[1] != estimator.n_features_in_:
        raise ValueError(
            f"x has {points.shape[1]} features, but {type(estimator).__name__} "
            f"is expecting {estimator.n_features_in_} features as input"
        )
    return points if points.is_floating_point() else points.to(torch.get_default_dtype())


def check_tensor(points: Tensor, at_least: int = 1) -> None:
    """Raise ValueError unless points is dense, real, finite and (N ≥ at_least, D ≥ 1)."""
    if points.ndim != 2:
        raise ValueError(f"expected points of shape (N, D), got shape {tuple(points.shape)}: reshape them first")
    if points.layout != torch.strided or points.is_complex():
        raise ValueError(f"expected dense real points, got {points.dtype} in layout {points.layout}: convert them first")
    if len(points) < at_least or points.shape[1] == 0:
        raise ValueError(f"expected at least {at_least} points with at least one feature, got shape {tuple(points.shape)}")
    if not all_finite(points):
        raise ValueError("the points contain NaN or infinity: remove those rows first")


def all_finite(points: Tensor) -> bool:
    """Whether no element is NaN or infinite.

    The sum settles it in one pass without a mask; only when it overflows are the rows looked at, in chunks.
    """
    if not points.is_floating_point():
        return True
    wide = points.dtype if points.dtype == torch.float64 else torch.float32
    if bool(torch.isfinite(points.sum(dtype=wide))):
        return True
    return all(bool(torch.isfinite(rows).all()) for rows in points.split(CHECK_ROWS))


def read_weights(weights: Any, points: Tensor) -> Tensor | None:
    """Sample weights as a tensor (N,) in `sum_dtype` beside the points, or None where none are given.

    Raises ValueError for another shape, negative or non-finite weights, or weights that are all zero.
    """
    if weights is None:
        return None
    given = weights.detach() if isinstance(weights, Tensor) else torch.as_tensor(np.asarray(weights))
    given = given.to(points.device, sum_dtype(points.device))
    if given.ndim == 0:
        given = given.expand(len(points))
    if given.shape != points.shape[:1]:
        raise ValueError(f"sample_weight has shape {tuple(given.shape)}: expected ({len(points)},)")
    if not all_finite(given) or bool((given < 0).any()) or not bool((given > 0).any()):
        raise ValueError("sample_weight must be finite, not negative, and not zero everywhere")
    return given


def to_input_type(result: Tensor, like: Any) -> Any:
    """The tensor itself where tensors came in, otherwise a NumPy array."""
    return result if isinstance(like, Tensor) else result.numpy(force=True)


def compute_dtype(points: Tensor) -> Tensor:
    """Points in the dtype that arithmetic is done in: 16-bit floats become float32, the others stay."""
    return points.float() if points.dtype in (torch.float16, torch.bfloat16) else points


def sum_dtype(device: torch.device) -> torch.dtype:
    """The dtype that sums over points are kept in: float64 wherever the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


def generator_on(device: torch.device, seed: int) -> torch.Generator:
    """A seeded random stream that draws on the device itself, so that no draw has to be moved there."""
    return torch.Generator(device=device).manual_seed(seed)
