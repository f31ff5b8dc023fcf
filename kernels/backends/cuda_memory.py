"""Sixteen bytes at a time: the widest load and store of a CUDA thread, which numba's arrays do not offer.

`copy16(source, i, target, j)` is target[j:j+n] = source[i:i+n], n numbers in 16 bytes, for flat arrays in global,
shared or register memory; both places must be aligned to 16 bytes, and the simulator checks that their indices are.
`make_widen(dtype, count)` gives a device function that turns words of two 16-bit numbers into float32, and copies others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import cuda

from kernels.backends.cuda_launch import SIMULATED

BYTES = 16

if SIMULATED:

    def copy16(source: Any, i: int, target: Any, j: int) -> None:
        """target[j:] = source[i:], 16 bytes."""
        lanes = BYTES // target.dtype.itemsize
        if i % lanes or j % lanes:
            raise ValueError(f"a 16-byte access at element {i} or {j} is not aligned")
        for lane in range(lanes):
            target[j + lane] = source[i + lane]

    def _halves(word: Any, dtype: str) -> Any:
        pair = np.array([word], np.int32).view(np.int16)
        return torch.from_numpy(pair).view(getattr(torch, dtype)).float().numpy()

    def widen_float16_low(word: Any) -> Any:
        """The float16 in the lower half of a word."""
        return _halves(word, "float16")[0]

    def widen_float16_high(word: Any) -> Any:
        """The float16 in the upper half of a word."""
        return _halves(word, "float16")[1]

    def widen_bfloat16_low(word: Any) -> Any:
        """The bfloat16 in the lower half of a word."""
        return _halves(word, "bfloat16")[0]

    def widen_bfloat16_high(word: Any) -> Any:
        """The bfloat16 in the upper half of a word."""
        return _halves(word, "bfloat16")[1]

else:
    from llvmlite import ir
    from numba.core import types
    from numba.cuda.extending import intrinsic

    @intrinsic
    def copy16(typing: Any, source: Any, i: Any, target: Any, j: Any) -> Any:
        """target[j:] = source[i:], 16 bytes."""

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            vector = ir.VectorType(context.get_value_type(target.dtype), BYTES * 8 // target.dtype.bitwidth)

            def place(argument: int) -> Any:
                array = context.make_array(signature.args[argument])(context, builder, values[argument])
                element = builder.gep(array.data, [values[argument + 1]])
                return builder.bitcast(element, ir.PointerType(vector, element.type.addrspace))

            builder.store(builder.load(place(0), align=BYTES), place(2), align=BYTES)
            return context.get_dummy_value()

        return types.void(source, i, target, j), generate

    def _intrinsic(name: str, build: Any) -> Any:
        """A function of an int32 that returns a float32, from what builds its instructions."""

        def typed(typing: Any, word: Any) -> Any:
            def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
                return build(builder, values[0])

            return types.float32(types.int32), generate

        typed.__name__ = name
        return intrinsic(typed)

    def _float16(builder: Any, word: Any, shift: int) -> Any:
        half = builder.trunc(builder.lshr(word, ir.Constant(word.type, shift)), ir.IntType(16))
        return builder.fpext(builder.bitcast(half, ir.HalfType()), ir.FloatType())

    widen_float16_low = _intrinsic("widen_float16_low", lambda builder, word: _float16(builder, word, 0))
    widen_float16_high = _intrinsic("widen_float16_high", lambda builder, word: _float16(builder, word, 16))
    # a bfloat16 is the upper half of a float32
    widen_bfloat16_low = _intrinsic(
        "widen_bfloat16_low",
        lambda builder, word: builder.bitcast(builder.shl(word, ir.Constant(word.type, 16)), ir.FloatType()),
    )
    widen_bfloat16_high = _intrinsic(
        "widen_bfloat16_high",
        lambda builder, word: builder.bitcast(builder.and_(word, ir.Constant(word.type, 0xFFFF0000 - (1 << 32))), ir.FloatType()),
    )


def make_widen(dtype: str, count: int) -> Any:
    """A device function (words, first, numbers): `count` words as numbers, two a word for 16-bit ones, else as they are."""
    low: Any = widen_float16_low if dtype == "float16" else widen_bfloat16_low
    high: Any = widen_float16_high if dtype == "float16" else widen_bfloat16_high

    @cuda.jit(device=True)
    def copy(words, first, numbers):  # type: ignore[no-untyped-def]
        for i in range(count):
            numbers[i] = words[first + i]

    @cuda.jit(device=True)
    def widen(words, first, numbers):  # type: ignore[no-untyped-def]
        for i in range(count):
            numbers[2 * i] = low(words[first + i])
            numbers[2 * i + 1] = high(words[first + i])

    return widen if dtype in ("float16", "bfloat16") else copy
