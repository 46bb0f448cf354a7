"""The kernels of signals: what each signal step computes, to the rounding.

Knows: samples in, levels out, a block of frames at a time. Rules: plain Python in the part of it that
numba compiles; FP64 arithmetic, rounded to FP32 where a value leaves; nothing is allocated; shapes are
right when a kernel is called, nothing is checked in here. Leaves to others: choosing kernels and the
Fourier transform between them (`signals`).
"""

# ruff: noqa: PLR0917, FBT001  numba calls take positions only
import math

import numpy as np

from appliance.tensors import Array


def scale_samples(raw: Array, out: Array, factor: float, shift: float, transposed: bool) -> None:
    """Give raw * factor + shift, axes swapped if asked. raw: (samples, channels) FP32; out: FP32."""
    for i in range(raw.shape[0]):
        for c in range(raw.shape[1]):
            value = np.float32(np.float64(raw[i, c]) * factor + shift)
            if transposed:
                out[c, i] = value
            else:
                out[i, c] = value


def cut_frames(
    raw: Array,
    channel: int,
    frames: Array,
    window: Array,
    start: int,
    hop: int,
    mirrored: bool,
    scale: Array,
) -> None:
    """Fill `frames` with a channel's windowed frames: ((x * scale[0] + scale[1]) * w) * scale[2] + scale[3].

    raw: (samples, channels) FP32. frames: (frames, size) FP64, zeros behind the window's length. window:
    (length,) FP64. Frame t begins at sample start + t * hop; beyond the signal there is its mirror image or
    silence, which no scale changes.
    """
    samples, length = raw.shape[0], window.size
    for t in range(frames.shape[0]):
        begin = start + t * hop
        # Where the frame meets the signal, counted in the frame; all of it but at the two ends.
        low = min(max(-begin, 0), length)
        high = max(min(samples - begin, length), low)
        row, values, factor, shift = frames[t], raw[:, channel], scale[0], scale[1]
        row[:low], row[high:] = 0.0, 0.0
        if mirrored:
            for i in range(low):
                row[i] = np.float64(values[-begin - i]) * factor + shift
            for i in range(high, length):
                row[i] = np.float64(values[2 * (samples - 1) - begin - i]) * factor + shift
        # Over slices, which spare the loop a test for negative positions.
        signal, inside = values[begin + low : begin + high], row[low:high]
        for i in range(inside.size):
            inside[i] = np.float64(signal[i]) * factor + shift
        for i in range(length):
            row[i] = (row[i] * window[i]) * scale[2] + scale[3]


def measure_bins(bins: Array, out: Array, power: bool, factor: float, shift: float) -> None:
    """Give |X|**2 or |X|, then * factor + shift; bins: (frames, 2 * width) FP64, re and im in turn."""
    for t in range(out.shape[0]):
        for k in range(out.shape[1]):
            real, imaginary = bins[t, 2 * k], bins[t, 2 * k + 1]
            value = real * real + imaginary * imaginary
            out[t, k] = (value if power else math.sqrt(value)) * factor + shift


def sum_bands(
    bins: Array, out: Array, weights: Array, reached: Array, factor: float, shift: float
) -> None:
    """Give out[t, m] = (sum over bins k of filter m's weight * bins[t, k]) * factor + shift.

    Filter m reaches from bin reached[m, 0] to below reached[m, 1]; its weights, FP64, begin at reached[m, 2].
    """
    for t in range(out.shape[0]):
        for m in range(out.shape[1]):
            values, total = bins[t, reached[m, 0] : reached[m, 1]], 0.0
            shares = weights[reached[m, 2] :]
            for k in range(values.size):
                total += shares[k] * values[k]
            out[t, m] = total * factor + shift


def finish(
    values: Array, out: Array, first: int, transposed: bool, factor: float, shift: float
) -> None:
    """Write values * factor + shift as FP32, frame t to out's first + t.

    values: (frames, width) FP64. out: (all frames, width) FP32, or when transposed (width, all frames).
    """
    for t in range(values.shape[0]):
        for m in range(values.shape[1]):
            value = np.float32(values[t, m] * factor + shift)
            if transposed:
                out[m, first + t] = value
            else:
                out[first + t, m] = value


def limit_range(values: Array, below: float, factor: float, shift: float) -> None:
    """Per row x = max(x, largest - below), NaN aside, then x * factor + shift; in place.

    values: (rows, size) FP32.
    """
    for r in range(values.shape[0]):
        largest = -math.inf
        for i in range(values.shape[1]):
            if values[r, i] > largest:
                largest = np.float64(values[r, i])
        least = largest - below
        for i in range(values.shape[1]):
            value = np.float64(values[r, i])
            limited = least if value < least else value  # noqa: FURB136  NaN stays NaN
            values[r, i] = np.float32(limited * factor + shift)
