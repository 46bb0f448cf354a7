"""More exact numbers than FP32 without FP64: a value as the sum of two FP32 numbers, and exp and log made of them.

Knows: pairs (high, low) with |low| at most half a unit in high's last place. Rules: every operation is an FP32 + - * or /, rounded
by itself, so a result is the same to the bit wherever it is computed; what passes 2**115 on its way is as exact as FP32
alone. Leaves to others: what is computed with it (`score_kernels`, `box_kernels`, `vector_kernels`).

Sources: Dekker, A floating-point technique for extending the available precision (1971); Knuth, The Art of Computer
Programming 2, 4.2.2, theorem B; Cody and Waite, Software Manual for the Elementary Functions (1980).
"""

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from appliance.tensors import Array

Single: TypeAlias = np.float32
Pair: TypeAlias = tuple[np.float32, np.float32]

SPLITTER = np.float32(4097.0)  # 2**12 + 1 cuts 24 bits in halves
ROUNDER = np.float32(12582912.0)  # 1.5 * 2**23: added and taken away, it leaves a whole number
LOG2_E = np.float32(1.4426950408889634)
LN2_HIGH = np.float32(0.693145751953125)  # 16 bits: times a whole number of 8 bits it is exact
LN2_LOW = np.float32(1.4286068203094173e-06)
EXP_LEAST = np.float32(-104.0)  # exp of less is under half of the smallest FP32
EXP_MOST = np.float32(88.8)  # exp of more is infinite
ROOT_HALF = np.float32(0.7071067811865476)
ZERO, ONE, TWO, HALF = np.float32(0.0), np.float32(1.0), np.float32(2.0), np.float32(0.5)
INFINITE, NO_NUMBER = np.float32(np.inf), np.float32(np.nan)
E2, E3, E4 = np.float32(1 / 2), np.float32(1 / 6), np.float32(1 / 24)
E5, E6, E7 = np.float32(1 / 120), np.float32(1 / 720), np.float32(1 / 5040)
L3, L5, L7 = np.float32(2 / 3), np.float32(2 / 5), np.float32(2 / 7)
L9, L11 = np.float32(2 / 9), np.float32(2 / 11)


def settled(error: Single) -> Single:
    """What a sum or product lacks; nothing where it is infinite or too large to be cut in halves."""
    return error if abs(error) < INFINITE else ZERO


def two_sum(a: Single, b: Single) -> Pair:
    """Make a + b without any error."""
    total = a + b
    of_b = total - a
    return total, settled((a - (total - of_b)) + (b - of_b))


def quick_sum(a: Single, b: Single) -> Pair:
    """Make a + b without any error where |a| >= |b|."""
    total = a + b
    return total, settled(b - (total - a))


def two_product(a: Single, b: Single) -> Pair:
    """Make a * b without any error where neither passes 2**115 nor the error drops under 2**-149."""
    product = a * b
    wide_a, wide_b = SPLITTER * a, SPLITTER * b
    a_high, b_high = wide_a - (wide_a - a), wide_b - (wide_b - b)
    a_low, b_low = a - a_high, b - b_high
    error = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
    return product, settled(error)


def sum_of(a: Single, a_low: Single, b: Single, b_low: Single) -> Pair:
    """The sum of two pairs, within 2**-44 of |a| + |b|."""
    total, error = two_sum(a, b)
    return quick_sum(total, error + (a_low + b_low))


def product_of(a: Single, a_low: Single, b: Single, b_low: Single) -> Pair:
    """The product of two pairs, within 2**-44 of it."""
    product, error = two_product(a, b)
    return quick_sum(product, error + settled(a * b_low + a_low * b))


def quotient_of(a: Single, a_low: Single, b: Single, b_low: Single) -> Pair:
    """The quotient of two pairs, within 2**-43 of it."""
    share = a / b
    taken, taken_low = product_of(share, ZERO, b, b_low)
    return quick_sum(share, settled(((a - taken) + (a_low - taken_low)) / b))


def root_of(a: Single, a_low: Single) -> Single:
    """The square root of a pair, within a unit in the last place; 0 of what is below 0, NaN of NaN."""
    if a <= ZERO:
        return ZERO
    if not a < INFINITE:
        return a
    root = np.float32(math.sqrt(a))
    square, error = two_product(root, root)
    return root + ((a - square) + (a_low - error)) / (TWO * root)


def whole_pair(number: int) -> Pair:
    """A whole number below 2**47 as a pair."""
    high = np.float32(number)
    return high, np.float32(number - int(high))


def exp_pair(x: Single, x_low: Single) -> Pair:
    """exp(x + x_low), within 2**-26 of it; 0 below -104, infinite above 88.8, NaN of NaN."""
    if math.isnan(x):
        return NO_NUMBER, ZERO
    if x < EXP_LEAST:
        return ZERO, ZERO
    if x > EXP_MOST:
        return INFINITE, ZERO
    count = (x * LOG2_E + ROUNDER) - ROUNDER
    rest, low = two_sum(x - count * LN2_HIGH, x_low - count * LN2_LOW)
    power = E5 + rest * (E6 + rest * E7)
    power = rest * rest * (E2 + rest * (E3 + rest * (E4 + rest * power)))
    high, error = quick_sum(ONE, rest)
    high, error = quick_sum(high, error + (power + low * (ONE + rest)))
    places = int(count)
    return np.float32(math.ldexp(high, places)), np.float32(math.ldexp(error, places))


def log_pair(x: Single, x_low: Single) -> Single:
    """log(x + x_low) of a finite number above 0, within 2 units in the last place."""
    fraction, places = math.frexp(x)
    share = np.float32(fraction)
    low = np.float32(math.ldexp(x_low, -places))
    if share < ROOT_HALF:
        share, low, places = share * TWO, low * TWO, places - 1
    beyond = (share - ONE) + low
    ratio = beyond / (TWO + beyond)
    square = ratio * ratio
    series = square * (L3 + square * (L5 + square * (L7 + square * (L9 + square * L11))))
    # log(1 + f) = f - f * s + s * series, with s = f / (2 + f): the large term is not rounded twice.
    rest = ratio * (series - beyond)
    count = np.float32(places)
    if count == ZERO:
        return beyond + rest
    return count * LN2_HIGH + (beyond + (rest + count * LN2_LOW))


def pairs_of(numbers: Array) -> NDArray[np.float32]:
    """FP64 `numbers` as pairs, FP32, twice as many: high, low, high, low."""
    flat = numbers.astype(np.float64).ravel()
    high = flat.astype(np.float32)
    return np.stack([high, (flat - high).astype(np.float32)], axis=1).ravel()
