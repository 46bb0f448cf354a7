"""The kernels of grey: one channel made of three.

Knows: weights in the order that the channels have. Rules: as `image_steps`. Leaves to others: which
weights (`image_pass`).
"""

from appliance.tensors import Array


def grey_bytes(
    raw: Array, out: Array, channels: int, weights: tuple[int, int, int], bits: int
) -> None:
    """Grey of colour: (weights . the first three channels + half) >> bits, UINT8.

    raw: (pixels * channels,), out: (pixels,).
    """
    first, second, third = weights
    half = 1 << (bits - 1)
    if channels == 3:
        for p in range(out.size):
            total = raw[3 * p] * first + raw[3 * p + 1] * second + raw[3 * p + 2] * third
            out[p] = (total + half) >> bits
    else:
        for p in range(out.size):
            at = channels * p
            total = raw[at] * first + raw[at + 1] * second + raw[at + 2] * third
            out[p] = (total + half) >> bits


def grey_floats(raw: Array, out: Array, channels: int, weights: tuple[float, float, float]) -> None:
    """Grey of colour: (first * w0 + second * w1) + third * w2, FP32.

    raw: (pixels * channels,), out: (pixels,).
    """
    first, second, third = weights
    for p in range(out.size):
        at = channels * p
        out[p] = raw[at] * first + raw[at + 1] * second + raw[at + 2] * third
