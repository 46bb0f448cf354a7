"""Tables of image kernels: which old pixels make a new one, as threads read them.

Knows: the taps of `image_taps`, turned so that neighbouring threads read neighbouring numbers. Rules: taps come from the
kernels that make them for the CPU, so that both resize alike; indices are INT32. Leaves to others: who reads
them (`image_kernels`), where they lie (`image_passes`).
"""

import numpy as np

from appliance.tensors import Array
from runtime.kernels.compiled import compiled, integers, reads, writes
from runtime.kernels.image_resize import Taps, axis_of
from runtime.kernels.image_taps import blend_taps, pair_taps
from runtime.kernels.lanes import WIDE
from runtime.kernels.placement import Placement
from runtime.kernels.scratch import Workspace

F, INDEX, WORD = np.float32, np.uint64, np.int32
UNROLLED = 4  # taps that `image_kernels.summed_down` takes at a time
PIECE = 16  # tables begin at multiples of so many bytes


class Tables:
    """Arrays laid one behind the other; `data` are their bytes."""

    def __init__(self) -> None:
        self.data = bytearray()

    def add(self, array: Array) -> int:
        """Lay a copy of `array` behind the others; its offset in bytes."""
        self.data += bytes(-len(self.data) % PIECE)
        at = len(self.data)
        self.data += np.ascontiguousarray(array).tobytes()
        return at


class BlendTables:
    """Indices and weights of two taps: (new, 2) INT32 and (new,) FP32 of either axis."""

    def __init__(self) -> None:
        taps = (writes(INDEX, 1), writes(INDEX, 1), writes(F, 1))
        self._taps = compiled(blend_taps, integers(5), *taps)

    def of(self, placed: Placement, axis: int, stride: int) -> tuple[Array, Array]:
        """Of axis 0, the vertical one, or 1; indices are multiples of `stride`."""
        count = placed.box[2 + axis]
        low, high, weight = np.empty(count, INDEX), np.empty(count, INDEX), np.empty(count, F)
        self._taps(axis_of(placed, axis, stride), low, high, weight)
        return np.stack([low, high], axis=1).astype(WORD), weight


class WeighTables:
    """Indices and weights of any number of taps: (new, taps) INT32 and FP32, or INT32 in fixed point."""

    def __init__(self, method: int) -> None:
        self._taps = Taps(method)

    def of(
        self, placed: Placement, axis: int, stride: int, *, fixed: bool = False
    ) -> tuple[Array, Array]:
        """As `BlendTables.of`; fixed: weights have `lanes.FRACTION_BITS` bits of fraction."""
        index, weight, words = self._taps.make(Workspace(), placed, axis, stride)
        return index.astype(WORD), (words if fixed else weight).copy()

    def side_by_side(self, placed: Placement, stride: int) -> tuple[Array, Array]:
        """Of the horizontal axis of a filter in fixed point; see `adjoining`."""
        index, weight, words = self._taps.make(Workspace(), placed, 1, stride)
        return adjoining(index.astype(np.int64), weight, words, stride)


class PairTables:
    """Four taps as the weights of four adjoining pixels; see `image_taps.pair_taps`."""

    def __init__(self, method: int) -> None:
        self._taps = Taps(method)
        taps, made = (reads(INDEX, 2), reads(F, 2)), (writes(INDEX, 2), writes(F, 2))
        self._pairs = compiled(pair_taps, integers(5), *taps, *made)

    def across(self, placed: Placement, stride: int) -> tuple[Array, Array]:
        """Of the horizontal axis, (new, 4) each; a pixel beyond the picture weighs nothing."""
        axis = axis_of(placed, 1, stride)
        index, weight, _ = self._taps.make(Workspace(), placed, 1, stride)
        low, pairs = np.empty((len(index), 1), INDEX), np.empty((len(index), 2 * WIDE), F)
        self._pairs(axis, index, weight, low, pairs)
        last = (axis[0] + axis[1] - 1) * stride
        pixels = np.minimum(low.astype(np.int64) + np.arange(4) * stride, last)
        return pixels.astype(WORD), pairs[:, [0, stride, WIDE, WIDE + stride]]


def adjoining(index: Array, weight: Array, fixed: Array, stride: int) -> tuple[Array, Array]:
    """Where the taps of each new pixel begin, (new,), when they are taken side by side, and `fixed` so padded.

    Of a filter, whose taps adjoin but for those that weigh nothing, wherever these point; weight, fixed: (new, taps).
    """
    heavy = np.argmax(weight != 0.0, axis=1)
    begin = index[np.arange(len(index)), heavy] - heavy * stride
    return begin.astype(WORD), padded(index, fixed)[1]


def padded(index: Array, weight: Array) -> tuple[Array, Array]:
    """With so many taps of weight 0 that they are a multiple of UNROLLED; they repeat the last."""
    more = -index.shape[1] % UNROLLED
    return np.pad(index, ((0, 0), (0, more)), "edge"), np.pad(weight, ((0, 0), (0, more)))
