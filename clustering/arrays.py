"""What comes into an estimator and what goes out: NumPy arrays, lists, frames or tensors to tensors, and back.

In: whatever the user has, (N, D); out: a floating-point tensor over the same memory where that is possible,
on the data's own device, without gradients. Bad input ends here, with one sentence that names what is wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kernels.arrays import FLOATS as TENSOR_FLOATS
from kernels.arrays import as_tensor

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

FLOATS = (np.float64, np.float32, np.float16)
SMALLEST_TO_SQUARE = 1e-12  # of float32: squares of a thousandth of less lose digits
HALVES = (torch.float16, torch.bfloat16)


def read_points(estimator: BaseEstimator, x: Any, reset: bool = False, at_least: int = 1) -> Tensor:
    """The points of x as a floating-point tensor (N, D).

    Tensors stay on their device and in their dtype (integers become torch's default float, or float64 where that
    could not hold them); everything else passes scikit-learn's own validation, so that feature names and error
    messages are the ones users know.

    Args:
        estimator: whose n_features_in_ and feature_names_in_ are set or compared.
        x: (N, D), a tensor, array, list or frame.
        reset: the call is a `fit`, and sets what is known of the features anew.
        at_least: fewest rows.

    Raises:
        ValueError: another shape, too few rows, NaN or infinity, values whose squares no float64 holds, or another
            number of features than was fitted.
    """
    return read_measured(estimator, x, reset, at_least)[0]


def read_measured(estimator: BaseEstimator, x: Any, reset: bool = False, at_least: int = 1) -> tuple[Tensor, float | None]:
    """`read_points`, and the largest absolute value among the points where it was looked for: it costs a wait for the device."""
    if not isinstance(x, Tensor):
        from sklearn.utils.validation import validate_data  # a slow import, needed by estimators alone

        array = validate_data(estimator, native(x), reset=reset, dtype=FLOATS, ensure_min_samples=at_least)
        points = usual(as_tensor(array, "x"))
        return points, check_range(points)
    points = usual(x)
    most = check_tensor(points, at_least)
    match_features(estimator, points.shape[1], reset)
    return as_floats(points), most


def match_features(estimator: Any, n_features: int, reset: bool) -> None:
    """Set n_features_in_ and forget the names of earlier features, or compare with it: ValueError where it differs."""
    if reset:
        estimator.n_features_in_ = n_features
        if hasattr(estimator, "feature_names_in_"):
            del estimator.feature_names_in_
    elif n_features != estimator.n_features_in_:
        raise ValueError(
            f"x has {n_features} features, but {type(estimator).__name__} "
            f"is expecting {estimator.n_features_in_} features as input"
        )


def native(x: Any) -> Any:
    """Arrays of foreign byte order in this machine's, in the same dtype; anything else as it is.

    Raises ValueError for text, which NumPy would turn into numbers where it looks like some, and for masked points, whose
    masks would go without a word.
    """
    if isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x):
        raise ValueError("some of the points are masked, and masks are not followed: fill them, or leave their rows out")
    first = x
    while isinstance(first, list | tuple) and first:
        first = first[0]
    if isinstance(first, str | bytes) or (isinstance(first, np.ndarray) and first.dtype.kind in "US"):
        raise ValueError("dtype='numeric' is not compatible with arrays of bytes/strings: convert the points to numbers first")
    if isinstance(x, np.ndarray) and not x.dtype.isnative:
        return x.astype(x.dtype.newbyteorder("="))
    return x


def usual(points: Tensor) -> Tensor:
    """A tensor without history, in memory and dtypes that every function of torch and NumPy takes; copied only where it is not.

    The median of expanded rows is NaN in torch 2.14, and NumPy reads no negated views.
    """
    points = points.detach()
    if points.dtype in (torch.uint16, torch.uint32, torch.uint64):
        points = points.to(torch.float64 if points.dtype == torch.uint64 else torch.int64)
    if points.layout != torch.strided:
        return points
    expanded = any(step == 0 and size > 1 for step, size in zip(points.stride(), points.shape, strict=True))
    return points.resolve_neg().contiguous() if expanded else points.resolve_neg()


def as_floats(points: Tensor) -> Tensor:
    """Integers as torch's default float, or as float64 where they are too large for that; floats as they are."""
    if points.is_floating_point():
        return points
    kind = torch.get_default_dtype()
    exact = int(2 / torch.finfo(kind).eps)  # up to which it holds every whole number
    small = points.dtype == torch.bool or torch.iinfo(points.dtype).max <= exact
    if not small and bool(((points > exact) | (points < -exact)).any()):
        kind = torch.float64
    return points.to(kind)


def check_tensor(points: Tensor, at_least: int = 1) -> float | None:
    """What `check_range` returns.

    Raises ValueError unless points is dense, real, finite, not too large to square, and (N ≥ at_least, D ≥ 1).
    """
    if points.ndim != 2:
        raise ValueError(f"expected points of shape (N, D), got shape {tuple(points.shape)}: reshape them first")
    odd = points.is_complex() or (points.is_floating_point() and points.dtype not in TENSOR_FLOATS)  # of 8 bits
    if points.layout != torch.strided or odd:
        raise ValueError(f"expected dense real points, got {points.dtype} in layout {points.layout}: convert them first")
    if len(points) < at_least or points.shape[1] == 0:
        raise ValueError(f"expected at least {at_least} points with at least one feature, got shape {tuple(points.shape)}")
    return check_range(points)


