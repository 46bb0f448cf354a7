"""Image parts run without a GPU, and what the CPU's kernels make of the same pictures.

Knows: how a program lays pictures, scratch and tables. Rules: memory that nobody wrote is full of noise, not zeros. Leaves to
others: which pictures and steps (the tests).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from appliance.fitting import trace
from appliance.recipe import (
    BeforeStep,
    Cast,
    Colour,
    Crop,
    InputRecipe,
    Normalise,
    Pad,
    Quantise,
    Resize,
)
from appliance.recipe import (
    Layout as Planes,
)
from appliance.tensors import Array, TensorSpec, datatype_of
from runtime.gpu.program import Launch, Layout, Place
from runtime.kernels.cuda import KernelSource
from runtime.kernels.cuda.images import ImagePart
from runtime.kernels.images import ImagePasses
from tests.gpu.threads import run_launches

Run = Callable[[tuple[KernelSource, ...], list[Launch], Array, bytes], None]
IMAGENET = Normalise(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), scale=1 / 255)

NORMALISED = (Cast(), IMAGENET, Planes())

# What boxes do all day, by name: one picture as it is sent (UINT8), and its steps.
CASES: dict[str, tuple[tuple[int, int, int], tuple[BeforeStep, ...]]] = {
    "placed 224": ((224, 224, 3), (Cast(), IMAGENET, Planes())),
    "detector 1080p to 640, letterboxed": (
        (1080, 1920, 3),
        (
            Resize(height=640, width=640, fit="letterbox", fill=114.0),
            Cast(),
            Normalise(mean=(0.0,), std=(1.0,), scale=1 / 255),
            Planes(),
        ),
    ),
    "classifier 500 x 375, Pillow's bilinear": (
        (375, 500, 3),
        (
            Resize(height=256, width=256, like="pillow", fit="cover"),
            Crop(height=224, width=224),
            Cast(),
            IMAGENET,
            Planes(),
        ),
    ),
    "bicubic 720p to 384": (
        (720, 1280, 3),
        (Resize(height=384, width=384, method="bicubic"), Cast(), IMAGENET, Planes()),
    ),
    "area 1080p to 224, to INT8": (
        (1080, 1920, 3),
        (
            Resize(height=224, width=224, method="area"),
            Cast(),
            IMAGENET,
            Quantise(datatype="INT8", scale=0.02),
        ),
    ),
}

METHODS: list[tuple[Any, Any]] = [
    *[("nearest", "opencv"), ("bilinear", "opencv"), ("bicubic", "opencv"), ("area", "opencv")],
    *[("nearest", "pillow"), ("bilinear", "pillow"), ("bicubic", "pillow"), ("lanczos", "pillow")],
]


class Small(NamedTuple):
    """Pictures that one block of threads is enough for, and steps; together SMALL runs every kernel."""

    dtype: Any
    channels: int
    steps: tuple[BeforeStep, ...]
    gives: str = ""

    def raw(self) -> Array:
        """A picture."""
        return pictures(self.dtype, 1, 7, 9, self.channels)

    def wanted(self) -> Array:
        """What the CPU makes of it."""
        raw, (first, *_) = self.raw(), self.steps
        if isinstance(first, Planes):
            return np.moveaxis(raw, 3, 1)
        made = on_processor(raw, self.steps)[0]
        return made.astype(self.gives) if self.gives else made


LEVELS = Quantise(datatype="INT8", scale=0.7, zero_point=3)
SMALL = [
    *[
        Small(np.uint8, 3, (Resize(height=6, width=7, method=method, like=like), *NORMALISED))
        for method, like in METHODS
    ],
    Small(np.float32, 3, (Resize(height=6, width=7, method="bicubic"), Cast(), LEVELS)),
    Small(np.float32, 3, (Resize(height=6, width=7, like="pillow"), *NORMALISED)),
    Small(np.uint8, 3, (Resize(height=5, width=7, fit="letterbox"), *NORMALISED), "float16"),
    Small(np.uint8, 3, (Pad(height=8, width=9, fill=9.0), Cast(), LEVELS)),
    Small(np.float16, 3, (Cast(), Resize(height=6, width=4, method="area"))),
    Small(np.int64, 5, (Cast(), Crop(height=4, width=5), Planes())),
    Small(np.bool_, 1, (Cast(), LEVELS, Planes(order="HW"))),
    Small(np.uint8, 4, (Resize(height=6, width=7, like="pillow"), Cast(), Planes())),
    Small(np.uint8, 4, (Colour(to="grey"),)),
    Small(np.float32, 3, (Colour(to="grey"),)),
    Small(np.int16, 3, (Planes(),)),
]


def pictures(dtype: Any, *shape: int) -> Array:
    """Pictures of noise, `shape` with rows in front."""
    source = np.random.default_rng(sum(shape))
    if np.dtype(dtype).kind == "f":
        return source.normal(0.0, 100.0, shape).astype(dtype)
    if dtype is np.bool_:
        return source.integers(0, 2, shape).astype(dtype)
    limits = np.iinfo(dtype)
    return source.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def spec_of(raw: Array) -> TensorSpec:
    """The spec of pictures (rows, height, width, channels) of any size."""
    datatype = datatype_of(raw.dtype)
    assert datatype is not None
    return TensorSpec(name="image", datatype=datatype, shape=(-1, -1, raw.shape[3]))


def part_for(raw: Array, steps: Sequence[BeforeStep], gives: str = "") -> ImagePart:
    """The part that does `steps` to pictures such as `raw`."""
    return ImagePart(reads="image", makes="x", raw=spec_of(raw), steps=steps, gives=gives)


def on_device(part: ImagePart, raw: Array, run: Run = run_launches) -> Array:
    """What the part's kernels make of `raw`; `run` runs launches."""
    shapes = {"image": raw.shape}
    shape, dtype = part.made(shapes)["x"]
    layout = Layout()
    sizes = (raw.nbytes, int(np.prod(shape)) * np.dtype(dtype).itemsize, part.scratch(shapes))
    sent, made, scratch = (Place(space="arena", offset=layout.take(size)) for size in sizes)
    arena = np.random.default_rng(7).integers(0, 256, layout.size + 64, np.uint8)
    arena[: raw.nbytes] = np.frombuffer(raw.tobytes(), np.uint8)
    guard = arena[layout.size :].copy()
    constants_at = Place(space="constants", offset=0)
    launches = part.launches(shapes, {"image": sent, "x": made}, constants_at, scratch)
    run(part.kernels(), launches, arena, part.constants(shapes))
    np.testing.assert_array_equal(arena[layout.size :], guard)
    np.testing.assert_array_equal(arena[: raw.nbytes], np.frombuffer(raw.tobytes(), np.uint8))
    return arena[made.offset : made.offset + sizes[1]].view(dtype).reshape(shape)


def on_processor(raw: Array, steps: Sequence[BeforeStep]) -> tuple[Array, Array]:
    """What the CPU's kernels make of `raw`, and what they write to `placed`."""
    passes = ImagePasses(spec_of(raw), steps)
    last = trace(InputRecipe(feeds="x", raw=spec_of(raw), steps=tuple(steps)))[-1].spec
    into, placed = np.zeros(passes.shape([raw]), last.datatype.numpy), np.zeros((len(raw), 6))
    passes.run([raw], into, placed)
    return into, placed
