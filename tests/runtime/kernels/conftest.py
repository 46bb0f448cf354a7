"""What tests of image kernels share."""

from collections.abc import Callable

import numpy as np
import pytest

from appliance.fitting import served_interface, trace
from appliance.recipe import BeforeStep, InputRecipe, Recipe
from appliance.tensors import Array, DataType, Interface, TensorSpec, datatype_of
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
    return Chain(recipe, served=served_interface(recipe, engine), engine=engine), taken


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
