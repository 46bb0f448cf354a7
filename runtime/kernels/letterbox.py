"""Where a resized image lies inside the new one.

Knows: the geometry of `appliance.recipe.Resize`. Rules: whole numbers only, so that no two machines
differ by a pixel. Leaves to others: the pixels (`steps`).
"""

from appliance.recipe import Resize


def box_of(step: Resize, height: int, width: int) -> tuple[int, int, int, int]:
    """(top, left, height, width) in pixels of what `step` makes of `height` x `width` pixels.

    Stretched: everything. Letterboxed: the side that binds fits exactly, the other is rounded half up
    to at least 1, and half of the border, rounded down, goes above and to the left.
    """
    if step.fit == "stretch":
        return (0, 0, step.height, step.width)
    if step.height * width <= step.width * height:
        tall, wide = step.height, _rounded_quotient(step.height * width, height)
    else:
        tall, wide = _rounded_quotient(step.width * height, width), step.width
    return ((step.height - tall) // 2, (step.width - wide) // 2, tall, wide)


def _rounded_quotient(dividend: int, divisor: int) -> int:
    return max((2 * dividend + divisor) // (2 * divisor), 1)
