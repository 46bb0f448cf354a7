"""Four values at once: the inner steps of resizing, as the vector instructions that they should become.

Knows: a pixel's channels lie side by side, so that one load takes all of them. Rules: an index is
that of the first of four values, of which a caller may need fewer: rows end in three more that may
be anything; each operation is rounded as the plain Python beside it, which says what is computed;
indices are UINT64 and are not checked. Leaves to others: where they point (`image_taps`) and the
loops around them (`image_steps`).
"""

# ruff: noqa: PLR0917, ARG001, ARG005, PLW0108  numba calls take positions only, and asks for functions by their names
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, overload

from appliance.tensors import Array

LANES, WIDE = 4, 8
FRACTION_BITS = 22  # of Pillow's fixed-point weights: 32, less 8 of a pixel and 2 of overshoot

Value = Any  # llvmlite's values, which it has no stubs for
_WORD, _INDEX = ir.IntType(32), ir.IntType(64)
_FLOATS, _WIDE = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(ir.FloatType(), WIDE)
_WORDS, _BYTES = ir.VectorType(_WORD, LANES), ir.VectorType(ir.IntType(8), LANES)


def blend_lanes(into: Array, at: int, row: Array, low: int, high: int, weight: float) -> None:
    """into[at:+4] = row[low:+4] + weight * (row[high:+4] - row[low:+4]); FP32."""
    first, second = row[low : low + LANES], row[high : high + LANES]
    into[at : at + LANES] = first + weight * (second - first)


def weigh_lanes(
    into: Array,
    at: int,
    row: Array,
    index: Array,
    weight: Array,
    i: int,
    taps: tuple[int, ...] | None,
    pair: tuple[int, ...] | None,
) -> None:
    """into[at:+4] = the sum of weight[i, k] * row[index[i, k]:+4], from the first k to the last; FP32.

    taps: None, or a tuple as long as index has taps, so that their number is a constant to the compiler.
    pair: None, or a tuple as long as a pixel has channels, at most 4: index and weight are then those of
    `image_taps.pair_taps`, and four adjoining pixels are summed, two at a time.
    """
    if pair is not None:
        low, step = index[i, 0], len(pair)
        sums = row[low : low + WIDE] * weight[i, :WIDE]
        sums = sums + row[low + 2 * step : low + 2 * step + WIDE] * weight[i, WIDE:]
        into[at : at + LANES] = sums[:LANES] + sums[step : step + LANES]
        return
    total = np.zeros(LANES, np.float32)
    for k in range(index.shape[1]):
        total += weight[i, k] * row[index[i, k] : index[i, k] + LANES]
    into[at : at + LANES] = total


def weigh_bytes(into: Array, at: int, row: Array, index: Array, weight: Array, i: int) -> None:
    """The same of UINT8 with fixed-point INT32 weights, as Pillow's ImagingResampleHorizontal_8bpc.

    into[at:+4] = (2**21 + the sum of weight[i, k] * row[index[i, k]:+4]) >> 22, clipped to 0 .. 255.
    """
    total = np.full(LANES, 1 << (FRACTION_BITS - 1), np.int32)
    for k in range(index.shape[1]):
        total += weight[i, k] * row[index[i, k] : index[i, k] + LANES].astype(np.int32)
    into[at : at + LANES] = np.clip(total >> FRACTION_BITS, 0, 255)


def turn_lanes(planes: Array, at: int, step: int, line: Array, start: int) -> None:
    """Turn a block over: planes[at + c * step + x] = line[start + 4 x + c] for x and c below 4; FP32."""
    block = line[start : start + LANES * LANES].reshape(LANES, LANES)
    for c in range(LANES):
        planes[at + c * step : at + c * step + LANES] = block[:, c]


