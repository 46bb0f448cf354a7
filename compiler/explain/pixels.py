"""A tensor as pixels.

Knows: what its axes are and how values become grey or colour. Rules: UINT8 images as they are; all other values
by their own range, the least black and the largest white, so that the shape of the data is seen whatever
its scale; NaN and infinities are magenta. Leaves to others: the sheet around them (`pictures`).
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from appliance.tensors import Array
from compiler.explain import Stage

Pixels: TypeAlias = NDArray[np.uint8]  # (height, width, 3)

MAGENTA = (255, 0, 255)
CHANNELS = (1, 2, 3, 4)
SIGNAL_SAMPLES_MIN = 32  # a shorter vector is no signal
SIGNAL_SIZE = (96, 256)  # pixels of a curve: height, width


def pixels(stage: Stage) -> Pixels | None:
    """The picture of a tensor, None when it is neither image nor signal.

    Images of 1 or 2 channels give grey (the first channel), 3 and 4 give colour (the first three). Of
    spectra, time runs to the right and frequency upwards; of several channels the first is shown. A vector is drawn as
    its curve.
    """
    array, order = stage.array, stage.prepared.order
    if array.dtype == np.object_ or not array.size or stage.prepared.columns:
        return None
    if order in ("HWC", "CHW", "HW"):
        return _image(array, order)
    if array.ndim == 3:
        array = array[0]
    if array.ndim == 2 and order != "samples":
        return _grey(np.flipud(array if order == "transposed" else array.T))
    return _curve(array.T[0] if array.ndim == 2 else array)


def _image(array: Array, order: str) -> Pixels | None:
    if array.ndim == 3:
        # Without a recipe the order is a guess: the last axis is the channels' where it can be.
        if order == "CHW" or array.shape[2] not in CHANNELS:
            array = np.moveaxis(array, 0, 2)
        if array.shape[2] not in CHANNELS:
            return None
        return _grey(array[..., 0]) if array.shape[2] < 3 else _scaled(array[..., :3])
    if array.ndim == 2 and (order == "HW" or min(array.shape) > 1):
        return _grey(array)
    return _curve(array) if array.ndim == 1 and array.size >= SIGNAL_SAMPLES_MIN else None


def _grey(values: Array) -> Pixels:
    return _scaled(np.repeat(values[..., None], 3, axis=2))


def _scaled(values: Array) -> Pixels:
    """Values (height, width, 3) as 0 .. 255; a pixel of which any is not finite is magenta."""
    if values.dtype == np.uint8:
        return np.array(values, np.uint8)
    exact: NDArray[Any] = values.astype(np.float64)
    finite = np.isfinite(exact)
    known = exact[finite]
    low, high = (known.min(), known.max()) if known.size else (0.0, 0.0)
    shown = np.full(exact.shape, 127.5)
    if high > low:
        with np.errstate(over="ignore"):
            shown = (np.where(finite, exact, low) / 2 - low / 2) / (high / 2 - low / 2) * 255.0
    image: Pixels = np.rint(shown).astype(np.uint8)
    image[~finite.all(axis=2)] = MAGENTA
    return image


def _curve(values: Array) -> Pixels:
    """The least and largest value of each of the picture's columns, joined by a line."""
    height, width = SIGNAL_SIZE
    samples = values.astype(np.float64)
    finite = np.isfinite(samples)
    image = np.full((height, width, 3), 255, np.uint8)
    if not finite.any():
        image[...] = MAGENTA
        return image
    halves = np.where(finite, samples, 0.0) / 2  # a range of FP64 may be larger than FP64
    low, high = halves[finite].min(), halves[finite].max()
    below = high - np.where(finite, halves, low)
    rows = np.rint(below / (high - low or 1.0) * (height - 1)).astype(np.int64)
    for x in range(width):
        first = x * samples.size // width
        last = min((x + 1) * samples.size // width, samples.size - 1)
        part = slice(first, last + 1)
        image[rows[part].min() : rows[part].max() + 1, x] = (
            (31, 78, 121) if finite[part].all() else MAGENTA
        )
    return image
