"""What image steps do to a tensor spec. Pure.

Knows: which steps take which channels, datatypes and sizes. Rules: what is wrong for every image is
refused here; what is wrong for some, such as one smaller than a crop, when it is sent. Leaves to others:
the pixels (`runtime.kernels`).
"""

from appliance.fitting.prepared import Prepared, check, misfit, replaced, vanishes
from appliance.recipe import (
    FP32_MAX,
    Colour,
    Crop,
    Decode,
    ImageStep,
    Layout,
    Normalise,
    Pad,
    Quantise,
    Resize,
)
from appliance.tensors import DataType

OPEN = -1
BOUNDS = {"UINT8": (0, 255), "INT8": (-128, 127)}
CHANNELS_MAX = 256  # kernels are compiled for the number, in a time that grows with it


def image_step(step: ImageStep, before: Prepared) -> Prepared:
    """The tensor after `step`. Raises RecipeError when the step does not fit it."""
    if isinstance(step, Decode):
        return _decoded(step, before)
    if before.spec.datatype is DataType.BYTES:
        raise misfit(step, before, "needs pixels: put a decode first")
    if isinstance(step, Quantise):
        return _quantised(step, before)
    if len(before.spec.shape) != 3 or before.order != "HWC" or before.columns:
        raise misfit(step, before, "needs an image of 3 axes, height x width x channels")
    height, width, channels = before.spec.shape
    check(
        step,
        before,
        0 < channels <= CHANNELS_MAX,
        f"needs a fixed number of channels, 1 to {CHANNELS_MAX}",
    )
    match step:
        case Layout(order="CHW"):
            return replaced(before, shape=(channels, height, width), order="CHW")
        case Layout():
            check(step, before, channels == 1, "needs 1 channel: put a colour step to grey first")
            return replaced(before, shape=(height, width), order="HW")
        case Normalise():
            _check_normalise(step, before)
            return before
        case Colour():
            _check_pixels(step, before)
            return replaced(before, shape=(height, width, _channels_after(step, before)))
        case Crop() | Pad() | Resize():  # pragma: no branch
            _check_pixels(step, before)
            _check_fill(step, before)
            return replaced(before, shape=(*_size_after(step, before), channels))


def _decoded(step: Decode, before: Prepared) -> Prepared:
    fits = before.spec.datatype is DataType.BYTES and before.spec.shape == (1,)
    if not fits or before.columns:
        raise misfit(step, before, "needs one file a row: BYTES of shape [1], as the first step")
    return replaced(before, datatype=DataType.UINT8, shape=(OPEN, OPEN, step.channels), order="HWC")


def _quantised(step: Quantise, before: Prepared) -> Prepared:
    check(step, before, before.order in ("HWC", "CHW", "HW"), "needs an image")
    check(step, before, len(before.spec.shape) == len(before.order), "needs an image")
    check(step, before, not before.columns, "needs an image")
    if before.order == "HWC":
        check(step, before, before.spec.shape[2] > 0, "needs a fixed number of channels")
    if before.spec.datatype is not DataType.FP32:
        raise misfit(step, before, "needs FP32: put a cast first")
    low, high = BOUNDS[step.datatype]
    if not low <= step.zero_point <= high:
        raise misfit(step, before, f"needs a zero_point from {low} to {high}")
    check(step, before, not vanishes((step.scale,)), "needs a scale that is not 0 in FP32")
    return replaced(before, datatype=DataType(step.datatype))


def _channels_after(step: Colour, before: Prepared) -> int:
    channels = before.spec.shape[2]
    if step.to == "colour":
        check(step, before, channels == 1, "needs 1 channel")
        return 3
    check(step, before, channels in (3, 4), "needs 3 or 4 channels")
    return 1 if step.to == "grey" else channels


def _size_after(step: Crop | Pad | Resize, before: Prepared) -> tuple[int, int]:
    height, width, _ = before.spec.shape
    if isinstance(step, Pad):
        if step.multiple is None:
            return _padded(step, before)
        if step.height is not None or step.width is not None:
            raise misfit(step, before, "takes a height and a width or a multiple, not both")
        return (_rounded_up(height, step.multiple), _rounded_up(width, step.multiple))
    if isinstance(step, Crop):
        _check_crop(step, before)
    else:
        _check_method(step, before)
    return (step.height, step.width)


def _padded(step: Pad, before: Prepared) -> tuple[int, int]:
    height, width, _ = before.spec.shape
    if step.height is None or step.width is None:
        raise misfit(step, before, "needs a height and a width, or a multiple")
    if height > step.height or width > step.width:
        raise misfit(step, before, f"the image is larger than {step.height} x {step.width}")
    return (step.height, step.width)


def _rounded_up(length: int, multiple: int) -> int:
    return OPEN if length == OPEN else -(-length // multiple) * multiple


def _check_crop(step: Crop, before: Prepared) -> None:
    height, width, _ = before.spec.shape
    if (step.top is None) != (step.left is None):
        raise misfit(step, before, "needs both top and left, or neither for the centre")
    bottom, right = (step.top or 0) + step.height, (step.left or 0) + step.width
    reaches = (height != OPEN and bottom > height) or (width != OPEN and right > width)
    if step.small == "refuse" and reaches:
        raise misfit(
            step,
            before,
            f'reaches to {bottom} x {right}, beyond the image; small = "pad" fills what is missing',
        )


def _check_method(step: Resize, before: Prepared) -> None:
    if step.method == "area" and step.like != "opencv":
        raise misfit(step, before, 'area is a method of like = "opencv"')
    if step.method == "lanczos" and step.like != "pillow":
        raise misfit(step, before, 'lanczos is a method of like = "pillow"')


def _check_pixels(step: ImageStep, before: Prepared) -> None:
    if before.spec.datatype not in (DataType.UINT8, DataType.FP32):
        raise misfit(step, before, "needs UINT8 or FP32: put a cast first")


def _check_fill(step: Crop | Pad | Resize, before: Prepared) -> None:
    whole = step.fill == int(step.fill) and 0 <= step.fill <= 255
    if before.spec.datatype is DataType.UINT8 and not whole:
        raise misfit(step, before, f"fill {step.fill:g} is no UINT8: use 0 to 255, or a cast first")


def _check_normalise(step: Normalise, before: Prepared) -> None:
    channels = before.spec.shape[2]
    if before.spec.datatype is not DataType.FP32:
        raise misfit(step, before, "needs FP32: put a cast first")
    if len(step.mean) != len(step.std) or vanishes(step.std):
        raise misfit(step, before, "needs as many std as mean, none of them 0 in FP32")
    if len(step.mean) not in (1, channels):
        raise misfit(step, before, f"needs 1 or {channels} values of mean and std")
    for mean, std in zip(step.mean, step.std, strict=True):
        if max(abs(step.scale / std), abs(mean / std)) > FP32_MAX:
            raise misfit(step, before, f"scale and mean over std {std:g} do not fit FP32")
