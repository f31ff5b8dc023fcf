"""Triton kernels that turn points into new centers: the update of k-means, the same bits in every run.

In: points (N, D) with labels sorted, or points and centers alone where both are small; out: new centers, or sums in float64.
Sums are taken about each cluster's present center, so float32 keeps its digits wherever the points lie; what programs found is
added in float64 in a fixed order. No atomics add numbers. Every kernel returns at once when `state` says that the
run is over, so iterations can be queued ahead of the host.

state (4,) int32: 0 running, 1 the centers rest, 2 a cluster is empty; iterations made; whether one is empty now; programs
of `few_kernel` that have finished.
"""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.labels_triton import coordinates, round_to_tf32


@triton.jit
def _is_equal(a, b):  # type: ignore[no-untyped-def]
    """1.0 where a == b, else 0.0, in one instruction instead of a comparison and a choice."""
    return tl.inline_asm_elementwise("set.eq.f32.f32 $0, $1, $2;", "=f,f,f", [a, b], dtype=tl.float32, is_pure=True, pack=1)


@triton.jit
def _few_sums(  # type: ignore[no-untyped-def]
    x, weights, centers, points, x_row, x_dim,
    K: tl.constexpr, KP: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr,
    WEIGHTED: tl.constexpr, PAIRS: tl.constexpr, TIES: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """A program's sums of x - c and of the weights, (KP, BLOCK) each, and how many points each lane has seen.

    Distances by their definition: for so few features they cost hardly more than |c|^2 / 2 - x.c. The next points are on
    their way while these are worked on. TIES: of equal distances the smallest label; without it a point counts for both.
    """
    ks = tl.arange(0, KP)
    real = ks < K
    far = 3e38  # where there is no center; finite, because zero times it is added up
    c0 = tl.load(centers + ks * D, mask=real, other=far)[:, None]
    c1, c2, c3 = c0, c0, c0
    s0 = tl.zeros((KP, BLOCK), tl.float32)
    s1, s2, s3, mass, seen = s0, s0, s0, s0, tl.zeros((BLOCK,), tl.float32)
    if D > 1:
        c1 = tl.load(centers + ks * D + 1, mask=real, other=far)[:, None]
    if D > 2:
        c2 = tl.load(centers + ks * D + 2, mask=real, other=far)[:, None]
    if D > 3:
        c3 = tl.load(centers + ks * D + 3, mask=real, other=far)[:, None]
    stride = tl.num_programs(0) * BLOCK
    x0, x1, x2, x3 = coordinates(x, tl.program_id(0) * BLOCK, points, x_row, x_dim, D, BLOCK, PAIRS)
    for first in range(tl.program_id(0) * BLOCK, points, stride):
        n0, n1, n2, n3 = coordinates(x, first + stride, points, x_row, x_dim, D, BLOCK, PAIRS)
        row = first + tl.arange(0, BLOCK)
        one = tl.where(row < points, 1.0, 0.0)
        d0 = x0[None, :] - c0
        value = d0 * d0
        if D > 1:
            d1 = x1[None, :] - c1
            value += d1 * d1
        if D > 2:
            d2 = x2[None, :] - c2
            value += d2 * d2
        if D > 3:
            d3 = x3[None, :] - c3
            value += d3 * d3
        least = tl.min(value, axis=0)
        seen += one
        if WEIGHTED:
            one = tl.load(weights + row, mask=row < points, other=0.0)
        if TIES:
            label = tl.min(tl.where(value == least[None, :], ks[:, None], KP - 1), axis=0)
            own = tl.where(ks[:, None] == label[None, :], one[None, :], 0.0)
        elif WIDEN:
            own = tl.where(value == least[None, :], one[None, :], 0.0)
        else:
            least = tl.where(row < points, least, -1.0)  # which no square is
            own = _is_equal(value, tl.broadcast_to(least[None, :], value.shape))
        mass += own
        s0 += own * d0
        if D > 1:
            s1 += own * d1
        if D > 2:
            s2 += own * d2
        if D > 3:
            s3 += own * d3
        x0, x1, x2, x3 = n0, n1, n2, n3
    return s0, s1, s2, s3, mass, seen


@triton.jit
def _few_finish(  # type: ignore[no-untyped-def]
    partial, masses, centers, sums, counts, state, programs, limit,
    K: tl.constexpr, KP: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, STEP: tl.constexpr,
    NORMALIZE: tl.constexpr, TOTALS: tl.constexpr,
):  # fmt: skip
    """What the programs found, added in their order: the new centers and whether they rest, or the TOTALS.

    Short on purpose: one program runs it once, so the time goes into fetching its instructions. The sums are about the
    present centers, where float32 has digits to spare; counts are added in float64.
    """
    ks, ds, flat = tl.arange(0, KP), tl.arange(0, DP), tl.arange(0, KP * DP)
    total, count = tl.zeros((STEP, KP * DP), tl.float32), tl.zeros((STEP, KP), tl.float64)
    for first in range(0, programs, STEP):
        some = (first + tl.arange(0, STEP))[:, None]
        total += tl.load(partial + some * (KP * DP) + flat[None, :], mask=some < programs, other=0.0, cache_modifier=".cg")
        count += tl.load(masses + some * KP + ks[None, :], mask=some < programs, other=0.0, cache_modifier=".cg").to(tl.float64)
    away, mass = tl.reshape(tl.sum(total, axis=0), (KP, DP)), tl.sum(count, axis=0)
    at, mask = ks[:, None] * D + ds[None, :], (ks < K)[:, None] & (ds < D)[None, :]
    old = tl.load(centers + at, mask=mask, other=0.0)
    if TOTALS:
        tl.store(sums + at, away + mass[:, None] * old.to(tl.float64), mask=mask)
        tl.store(counts + ks, mass, mask=ks < K)
    else:
        share = tl.where(mass > 0, mass, 1.0).to(tl.float32)
        new = tl.where(mask, old + away / share[:, None], 0.0)
        if NORMALIZE:
            new /= tl.maximum(tl.sqrt(tl.sum(new * new, axis=1)), 1e-12)[:, None]
        moved = (new - old) * (new - old)
        if tl.max(((mass <= 0) & (ks < K)).to(tl.int32), axis=0) > 0:
            tl.store(state, 2)
        else:
            tl.store(centers + at, new, mask=mask)
            tl.store(state + 1, tl.load(state + 1) + 1)
            if tl.sum(tl.reshape(moved, (KP * DP,)), axis=0) <= limit:
                tl.store(state, 1)


@triton.jit
def few_kernel(  # type: ignore[no-untyped-def]
    x, weights, centers, partial, masses, sums, counts, state, points, limit, x_row, x_dim,
    K: tl.constexpr, KP: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr,
    WEIGHTED: tl.constexpr, PAIRS: tl.constexpr, NORMALIZE: tl.constexpr, TOTALS: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """An iteration with few clusters of at most four features: one read of the points, sums in registers, one launch.

    partial (programs, KP, DP): sums of x - c; masses (programs, KP): of the weights. Each lane keeps its own sums, which meet
    once, at the end. Ties are rare and looking for them costs a sixth, so a program first counts without and does its points
    again if a point was counted twice. PAIRS: D = 2 and rows lie together, so a lane loads both coordinates at once. The
    program that is last to arrive at state[3] adds up what all have written; in which order they came does not matter.
    """
    if tl.load(state) != 0:
        return
    s0, s1, s2, s3, mass, seen = _few_sums(
        x, weights, centers, points, x_row, x_dim, K, KP, D, BLOCK, WEIGHTED, PAIRS, WEIGHTED, WIDEN
    )
    if not WEIGHTED:
        twice = tl.max((tl.sum(mass, axis=0) != seen).to(tl.int32), axis=0)
        if twice != 0:
            s0, s1, s2, s3, mass, seen = _few_sums(
                x, weights, centers, points, x_row, x_dim, K, KP, D, BLOCK, WEIGHTED, PAIRS, True, WIDEN
            )
    out = partial + tl.program_id(0) * (KP * DP) + tl.arange(0, KP) * DP
    tl.store(out, tl.sum(s0, axis=1))
    if D > 1:
        tl.store(out + 1, tl.sum(s1, axis=1))
    if D > 2:
        tl.store(out + 2, tl.sum(s2, axis=1))
    if D > 3:
        tl.store(out + 3, tl.sum(s3, axis=1))
    tl.store(masses + tl.program_id(0) * KP + tl.arange(0, KP), tl.sum(mass, axis=1))
    tl.debug_barrier()  # all threads have written before one of them says so
    programs = tl.num_programs(0)
    if tl.atomic_add(state + 3, 1, sem="acq_rel") == programs - 1:
        tl.store(state + 3, 0)
        _few_finish(partial, masses, centers, sums, counts, state, programs, limit, K, KP, D, DP, STEP, NORMALIZE, TOTALS)


@triton.jit
def starts_kernel(ordered, starts, state, points, k, steps, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """starts (k + 1,) int32: where each cluster's rows begin among the sorted labels, by bisection; the last is `points`."""
    if tl.load(state) != 0:
        return
    cluster = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    low, high = tl.zeros((BLOCK,), tl.int32), tl.zeros((BLOCK,), tl.int32) + points
    for _ in range(steps):
        middle = low + (high - low) // 2
        label = tl.load(ordered + middle, mask=middle < points, other=0).to(tl.int32)
        before = (label < cluster) & (low < high)
        low, high = tl.where(before, middle + 1, low), tl.where(before, high, tl.where(low < high, middle, high))
    tl.store(starts + cluster, tl.where(cluster < k, low, points), mask=cluster <= k)


@triton.jit
def gather_kernel(  # type: ignore[no-untyped-def]
    x, weights, order, starts, centers, partial, masses, state, k, dims, steps, x_row, x_dim,
    SHARE: tl.constexpr, ROWS: tl.constexpr, DEPTH: tl.constexpr, WEIGHTED: tl.constexpr,
):  # fmt: skip
    """Sums of x - c over at most SHARE rows of one cluster: programs of equal work, none of which crosses a cluster.

    Cluster c's programs begin at starts[c] // SHARE + c: there are never more of them than that leaves room for, so no count
    has to be known before the launch. partial (programs, dims), masses (programs,).
    """
    if tl.load(state) != 0:
        return
    program = tl.program_id(0)
    low, high = program * 0, k
    for _ in range(steps):  # the last cluster that begins at this program or before it
        middle = (low + high) // 2
        ours = tl.load(starts + middle) // SHARE + middle <= program
        low = tl.where(ours, middle, low)
        high = tl.where(ours, high, middle)
    start, end = tl.load(starts + low), tl.load(starts + low + 1)
    first = start + (program - start // SHARE - low) * SHARE
    last = tl.minimum(first + SHARE, end)
    if first < last:
        dim = tl.program_id(1) * DEPTH + tl.arange(0, DEPTH)
        inside = dim < dims
        center = tl.load(centers + low.to(tl.int64) * dims + dim, mask=inside, other=0.0)[None, :]
        total = tl.zeros((ROWS, DEPTH), tl.float32)
        mass = tl.zeros((ROWS,), tl.float32)
        for row0 in range(first, last, ROWS):
            row = row0 + tl.arange(0, ROWS)
            mine = row < last
            at = tl.load(order + row, mask=mine, other=0)
            mask = mine[:, None] & inside[None, :]
            value = tl.load(x + at[:, None] * x_row + dim[None, :].to(tl.int64) * x_dim, mask=mask, other=0.0).to(tl.float32)
            value = tl.where(mask, value - center, 0.0)
            if WEIGHTED:
                weight = tl.load(weights + at, mask=mine, other=0.0)
                value *= weight[:, None]
                mass += weight
            total += value
        tl.store(partial + program.to(tl.int64) * dims + dim, tl.sum(total, axis=0), mask=inside)
        if WEIGHTED:
            tl.store(masses + program, tl.sum(mass, axis=0), mask=tl.program_id(1) == 0)


@triton.jit
def collect_kernel(  # type: ignore[no-untyped-def]
    partial, masses, starts, centers, moved, sums, counts, shifts, offset, high, low, halves, state, k, dims, padded_dims,
    SHARE: tl.constexpr, ROWS: tl.constexpr, DEPTH: tl.constexpr, WEIGHTED: tl.constexpr, NORMALIZE: tl.constexpr,
    TOTALS: tl.constexpr, PREPARE: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    """One cluster: its programs' sums added in float64, its new center, and that center as the next product wants it.

    TOTALS: sums (k, dims) and counts (k,) in float64 instead. DEPTH: at least dims. A new center waits in `moved` until
    `commit_kernel` knows that no cluster is empty.
    """
    if tl.load(state) != 0:
        return
    cluster = tl.program_id(0)
    start, end = tl.load(starts + cluster), tl.load(starts + cluster + 1)
    slot0, slots = start // SHARE + cluster, tl.cdiv(end - start, SHARE)
    dim = tl.arange(0, DEPTH)
    inside = dim < dims
    total, mass = tl.zeros((ROWS, DEPTH), tl.float64), tl.zeros((ROWS,), tl.float64)
    for slot in range(0, slots, ROWS):
        some = slot + tl.arange(0, ROWS)
        mine = some < slots
        at = (slot0 + some).to(tl.int64)
        total += tl.load(partial + at[:, None] * dims + dim[None, :], mask=mine[:, None] & inside[None, :], other=0.0).to(
            tl.float64
        )
        if WEIGHTED:
            mass += tl.load(masses + at, mask=mine, other=0.0).to(tl.float64)
    away = tl.sum(total, axis=0)
    count = tl.sum(mass, axis=0) if WEIGHTED else (end - start).to(tl.float64)
    row = cluster.to(tl.int64) * dims + dim
    old = tl.load(centers + row, mask=inside, other=0.0)
    if TOTALS:
        tl.store(sums + row, away + count * old.to(tl.float64), mask=inside)
        tl.store(counts + cluster, count)
    else:
        new = (old.to(tl.float64) + away / tl.where(count > 0, count, 1.0)).to(tl.float32)
        if NORMALIZE:
            new /= tl.maximum(tl.sqrt(tl.sum(new * new, axis=0)), 1e-12)
        tl.store(moved + row, new, mask=inside)
        tl.store(shifts + cluster, tl.sum((new - old) * (new - old), axis=0))
        if count <= 0:
            tl.store(state + 2, 1)  # whoever writes it writes the same
        if PREPARE:
            _prepare(new, cluster, dim, inside, offset, high, low, halves, padded_dims, SPLIT)


@triton.jit
def _prepare(center, cluster, dim, inside, offset, high, low, halves, padded_dims, SPLIT: tl.constexpr):  # type: ignore[no-untyped-def]
    """A center, less `offset`, in the points' dtype or as two TF32 halves, and half its squared norm."""
    shifted = tl.where(inside, center - tl.load(offset + dim, mask=inside, other=0.0), 0.0)
    at = cluster.to(tl.int64) * padded_dims + dim
    if SPLIT:
        big = round_to_tf32(shifted)
        tl.store(high + at, big, mask=inside)
        tl.store(low + at, shifted - big, mask=inside)
    else:
        rounded = shifted.to(high.dtype.element_ty)
        tl.store(high + at, rounded, mask=inside)
        shifted = rounded.to(tl.float32)
    tl.store(halves + cluster, tl.sum(shifted * shifted, axis=0) / 2)


@triton.jit
def prepare_kernel(centers, offset, high, low, halves, dims, padded_dims, DEPTH: tl.constexpr, SPLIT: tl.constexpr):  # type: ignore[no-untyped-def]
    """The centers (K, D) of float32 as `label_kernel` wants them."""
    cluster, dim = tl.program_id(0), tl.arange(0, DEPTH)
    center = tl.load(centers + cluster.to(tl.int64) * dims + dim, mask=dim < dims, other=0.0)
    _prepare(center, cluster, dim, dim < dims, offset, high, low, halves, padded_dims, SPLIT)


@triton.jit
def commit_kernel(moved, centers, shifts, state, k, numbers, limit, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """centers = moved, unless a cluster is empty; the first program counts the iteration and sees whether the centers rest.

    Once the run is over `moved` stays as it is and copying it changes nothing, so the other programs need not look at state[0],
    which the first one may be writing.
    """
    if tl.load(state + 2) == 0:
        at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        tl.store(centers + at, tl.load(moved + at, mask=at < numbers), mask=at < numbers)
    if (tl.program_id(0) == 0) & (tl.load(state) == 0):
        shift = tl.zeros((BLOCK,), tl.float32)
        for first in range(0, k, BLOCK):
            some = first + tl.arange(0, BLOCK)
            shift += tl.load(shifts + some, mask=some < k, other=0.0)
        if tl.load(state + 2) != 0:
            tl.store(state, 2)
        else:
            tl.store(state + 1, tl.load(state + 1) + 1)
            if tl.sum(shift, axis=0) <= limit:
                tl.store(state, 1)
