"""The kernels of suppression on the device: the best of overlapping boxes.

Knows: what one thread does to one anchor, and one block to one row's candidates. Rules: see `runtime.kernels.cuda`; formulas and
orders are those of `box_steps.suppress`; what is FP64 there is a pair of FP32 numbers here (`pairs`); a row is one block's, so the
result does not hang on which thread comes first. Leaves to others: grids and places (`suppression`).

Source: radix selection and bitonic sorting, Knuth, The Art of Computer Programming 3, 5.2.5 and 5.3.4.
"""

# ruff: noqa: PLR0917  kernels take positions only
import math

import numpy as np

from appliance.tensors import Array
from runtime.kernels.cuda import gpu
from runtime.kernels.cuda.pairs import ZERO, Pair, Single, product_of, sum_of, two_sum
from runtime.kernels.cuda.reducing import THREADS

CAPACITY = 4096  # candidates that are sorted, a power of two
EVERY_CLASS = 0  # 1 where an anchor may be a candidate for each class
AGNOSTIC = 0  # 1 where boxes of any class are rivals
BUCKETS = 256  # values of a digit of a key
DIGITS = 8  # of a key of 64 bits
NOTHING = -(2**63)  # the key of what is no candidate: below that of every score
WORD = 2**32
MAGNITUDE = 0x7FFFFFFF  # the bits of an FP32 number without its sign


def rank(
    boxes: Array,
    scores: Array,
    bits: Array,
    keys: Array,
    shape: Array,
    score_min: Single,
    background: int,
    count: int,
) -> None:
    """One anchor a thread: the keys of its candidates, larger ones first; NOTHING where there is none.

    scores and bits are the same FP32 numbers, the latter as integers: a key is the score's order, then the index anchor * classes
    + class, lower ones first. keys: one an anchor, or with EVERY_CLASS one for each of its classes. shape: anchors, classes.
    """
    i = gpu.grid(1)
    if i < count:
        anchors, classes = int(shape[0]), int(shape[1])
        anchor = i % anchors
        finite = True
        for side in range(4):
            finite = finite and math.isfinite(boxes[4 * i + side])
        chosen = -1
        for c in range(classes):
            at = i * classes + c
            is_candidate = finite and scores[at] >= score_min and c != background
            if EVERY_CLASS:
                keys[at] = key_of(bits[at], anchor * classes + c) if is_candidate else NOTHING
            elif is_candidate and (chosen < 0 or scores[at] > scores[i * classes + chosen]):
                chosen = c
        if not EVERY_CLASS:
            at = i * classes + chosen
            keys[i] = key_of(bits[at], anchor * classes + chosen) if chosen >= 0 else NOTHING


def key_of(bits: int, index: int) -> int:
    """A number of 64 bits that is larger for a better score and, of equal scores, for a lower index below 2**32."""
    order = int(bits)
    if order < 0:
        order = -(order & MAGNITUDE)  # also makes one of the two zeros
    key: int = order * WORD + (WORD - 1 - index)
    return key


def index_of(key: int) -> int:
    """The index in a key."""
    return WORD - 1 - (key & (WORD - 1))