def _blend_code(_: Any, into: Any, at: Any, row: Any, low: Any, high: Any, weight: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Value:
        into, at, row, low, high, weight = args
        kinds = signature.args
        first = _load(context, builder, kinds[2], row, low, _FLOATS)
        second = _load(context, builder, kinds[2], row, high, _FLOATS)
        share = builder.fmul(_spread(builder, weight, _FLOATS), builder.fsub(second, first))
        _store(context, builder, kinds[0], into, at, builder.fadd(first, share))
        return context.get_dummy_value()

    index = types.uint64
    return types.void(into, index, row, index, index, types.float32), code


def _weigh_code(
    _: Any, into: Any, at: Any, row: Any, index: Any, weight: Any, i: Any, taps: Any
) -> Any:
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Value:
        into, at, row, index, weight, i, _ = args
        kinds = signature.args

        def term(k: Value) -> Value:
            start, share = (
                _nth(context, builder, kinds[3], index, k),
                _nth(context, builder, kinds[4], weight, k),
            )
            pixel = _load(context, builder, kinds[2], row, start, _FLOATS)
            return builder.fmul(_spread(builder, share, _FLOATS), pixel)

        nothing = ir.Constant(_FLOATS, [0.0] * LANES)
        if taps == types.none:
            total = _summed(context, builder, kinds[3], index, i, term, nothing)
        else:
            begin = builder.mul(i, ir.Constant(_INDEX, len(taps)))
            total = nothing
            for k in range(len(taps)):
                total = builder.fadd(total, term(_plus(builder, begin, k)))
        _store(context, builder, kinds[0], into, at, total)
        return context.get_dummy_value()

    return types.void(into, types.uint64, row, index, weight, types.uint64, taps), code


def _weigh_pairs_code(
    _: Any, into: Any, at: Any, row: Any, index: Any, weight: Any, i: Any, pair: Any
) -> Any:
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Value:
        into, at, row, index, weight, i, _ = args
        kinds, step = signature.args, len(pair)
        low = _nth(context, builder, kinds[3], index, i)
        share = builder.mul(i, ir.Constant(_INDEX, 2 * WIDE))
        products = [
            builder.fmul(
                _load(context, builder, kinds[2], row, _plus(builder, low, pixels), _WIDE),
                _load(context, builder, kinds[4], weight, _plus(builder, share, shares), _WIDE),
            )
            for pixels, shares in ((0, 0), (2 * step, WIDE))
        ]
        sums = builder.fadd(*products)
        first, second = (
            _shuffled(builder, sums, sums, [start + lane for lane in range(LANES)])
            for start in (0, step)
        )
        _store(context, builder, kinds[0], into, at, builder.fadd(first, second))
        return context.get_dummy_value()

    return types.void(into, types.uint64, row, index, weight, types.uint64, pair), code


def _weigh_bytes_code(_: Any, into: Any, at: Any, row: Any, index: Any, weight: Any, i: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Value:
        into, at, row, index, weight, i = args
        kinds = signature.args

        def term(k: Value) -> Value:
            start = _nth(context, builder, kinds[3], index, k)
            share = _nth(context, builder, kinds[4], weight, k)
            pixel = builder.zext(_load(context, builder, kinds[2], row, start, _BYTES), _WORDS)
            return builder.mul(_spread(builder, share, _WORDS), pixel)

        half = ir.Constant(_WORDS, [1 << (FRACTION_BITS - 1)] * LANES)
        total = _summed(context, builder, kinds[3], index, i, term, half)
        value = builder.ashr(total, ir.Constant(_WORDS, [FRACTION_BITS] * LANES))
        low, high = ir.Constant(_WORDS, [0] * LANES), ir.Constant(_WORDS, [255] * LANES)
        value = builder.select(builder.icmp_signed("<", value, low), low, value)
        value = builder.select(builder.icmp_signed(">", value, high), high, value)
        _store(context, builder, kinds[0], into, at, builder.trunc(value, _BYTES))
        return context.get_dummy_value()

    return types.void(into, types.uint64, row, index, weight, types.uint64), code


def _turn_code(_: Any, planes: Any, at: Any, step: Any, line: Any, start: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Value:
        planes, at, step, line, start = args
        kinds = signature.args
        rows = [
            _load(context, builder, kinds[3], line, _plus(builder, start, LANES * x), _FLOATS)
            for x in range(LANES)
        ]
        for half, mask in enumerate(([0, 4, 1, 5], [2, 6, 3, 7])):
            first = _shuffled(builder, rows[0], rows[1], mask)
            second = _shuffled(builder, rows[2], rows[3], mask)
            for lane, pairs in enumerate(([0, 1, 4, 5], [2, 3, 6, 7])):
                offset = builder.mul(step, ir.Constant(_INDEX, 2 * half + lane))
                plane = _shuffled(builder, first, second, pairs)
                _store(context, builder, kinds[0], planes, builder.add(at, offset), plane)
        return context.get_dummy_value()

    index = types.uint64
    return types.void(planes, index, index, line, index), code


def _summed(
    context: Any,
    builder: Any,
    kind: Any,
    index: Value,
    i: Value,
    term: Callable[[Value], Value],
    start: Value,
) -> Value:
    """`start` plus the terms of row `i` of `index`, each of its place in memory, in order, four a turn."""
    add = builder.fadd if start.type == _FLOATS else builder.add
    count = builder.extract_value(context.make_array(kind)(context, builder, index).shape, 1)
    begin = builder.mul(i, count)
    four = ir.Constant(_INDEX, LANES)
    turns = builder.udiv(count, four)
    whole = builder.mul(turns, four)
    total = cgutils.alloca_once_value(builder, start)
    with cgutils.for_range(builder, turns) as loop:
        first = builder.add(begin, builder.mul(loop.index, four))
        for k in range(LANES):
            builder.store(add(builder.load(total), term(_plus(builder, first, k))), total)
    rest = builder.add(begin, whole)
    with cgutils.for_range(builder, builder.sub(count, whole)) as loop:
        builder.store(add(builder.load(total), term(builder.add(rest, loop.index))), total)
    return builder.load(total)


def _pointer(context: Any, builder: Any, kind: Any, array: Value, at: Value) -> Value:
    return builder.gep(context.make_array(kind)(context, builder, array).data, [at])


def _nth(context: Any, builder: Any, kind: Any, array: Value, at: Value) -> Value:
    return builder.load(_pointer(context, builder, kind, array, at))


def _load(context: Any, builder: Any, kind: Any, array: Value, at: Value, lanes: Value) -> Value:
    pointer = builder.bitcast(_pointer(context, builder, kind, array, at), lanes.as_pointer())
    return builder.load(pointer, align=1 if lanes == _BYTES else 4)


def _store(context: Any, builder: Any, kind: Any, array: Value, at: Value, value: Value) -> None:
    pointer = _pointer(context, builder, kind, array, at)
    builder.store(
        value,
        builder.bitcast(pointer, value.type.as_pointer()),
        align=1 if value.type == _BYTES else 4,
    )


def _spread(builder: Any, value: Value, lanes: Value) -> Value:
    """`value` in every lane."""
    anything = ir.Constant(lanes, ir.Undefined)
    first = builder.insert_element(anything, value, ir.Constant(_WORD, 0))
    return builder.shuffle_vector(first, anything, ir.Constant(_WORDS, [0] * LANES))


def _shuffled(builder: Any, first: Value, second: Value, mask: list[int]) -> Value:
    return builder.shuffle_vector(first, second, ir.Constant(_WORDS, mask))


def _plus(builder: Any, index: Value, count: int) -> Value:
    return builder.add(index, ir.Constant(_INDEX, count))


_BLEND: Any = intrinsic(_blend_code)
_WEIGH: Any = intrinsic(_weigh_code)
_WEIGH_PAIRS: Any = intrinsic(_weigh_pairs_code)
_WEIGH_BYTES: Any = intrinsic(_weigh_bytes_code)
_TURN: Any = intrinsic(_turn_code)

# Inlined by force: a call a pixel would cost three times the pixel.


@overload(blend_lanes, jit_options={"forceinline": True}, strict=False)
def _compile_blend(into: Any, at: Any, row: Any, low: Any, high: Any, weight: Any) -> Any:
    return lambda into, at, row, low, high, weight: _BLEND(into, at, row, low, high, weight)


@overload(weigh_lanes, jit_options={"forceinline": True}, strict=False)
def _compile_weigh(
    into: Any, at: Any, row: Any, index: Any, weight: Any, i: Any, taps: Any, pair: Any
) -> Any:
    if pair == types.none:
        return lambda into, at, row, index, weight, i, taps, pair: _WEIGH(
            into, at, row, index, weight, i, taps
        )
    return lambda into, at, row, index, weight, i, taps, pair: _WEIGH_PAIRS(
        into, at, row, index, weight, i, pair
    )


@overload(weigh_bytes, jit_options={"forceinline": True}, strict=False)
def _compile_weigh_bytes(into: Any, at: Any, row: Any, index: Any, weight: Any, i: Any) -> Any:
    return lambda into, at, row, index, weight, i: _WEIGH_BYTES(into, at, row, index, weight, i)


@overload(turn_lanes, jit_options={"forceinline": True}, strict=False)
def _compile_turn(planes: Any, at: Any, step: Any, line: Any, start: Any) -> Any:
    return lambda planes, at, step, line, start: _TURN(planes, at, step, line, start)