def largest(points: Tensor) -> float:
    """The largest absolute value; NaN where there is one."""
    low, high = points.aminmax()
    return float(torch.maximum(-low, high))


def largest_to_square(kind: torch.dtype, features: int) -> float:
    """The largest absolute value whose squared distances stay finite in a dtype."""
    return (torch.finfo(kind).max / features) ** 0.5 / 8


def check_range(points: Tensor) -> float | None:
    """The largest absolute value, None of whole numbers and of no points.

    Raises ValueError for NaN, infinity, and values whose squared distances overflow float64.
    """
    if not points.is_floating_point() or not points.numel():
        return None
    most = largest(points)
    if not np.isfinite(most):
        raise ValueError("the points contain NaN or infinity: remove those rows first")
    if most > largest_to_square(torch.float64, points.shape[1]):
        raise ValueError(f"the points reach {most:.3g}, and their squared distances overflow float64: scale them down")
    return most


def read_weights(weights: Any, points: Tensor, signed: bool = False) -> Tensor | None:
    """Sample weights as a tensor (N,) in `sum_dtype` beside the points, or None where none are given.

    signed: negative weights are taken, too. Raises ValueError for another shape, negative or non-finite weights,
    weights that are all zero or whose sum overflows.
    """
    if weights is None:
        return None
    array = weights.detach() if isinstance(weights, Tensor) else np.asarray(weights)
    if array.is_complex() if isinstance(array, Tensor) else array.dtype.kind == "c":
        raise ValueError("Complex data not supported: sample_weight must be real")
    given = array if isinstance(array, Tensor) else torch.from_numpy(np.array(array, dtype=np.float64))
    given = given.to(points.device, sum_dtype(points.device))
    if given.ndim == 0:
        given = given.expand(len(points))
    if given.shape != points.shape[:1]:
        raise ValueError(f"sample_weight.shape == {tuple(given.shape)}, expected ({len(points)},)!")
    if not np.isfinite(float(given.abs().sum())):
        raise ValueError("sample_weight must be finite, and so must its sum: remove NaN and infinity, or scale it down")
    if not signed and bool((given < 0).any()):
        raise ValueError("Negative values in data passed to `sample_weight`")
    if not bool((given != 0).any()):
        raise ValueError("sample_weight is zero everywhere: at least one point must have a weight")
    return given.contiguous()


def read_centers(init: Any, points: Tensor, n_clusters: int) -> Tensor:
    """Starting centers (K, D) that the user gives, beside the points and in their dtype, as a copy.

    Raises ValueError for another shape, NaN and infinity.
    """
    if not isinstance(init, Tensor):
        from sklearn.utils.validation import check_array

        init = as_tensor(check_array(native(init), dtype=FLOATS, input_name="init"), "init")
    centers = init.detach().to(points, copy=True)
    if centers.shape != (n_clusters, points.shape[1]):
        raise ValueError(
            f"The shape of the initial centers {tuple(centers.shape)} does not match the number of clusters "
            f"and features: expected ({n_clusters}, {points.shape[1]})"
        )
    if not largest(centers) <= largest_to_square(compute_dtype(centers[:0]).dtype, centers.shape[1]):
        raise ValueError(f"init contains NaN, infinity or a value too large for {centers.dtype}")
    return centers


def to_input_type(result: Tensor, like: Any) -> Any:
    """The tensor itself where tensors came in, otherwise a NumPy array."""
    return result if isinstance(like, Tensor) else result.numpy(force=True)


def compute_dtype(points: Tensor) -> Tensor:
    """Points in the dtype that arithmetic is done in: 16-bit floats become float32, the others stay."""
    return points.float() if points.dtype in HALVES else points


def lossless(points: Tensor, dtype: torch.dtype) -> Tensor:
    """The points in a dtype, or in a wider one that holds it and them, where it would round them."""
    wide = points.to(torch.promote_types(points.dtype, dtype))
    if wide.dtype == dtype:
        return wide
    narrow = points.to(dtype)
    return narrow if bool((narrow == wide).all()) else wide


def squarable(points: Tensor, most: float | None = None) -> Tensor:
    """The points themselves, or in float64 where their squared distances would leave the range of the dtype computed in.

    most: their largest absolute value, where it is known.
    """
    if points.dtype in (torch.float64, torch.float16) or not points.numel():
        return points
    most = largest(points) if most is None else most
    fits = most == 0 or SMALLEST_TO_SQUARE <= most <= largest_to_square(torch.float32, points.shape[-1])
    return points if fits else points.double()


def beside(points: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """Points (…, N, D) and centers (…, K, D) in one dtype, which rounds neither and squares their distances to finite numbers."""
    kind = torch.promote_types(points.dtype, centers.dtype)
    points, centers = squarable(points.to(kind)), squarable(centers.to(points.device, kind))
    kind = torch.promote_types(points.dtype, centers.dtype)
    return points.to(kind), centers.to(kind)


def sum_dtype(device: torch.device) -> torch.dtype:
    """The dtype that sums over points are kept in: float64 wherever the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64
