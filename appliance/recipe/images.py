"""Steps of images: height x width x channels (HWC) until a layout step.

Knows: the image steps and their parameters. Rules: see `step`; a step works on UINT8 or FP32 and leaves the
datatype as it is unless it says otherwise; sizes are in pixels; `fill` is the value of pixels where no
image lies, in every channel, a whole number from 0 to 255 in UINT8. Leaves to others: computing them
(`runtime.kernels`).
"""

from typing import Annotated, Literal, TypeAlias

import msgspec

from appliance.recipe.step import Finite, PositiveInt, Step

Offset = Annotated[int, msgspec.Meta(ge=0, le=65536)]


class Decode(Step, frozen=True, kw_only=True, tag="decode"):
    """Decode the bytes of a JPEG or PNG file, BYTES [1], to UINT8 HWC of open height and width. The first step.

    `channels` 3 is colour in `order`, 4 colour and alpha (255 where the file has none), 1 grey.
    Grey in colour is repeated; colour in grey is weighted as `colour` does it like Pillow. Alpha is
    left out of 1 and 3 channels, not blended. Palettes are looked up. 16-bit samples keep their
    high byte. CMYK becomes colour by R = (255 - K) (255 - C) / 255, rounded to nearest. Colour
    profiles and gamma are ignored; of an animation the default image is taken. `orientation` =
    "apply" turns the picture as EXIF says, "ignore" leaves the pixels as stored. A file whose
    header names more than `pixels_max` pixels, a JPEG of more than 256 scans, a truncated and a
    corrupt one is refused.
    """

    channels: Literal[1, 3, 4] = 3
    order: Literal["RGB", "BGR"] = "RGB"
    orientation: Literal["ignore", "apply"] = "ignore"
    pixels_max: Annotated[int, msgspec.Meta(ge=1, le=1 << 28)] = 1 << 24


class Colour(Step, frozen=True, kw_only=True, tag="colour"):
    """Change the channels: `swapped` RGB to BGR or back, `grey` from colour, `colour` from grey.

    `swapped` exchanges the first and the third of 3 or 4 channels. `grey` makes 1 channel of 3 or 4 in
    `order`, alpha left out: in UINT8 (19595 R + 38470 G + 7471 B + 32768) >> 16 like "pillow",
    (9798 R + 19235 G + 3735 B + 16384) >> 15 like "opencv"; in FP32 0.299 R + 0.587 G + 0.114 B for
    both, each operation rounded. `colour` repeats 1 channel three times.
    """

    to: Literal["swapped", "grey", "colour"]
    order: Literal["RGB", "BGR"] = "RGB"
    like: Literal["pillow", "opencv"] = "pillow"


class Crop(Step, frozen=True, kw_only=True, tag="crop"):
    """Cut out `height` x `width` pixels: at `top` and `left`, or where they are left out, in the centre.

    The centre begins at (length - size) / 2, rounded half to even, as torchvision's CenterCrop. What
    reaches beyond the image is refused (`small` = "refuse") or filled ("pad"); in the centre of a
    smaller image odd pixels then go right and below.
    """

    height: PositiveInt
    width: PositiveInt
    top: Offset | None = None
    left: Offset | None = None
    small: Literal["refuse", "pad"] = "refuse"
    fill: Finite = 0.0


class Pad(Step, frozen=True, kw_only=True, tag="pad"):
    """Fill up to `height` x `width`, or each side to the next multiple of `multiple`.

    `align` says where the image lies: in the "centre" (odd pixels go right and below) or at the "start" (left
    and above). An image larger than `height` x `width` is refused.
    """

    height: PositiveInt | None = None
    width: PositiveInt | None = None
    multiple: PositiveInt | None = None
    align: Literal["centre", "start"] = "centre"
    fill: Finite = 0.0


class Resize(Step, frozen=True, kw_only=True, tag="resize"):
    """Resize HWC to `height` x `width`, each channel by itself.

    `like` = "opencv": half-pixel centres, no antialias. `nearest` takes pixel floor(i * length / count);
    `bilinear` is INTER_LINEAR; `bicubic` is INTER_CUBIC (a = -0.75, borders repeated); `area` is the
    mean over the new pixel's cell, which is INTER_AREA where no side grows. `like` = "pillow":
    `nearest` takes the pixel at the centre; `bilinear`, `bicubic` (a = -0.5) and `lanczos` (3 lobes) are
    Pillow's filters, which widen where an image shrinks (antialias).

    FP32: weights are rounded to FP32 once, sums are FP32, within (4 taps + 20) 2**-24 times the largest
    value times 1.6. UINT8 like pillow: to the bit as Pillow with 22 bits of fraction, across and then
    down, each rounded (Pillow 13 goes down first where the height shrinks much more than the width).
    UINT8 like opencv: computed in FP32 and rounded half to even, within 1 of OpenCV.

    `stretch` ignores the aspect ratio, the others keep it. `letterbox` fills the border with `fill`, the
    image centred (odd pixels go right and below): its longer side fits exactly, the other is rounded
    half up to whole pixels, at least 1. `cover` lets the shorter side fit, rounds the other down, and
    cuts out the centre as `crop` does.
    """

    height: PositiveInt
    width: PositiveInt
    method: Literal["nearest", "bilinear", "bicubic", "area", "lanczos"] = "bilinear"
    like: Literal["opencv", "pillow"] = "opencv"
    fit: Literal["stretch", "letterbox", "cover"] = "stretch"
    fill: Finite = 0.0


class Normalise(Step, frozen=True, kw_only=True, tag="normalise"):
    """Per channel y = (x * scale - mean) / std, FP32; one value serves all channels."""

    mean: tuple[Finite, ...]
    std: tuple[Finite, ...]
    scale: Finite = 1.0


class Quantise(Step, frozen=True, kw_only=True, tag="quantise"):
    """FP32 to `datatype`: y = round(x / scale) + zero_point, saturated, as ONNX's QuantizeLinear.

    The quotient is FP32, rounded half to even; NaN becomes `zero_point`.
    """

    datatype: Literal["UINT8", "INT8"]
    scale: Annotated[float, msgspec.Meta(gt=0.0, le=1e30)]
    zero_point: Annotated[int, msgspec.Meta(ge=-128, le=255)] = 0


class Layout(Step, frozen=True, kw_only=True, tag="layout"):
    """Reorder the axes of an image of any datatype: HWC to CHW, or of one channel to HW.

    The last of the image steps, but a quantise may follow.
    """

    order: Literal["CHW", "HW"] = "CHW"


ImageStep: TypeAlias = Decode | Colour | Crop | Pad | Resize | Normalise | Quantise | Layout
