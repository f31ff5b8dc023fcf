"""Sixteen bytes at a time: the widest load and store of a CUDA thread, which numba's arrays do not offer.

`copy16(source, i, target, j)` is target[j:j+n] = source[i:i+n], n numbers in 16 bytes, for flat arrays in global,
shared or register memory; both places must be aligned to 16 bytes, and the simulator checks that their indices are.
"""

from __future__ import annotations

from typing import Any

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
