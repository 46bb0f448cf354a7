"""Where a picture lies after some steps, and what of it is seen.

Knows: the geometry of `appliance.recipe`'s Crop, Pad and Resize. Rules: whole pixels only, so that no two
machines differ by one; one resize a placement. Leaves to others: the pixels (`image_steps`).
"""

from dataclasses import dataclass, replace

from appliance.errors import RequestError
from appliance.recipe import Crop, Pad, Resize

Size = tuple[int, int]

SIDE_MAX = 1 << 16  # pixels of a resized picture, as the most that a step may ask for


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A part of a picture, resized, on a canvas.

    The `height` x `width` pixels from `corner` (top, left) on of a picture became `size` pixels, whose
    upper left one lies at `at` of the canvas, which may be outside; `seen` (top, left, bottom, right) is
    the part of the canvas that shows them; the rest is border. All are (vertical, horizontal).
    """

    corner: Size
    part: Size
    size: Size
    at: Size
    seen: tuple[int, int, int, int]
    canvas: Size

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Top, left, height and width of what is seen."""
        top, left, bottom, right = self.seen
        return (top, left, max(bottom - top, 0), max(right - left, 0))

    @property
    def first(self) -> Size:
        """Which of the resized pixels is seen first."""
        return (self.seen[0] - self.at[0], self.seen[1] - self.at[1])

    def back(self) -> tuple[float, float, float, float]:
        """The way back, as x scale, x shift, y scale, y shift.

        A point x of the canvas lies at x * scale + shift in the picture, both in pixels from the left or
        upper edge.
        """
        y_scale, x_scale = (old / new for old, new in zip(self.part, self.size, strict=True))
        return (
            x_scale,
            self.corner[1] - self.at[1] * x_scale,
            y_scale,
            self.corner[0] - self.at[0] * y_scale,
        )

    def through(self, step: Crop | Pad | Resize) -> "Placement":
        """The placement after `step`. Raises RequestError when the picture's size does not fit it."""
        match step:
            case Crop():
                return self.cut(*_crop_corner(step, self.canvas), (step.height, step.width))
            case Pad():
                size = _padded(step, self.canvas)
                return self.cut(*_pad_corner(step, self.canvas, size), size)
            case Resize():  # pragma: no branch
                return self._resized(step)

    def cut(self, top: int, left: int, size: Size) -> "Placement":
        """The same on a canvas of `size` whose upper left pixel is this one's (top, left)."""
        first, second, bottom, right = self.seen
        seen = (
            max(first - top, 0),
            max(second - left, 0),
            min(bottom - top, size[0]),
            min(right - left, size[1]),
        )
        at = (self.at[0] - top, self.at[1] - left)
        return replace(self, at=at, seen=seen, canvas=size)

    def _resized(self, step: Resize) -> "Placement":
        """The canvas resized, which must show nothing but pixels that were not resized yet.

        Raises RequestError for a picture so narrow that covering would make it far too long.
        """
        corner = (self.corner[0] - self.at[0], self.corner[1] - self.at[1])
        size = fitted(step, *self.canvas)
        if max(size) > SIDE_MAX:
            raise RequestError(
                f"has {self.canvas[0]} x {self.canvas[1]} pixels: too narrow to cover "
                f"{step.height} x {step.width}",
                remedy="send a picture whose sides differ less",
            )
        made = replace(whole(*size), corner=corner, part=self.canvas, size=size, canvas=size)
        wanted = (step.height, step.width)
        if step.fit == "letterbox":
            return made.cut(-((wanted[0] - size[0]) // 2), -((wanted[1] - size[1]) // 2), wanted)
        return made.cut(_centre(size[0], wanted[0]), _centre(size[1], wanted[1]), wanted)


def whole(height: int, width: int) -> Placement:
    """All of a picture, as it is."""
    size = (height, width)
    return Placement(
        corner=(0, 0), part=size, size=size, at=(0, 0), seen=(0, 0, height, width), canvas=size
    )


def fitted(step: Resize, height: int, width: int) -> Size:
    """What `height` x `width` pixels become, before a border is added or an edge cut off."""
    if step.fit == "stretch":
        return (step.height, step.width)
    tall_binds = step.height * width <= step.width * height
    if step.fit == "letterbox":
        if tall_binds:
            return (step.height, _rounded_quotient(step.height * width, height))
        return (_rounded_quotient(step.width * height, width), step.width)
    if tall_binds:
        return (step.width * height // width, step.width)
    return (step.height, step.height * width // height)


def _crop_corner(step: Crop, canvas: Size) -> Size:
    """Top and left of the cut. Raises RequestError beyond the image, unless it is to be filled."""
    top = _centre(canvas[0], step.height) if step.top is None else step.top
    left = _centre(canvas[1], step.width) if step.left is None else step.left
    beyond = top < 0 or left < 0 or top + step.height > canvas[0] or left + step.width > canvas[1]
    if beyond and step.small == "refuse":
        wanted = (step.height + (step.top or 0), step.width + (step.left or 0))
        raise RequestError(
            f"has {canvas[0]} x {canvas[1]} pixels where the model cuts out "
            f"{step.height} x {step.width}",
            remedy=f"send an image of at least {wanted[0]} x {wanted[1]} pixels",
        )
    return (top, left)


def _centre(length: int, wanted: int) -> int:
    """Where the middle `wanted` of `length` pixels begin: half to even; negative when it is longer."""
    if wanted > length:
        return -((wanted - length) // 2)
    return round((length - wanted) / 2)


def _padded(step: Pad, canvas: Size) -> Size:
    """The size after padding. Raises RequestError for an image that is larger."""
    if step.multiple is not None:
        return (
            -(-canvas[0] // step.multiple) * step.multiple,
            -(-canvas[1] // step.multiple) * step.multiple,
        )
    size = (step.height or canvas[0], step.width or canvas[1])
    if canvas[0] > size[0] or canvas[1] > size[1]:
        raise RequestError(
            f"has {canvas[0]} x {canvas[1]} pixels where the model takes up to "
            f"{size[0]} x {size[1]}",
            remedy="send a smaller image",
        )
    return size


def _pad_corner(step: Pad, canvas: Size, size: Size) -> Size:
    if step.align == "start":
        return (0, 0)
    return (-((size[0] - canvas[0]) // 2), -((size[1] - canvas[1]) // 2))


def _rounded_quotient(dividend: int, divisor: int) -> int:
    return max((2 * dividend + divisor) // (2 * divisor), 1)
