"""Steps of images: height x width x channels (HWC) until a layout step.

Knows: the image steps and their parameters. Rules: see `step`. Leaves to others: computing them
(`runtime.kernels`).
"""

from typing import Literal, TypeAlias

from appliance.recipe.step import Finite, PositiveInt, Step


class Resize(Step, frozen=True, kw_only=True, tag="resize"):
    """Resize HWC to `height` x `width` by bilinear interpolation, half-pixel centres, no antialias.

    `stretch` ignores the aspect ratio; `letterbox` keeps it and fills the border with `fill`, the
    image centred (odd pixels go right and below). Its longer side fits exactly, the other is rounded
    half up to whole pixels, at least 1.
    """

    height: PositiveInt
    width: PositiveInt
    method: Literal["bilinear"] = "bilinear"
    fit: Literal["stretch", "letterbox"] = "stretch"
    fill: Finite = 0.0


class Normalise(Step, frozen=True, kw_only=True, tag="normalise"):
    """Per channel y = (x * scale - mean) / std; one value serves all channels."""

    mean: tuple[Finite, ...]
    std: tuple[Finite, ...]
    scale: Finite = 1.0


class Layout(Step, frozen=True, kw_only=True, tag="layout"):
    """Reorder the axes of an image: HWC to CHW. The last of the image steps."""

    order: Literal["CHW"] = "CHW"


ImageStep: TypeAlias = Resize | Normalise | Layout
