"""What tests of kernels share."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numba import types

from appliance.fitting import trace
from appliance.recipe import BeforeStep, InputRecipe, Recipe
from appliance.tensors import Array, DataType, Interface, TensorSpec, datatype_of
from runtime.kernels import after, boxes, image_pass, image_resize, signals, tables
from runtime.kernels.chain import Chain


def image_chain(datatype: DataType, channels: int, *steps: BeforeStep) -> tuple[Chain, TensorSpec]:
    """The chain of one image input of any size, and what it makes."""
    shape = (1,) if datatype is DataType.BYTES else (-1, -1, channels)
    spec = TensorSpec(name="image", datatype=datatype, shape=shape)
    item = InputRecipe(feeds="x", raw=spec, steps=steps)
    made = trace(item)[-1].spec
    taken = TensorSpec(name="x", datatype=made.datatype, shape=made.shape)
    engine = Interface(inputs=(taken,), outputs=(), batch_max=8)
    recipe = Recipe(inputs=(item,))
    return Chain(recipe, engine=engine), taken


def through(raw: Array, *steps: BeforeStep) -> Array:
    """What the kernels make of images `raw` (rows, height, width, channels), or of files (rows, 1)."""
    datatype = datatype_of(raw.dtype)
    assert datatype is not None
    chain, taken = image_chain(datatype, raw.shape[-1], *steps)
    into = np.zeros(chain.prepared_shape({"image": raw})["x"], taken.datatype.numpy)
    chain.before({"image": raw}, {"x": into})
    return into


def placed(raw: Array, *steps: BeforeStep) -> Array:
    """Where the first image lies: x scale, x shift, y scale, y shift, width, height."""
    datatype = datatype_of(raw.dtype)
    assert datatype is not None
    chain, taken = image_chain(datatype, raw.shape[-1], *steps)
    into = np.zeros(chain.prepared_shape({"image": raw})["x"], taken.datatype.numpy)
    where = np.full((len(raw), 6), np.nan)
    chain.before({"image": raw}, {"x": into}, {"x": where})
    return np.array(where[0])


@pytest.fixture(scope="session", name="through")
def _through() -> Callable[..., Array]:
    return through


@pytest.fixture(scope="session", name="placed")
def _placed() -> Callable[..., Array]:
    return placed


@pytest.fixture(scope="session", name="image_chain")
def _image_chain() -> Callable[..., tuple[Chain, TensorSpec]]:
    return image_chain


def checked(kernel: Callable[..., None], *declared: Any) -> Callable[..., None]:
    """`kernel` as plain Python that refuses other arguments than those it would be compiled for."""

    def run(*given: Any) -> None:
        assert len(given) == len(declared), kernel.__name__
        for value, kind in zip(given, declared, strict=True):
            _check_argument(kernel.__name__, value, kind)
        # As machine code has it: a byte times an integer is an integer.
        wide = [
            value.astype(np.int64)
            if isinstance(kind, types.Array) and kind.dtype == types.uint8 and not kind.mutable
            else value
            for value, kind in zip(given, declared, strict=True)
        ]
        with np.errstate(all="ignore"):
            kernel(*wide)

    return run


def _check_argument(name: str, value: Any, kind: Any) -> None:
    if isinstance(kind, types.Array):
        assert str(value.dtype) == str(kind.dtype), f"{name} of {kind} got {value.dtype}"
        assert value.ndim == kind.ndim, f"{name} of {kind} got {value.shape}"
        assert value.flags.c_contiguous, name
        assert value.flags.aligned, name
        assert value.flags.writeable or not kind.mutable, name
    elif isinstance(kind, types.UniTuple):
        assert len(value) == kind.count, name
    else:
        assert (value is None) is (kind == types.none), name


@pytest.fixture(scope="module")
def plain_kernels() -> Iterator[None]:
    """Chains made in this module run their kernels as plain Python; see `checked`."""
    with pytest.MonkeyPatch.context() as patch:
        for room in (after, boxes, image_pass, image_resize, signals, tables):
            patch.setattr(room, "compiled", checked)
        yield
