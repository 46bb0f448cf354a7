"""Image cases of the checks, and a part of a recipe as a program of its own."""

from typing import Any, NamedTuple

import numpy as np

from appliance.recipe import BeforeStep, Cast, Layout, Normalise, Resize
from appliance.tensors import Array
from runtime.gpu.program import CopyIn, CopyOut, Place, Program
from runtime.gpu.program import Layout as Room
from runtime.kernels.cuda.images import ImagePart
from tests.gpu.image_cases import part_for

METHODS = (
    ("nearest", "opencv"),
    ("bilinear", "opencv"),
    ("bicubic", "opencv"),
    ("area", "opencv"),
    ("nearest", "pillow"),
    ("bilinear", "pillow"),
    ("bicubic", "pillow"),
    ("lanczos", "pillow"),
)
LAST: tuple[BeforeStep, ...] = (
    Cast(),
    Normalise(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), scale=1 / 255),
    Layout(),
)


class Case(NamedTuple):
    """Pictures and what is done to them."""

    name: str
    raw: Array
    steps: tuple[BeforeStep, ...]

    @property
    def part(self) -> ImagePart:
        """The part of a program that does it."""
        return part_for(self.raw, self.steps)


class Laid(NamedTuple):
    """A part as a program: where its result lies in the slot, and its shape and dtype."""

    program: Program
    at: int
    shape: tuple[int, ...]
    dtype: str


def resized(method: str, like: str, height: int, width: int, fit: str = "stretch") -> BeforeStep:
    """A resize."""
    options: Any = {"method": method, "like": like, "fit": fit}
    return Resize(height=height, width=width, **options)


def noise(dtype: Any, *shape: int) -> Array:
    """Pictures."""
    source = np.random.default_rng(sum(shape))
    if np.dtype(dtype).kind == "f":
        return source.normal(0.0, 100.0, shape).astype(dtype)
    return source.integers(0, 256, shape, np.uint8)


def laid(case: Case) -> Laid:
    """The case's part, its copies included."""
    part, shapes = case.part, {"image": case.raw.shape}
    shape, dtype = part.made(shapes)["x"]
    made = int(np.prod(shape)) * np.dtype(dtype).itemsize
    room = Room()
    sent, result, scratch = (
        Place(space="arena", offset=room.take(size))
        for size in (case.raw.nbytes, made, part.scratch(shapes))
    )
    arena = room.size
    slot = Room()
    slot.take(case.raw.nbytes)
    at = slot.take(made)
    constants = Place(space="constants", offset=0)
    steps = (
        CopyIn(slot=0, to=sent, size=case.raw.nbytes),
        *part.launches(shapes, {"image": sent, "x": result}, constants, scratch),
        CopyOut(source=result, slot=at, size=made),
    )
    program = Program(
        steps=steps, slot_bytes=slot.size, arena_bytes=arena, constants=part.constants(shapes)
    )
    return Laid(program, at, shape, dtype)
