"""The innermost loop of k-means on a CPU, written as LLVM vector code: a tile of points against a few centers.

In: a tile of points, packed with one point per vector lane, and a group of negated centers; out: each lane's
smallest score |c|²/2 − x·c so far and the center that has it. All scores live in registers: the distance matrix
is never written. LLVM compiles the vectors for the machine at hand; numba alone does not keep such a tile in
registers. The loop is the micro-kernel of Goto and van de Geijn (2008) with the argmin fused in. numba's cache does
not watch this file: whoever edits it deletes clustering/__pycache__.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

I32, I64 = ir.IntType(32), ir.IntType(64)
# Machines with AVX-512 have 32 registers of 64 bytes, with AVX2 16 of 32; others are assumed to have NEON's 32 of 16.
SHAPES = {"avx512f": (64, 3, 8), "avx2": (32, 2, 6), "": (16, 4, 6)}


class Tile(NamedTuple):
    """Sizes of a tile: vector_bytes in a register, vectors of points, centers in a group.

    vectors × centers accumulators, the points and one center have to fit in the registers.
    """

    vector_bytes: int
    vectors: int
    centers: int

    def points(self, itemsize: int) -> int:
        """Points in a tile of numbers of itemsize bytes."""
        return self.vectors * self.vector_bytes // itemsize


def target_tile() -> Tile:
    """The tile that fits the registers of the processor numba compiles for: this one, unless NUMBA_CPU_FEATURES says another."""
    if config.CPU_FEATURES is None:
        features = {name for name, has in llvm.get_host_cpu_features().items() if has}
    else:
        features = {name[1:] for name in config.CPU_FEATURES.split(",") if name.startswith("+")}
    return Tile(*next(shape for name, shape in SHAPES.items() if not name or name in features))


TILE = target_tile()


class VectorCode:
    """A few helpers over llvmlite's builder: loads by index, broadcasts, fused multiply-add."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        self.context, self.builder, self.signature, self.arguments = context, builder, signature, arguments
        self.number = context.get_value_type(signature.args[0].dtype)
        itemsize = 4 if isinstance(self.number, ir.FloatType) else 8
        self.lanes = TILE.vector_bytes // itemsize
        self.vector = ir.VectorType(self.number, self.lanes)
        self.indices = ir.VectorType(I32, self.lanes)
        name = f"llvm.fma.v{self.lanes}f{8 * itemsize}"
        self.fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(self.vector, [self.vector] * 3), name)

    def pointer(self, argument: int, kind: Any) -> Any:
        """The data of an array argument, as a pointer to kind."""
        array = self.context.make_array(self.signature.args[argument])(self.context, self.builder, self.arguments[argument])
        return self.builder.bitcast(array.data, kind.as_pointer())

    def load(self, pointer: Any, index: Any) -> Any:
        value = self.builder.load(self.builder.gep(pointer, [index]))
        value.align = 4  # NumPy promises no more
        return value

    def store(self, value: Any, pointer: Any, index: Any) -> None:
        self.builder.store(value, self.builder.gep(pointer, [index])).align = 4

    def spread(self, value: Any, kind: Any) -> Any:
        """A vector with value in every lane."""
        empty = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(empty, value, I32(0))
        return self.builder.shuffle_vector(first, empty, ir.Constant(ir.VectorType(I32, self.lanes), [0] * self.lanes))


def scores_of_group(code: VectorCode) -> list[list[Any]]:
    """The loop over the features: scores[v][c] of point vector v against center c of the group."""
    builder, depth = code.builder, code.arguments[3]
    points, group, halves = code.pointer(0, code.vector), code.pointer(1, code.number), code.pointer(2, code.number)
    start = [code.spread(code.load(halves, I64(c)), code.vector) for c in range(TILE.centers)]
    before, loop, after = builder.block, builder.append_basic_block("feature"), builder.append_basic_block("scored")
    builder.branch(loop)

    builder.position_at_end(loop)
    feature = builder.phi(I64)
    scores = [[builder.phi(code.vector) for _ in range(TILE.centers)] for _ in range(TILE.vectors)]
    at_points, at_group = (builder.mul(feature, I64(n)) for n in (TILE.vectors, TILE.centers))
    x = [code.load(points, builder.add(at_points, I64(v))) for v in range(TILE.vectors)]
    added: list[list[Any]] = [[] for _ in range(TILE.vectors)]
    for c in range(TILE.centers):
        center = code.spread(code.load(group, builder.add(at_group, I64(c))), code.vector)
        for v in range(TILE.vectors):
            added[v].append(builder.call(code.fma, [x[v], center, scores[v][c]]))
    following = builder.add(feature, I64(1))
    builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)

    feature.add_incoming(I64(0), before)
    feature.add_incoming(following, loop)
    for v in range(TILE.vectors):
        for c in range(TILE.centers):
            scores[v][c].add_incoming(start[c], before)
            scores[v][c].add_incoming(added[v][c], loop)
    builder.position_at_end(after)
    return added


def keep_smallest(code: VectorCode, scores: list[list[Any]], two: bool) -> None:
    """Lower each lane's best score and its center where the group holds a better one; and its second best, with two."""
    builder = code.builder

    def smaller(a: Any, b: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", a, b), a, b)

    def larger(a: Any, b: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", a, b), b, a)

    best, index = code.pointer(5, code.vector), code.pointer(6, code.indices)
    runners_up = code.pointer(7, code.vector) if two else None
    base = builder.trunc(code.arguments[4], I32)
    for v in range(TILE.vectors):
        lowest, owner = code.load(best, I64(v)), code.load(index, I64(v))
        then = code.load(runners_up, I64(v)) if two else None
        for c in range(TILE.centers):
            score = scores[v][c]
            if two:
                then = smaller(then, larger(lowest, score))
            better = builder.fcmp_ordered("<", score, lowest)
            lowest = builder.select(better, score, lowest)
            owner = builder.select(better, code.spread(builder.add(base, I32(c)), code.indices), owner)
        code.store(lowest, best, I64(v))
        code.store(owner, index, I64(v))
        if two:
            code.store(then, runners_up, I64(v))


@intrinsic
def lower_scores(
    typing_context: Any, points: Any, group: Any, halves: Any, depth: Any, first: Any, best: Any, index: Any
) -> tuple[Any, Callable[..., Any]]:
    """lower_scores(points, group, halves, depth, first, best, index), for use in numba code.

    points: (depth × lanes) a tile, feature by feature. group: (depth × centers) negated centers, feature by
    feature. halves: (centers) their |c|²/2. first: the number of the first of them. best, index: (lanes), updated.
    """
    signature = types.void(points, group, halves, types.int64, types.int64, best, index)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code = VectorCode(context, builder, signature, arguments)
        keep_smallest(code, scores_of_group(code), two=False)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def lower_two_scores(
    typing_context: Any, points: Any, group: Any, halves: Any, depth: Any, first: Any, best: Any, index: Any, second: Any
) -> tuple[Any, Callable[..., Any]]:
    """`lower_scores` that also updates second: (lanes), each lane's second smallest score."""
    signature = types.void(points, group, halves, types.int64, types.int64, best, index, second)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code = VectorCode(context, builder, signature, arguments)
        keep_smallest(code, scores_of_group(code), two=True)
        return context.get_dummy_value()

    return signature, generate