def suppress(
    boxes: Array,
    scores: Array,
    keys: Array,
    kept_boxes: Array,
    kept_scores: Array,
    kept_classes: Array,
    kept_count: Array,
    shape: Array,
    iou_max: Single,
    iou_low: Single,
) -> None:
    """One row a block: the best of overlapping boxes, as `box_steps.suppress`.

    shape: anchors, classes, keys of a row, candidates at most, boxes kept at most. Two boxes overlap as FP64 says unless their
    IoU is within 2**-40 of `iou_max`, or an edge is past 2**56 or a side under 2**-48.
    """
    chosen = gpu.shared.array(CAPACITY, np.int64)
    covered = gpu.shared.array(CAPACITY, np.uint8)
    counts = gpu.shared.array(BUCKETS, np.int32)
    told = gpu.shared.array(2, np.int64)
    row, own = gpu.blockIdx.x, gpu.threadIdx.x
    anchors, classes, length = int(shape[0]), int(shape[1]), int(shape[2])
    most, keep = int(shape[3]), int(shape[4])
    least = least_of(keys, row * length, length, most, counts, told)
    count = gather(keys, row * length, length, least, chosen, covered, counts)
    sort_down(chosen, count)
    kept = 0
    for at in range(count):
        if kept < keep and covered[at] == 0:
            index = index_of(chosen[at])
            box = 4 * (row * anchors + index // classes)
            if own == 0:
                for side in range(4):
                    kept_boxes[4 * (row * keep + kept) + side] = boxes[box + side]
                kept_scores[row * keep + kept] = scores[row * anchors * classes + index]
                kept_classes[row * keep + kept] = index % classes
            for k in range(at + 1 + own, count, THREADS):
                other = index_of(chosen[k])
                rival = AGNOSTIC == 1 or other % classes == index % classes
                if rival and covered[k] == 0:
                    other_box = 4 * (row * anchors + other // classes)
                    if overlaps(boxes, box, other_box, iou_max, iou_low):
                        covered[k] = 1
            kept += 1
            gpu.syncthreads()
    for k in range(kept + own, keep, THREADS):
        for side in range(4):
            kept_boxes[4 * (row * keep + k) + side] = ZERO
        kept_scores[row * keep + k] = ZERO
        kept_classes[row * keep + k] = -1
    if own == 0:
        kept_count[row] = kept


def least_of(keys: Array, start: int, length: int, most: int, counts: Array, told: Array) -> int:
    """The key of a row's candidate number `most`, best first; with fewer of them a key below all.

    Digit by digit from the highest: count the keys of each value that share the digits found so far (radix selection).
    """
    own = gpu.threadIdx.x
    found, wanted = 0, most
    for digit in range(DIGITS):
        shift = 8 * (DIGITS - 1 - digit)
        for k in range(own, BUCKETS, THREADS):
            counts[k] = 0
        gpu.syncthreads()
        for i in range(own, length, THREADS):
            key = keys[start + i]
            if key != NOTHING and (digit == 0 or key >> (shift + 8) == found):
                gpu.atomic.add(counts, digit_of(key, shift, digit), 1)
        gpu.syncthreads()
        if own == 0:
            value = BUCKETS - 1
            while value > 0 and counts[value] < wanted:
                wanted -= counts[value]
                value -= 1
            if counts[value] < wanted:
                wanted = 0  # there are fewer candidates than wanted
            told[0], told[1] = value, wanted
        gpu.syncthreads()
        value, wanted = told[0], told[1]
        gpu.syncthreads()
        if wanted == 0:
            return NOTHING + 1
        # The highest digit is counted from 0 for negative keys; as the beginning of a key it has its sign.
        found = value - BUCKETS // 2 if digit == 0 else found * BUCKETS + value
    return found


def digit_of(key: int, shift: int, digit: int) -> int:
    """The digit of a key that begins at bit `shift`, in an order that also holds for negative keys."""
    value = (key >> shift) & (BUCKETS - 1)
    return value ^ (BUCKETS // 2) if digit == 0 else value


def gather(
    keys: Array, start: int, length: int, least: int, chosen: Array, covered: Array, counts: Array
) -> int:
    """Copy a row's keys from `least` on to `chosen`, in any order, and uncover them; how many."""
    own = gpu.threadIdx.x
    if own == 0:
        counts[0] = 0
    gpu.syncthreads()
    for i in range(own, length, THREADS):
        key = keys[start + i]
        if key >= least:
            place = gpu.atomic.add(counts, 0, 1)
            chosen[place] = key
            covered[place] = 0
    gpu.syncthreads()
    count: int = counts[0]
    gpu.syncthreads()
    return count


def sort_down(chosen: Array, count: int) -> None:
    """Sort `count` keys, largest first (bitonic: the same steps whatever the keys)."""
    own = gpu.threadIdx.x
    length = 1
    while length < count:
        length *= 2
    for i in range(count + own, length, THREADS):
        chosen[i] = NOTHING
    gpu.syncthreads()
    run = 2
    while run <= length:
        step = run // 2
        while step > 0:
            for i in range(own, length, THREADS):
                other = i ^ step
                if other > i:
                    down = (i & run) == 0
                    if (chosen[i] < chosen[other]) == down:
                        chosen[i], chosen[other] = chosen[other], chosen[i]
            gpu.syncthreads()
            step //= 2
        run *= 2


def overlaps(boxes: Array, box: int, other: int, iou_max: Single, iou_low: Single) -> bool:
    """True when the IoU of the boxes at `box` and `other` is over the pair `iou_max`."""
    wide, wide_low = side_of(max(boxes[box], boxes[other]), min(boxes[box + 2], boxes[other + 2]))
    tall, tall_low = side_of(
        max(boxes[box + 1], boxes[other + 1]), min(boxes[box + 3], boxes[other + 3])
    )
    common, common_low = product_of(wide, wide_low, tall, tall_low)
    area, area_low = area_of(boxes, box)
    other_area, other_low = area_of(boxes, other)
    both, both_low = sum_of(area, area_low, other_area, other_low)
    both, both_low = sum_of(both, both_low, -common, -common_low)
    allowed, allowed_low = product_of(both, both_low, iou_max, iou_low)
    return bool(common > allowed or (common == allowed and common_low > allowed_low))


def area_of(boxes: Array, box: int) -> Pair:
    """The area of the box at `box`; a side is at least 0."""
    wide, wide_low = side_of(boxes[box], boxes[box + 2])
    tall, tall_low = side_of(boxes[box + 1], boxes[box + 3])
    return product_of(wide, wide_low, tall, tall_low)


def side_of(begin: Single, end: Single) -> Pair:
    """From `begin` to `end`, at least 0, without an error."""
    side, low = two_sum(end, -begin)
    if side < ZERO:
        return ZERO, ZERO
    return side, low
