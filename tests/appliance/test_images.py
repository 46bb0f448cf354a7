"""Image steps as data: what they make of a tensor, and every refusal."""

import msgspec
import pytest

from appliance.errors import RecipeError
from appliance.fitting import served_interface, trace
from appliance.recipe import (
    BeforeStep,
    Cast,
    Colour,
    Crop,
    Decode,
    Frame,
    InputRecipe,
    Layout,
    Pad,
    Quantise,
    Recipe,
    Resize,
    Scale,
)
from appliance.tables import from_table
from appliance.tensors import DataType, Interface, TensorSpec

UINT8, FP32, BYTES = DataType.UINT8, DataType.FP32, DataType.BYTES


def image(
    *steps: BeforeStep, datatype: DataType = UINT8, shape: tuple[int, ...] = (48, 64, 3)
) -> InputRecipe:
    raw = TensorSpec(name="image", datatype=datatype, shape=shape)
    return InputRecipe(feeds="x", raw=raw, steps=steps)


def file(*steps: BeforeStep) -> InputRecipe:
    return image(*steps, datatype=BYTES, shape=(1,))


def made(recipe: InputRecipe) -> tuple[DataType, tuple[int, ...], str]:
    last = trace(recipe)[-1]
    return last.spec.datatype, last.spec.shape, last.order


MADE = {
    "a file": (file(Decode()), (UINT8, (-1, -1, 3), "HWC")),
    "a grey file": (file(Decode(channels=1)), (UINT8, (-1, -1, 1), "HWC")),
    "a file resized": (file(Decode(), Resize(height=8, width=9)), (UINT8, (8, 9, 3), "HWC")),
    "grey": (image(Colour(to="grey")), (UINT8, (48, 64, 1), "HWC")),
    "colour of grey": (
        image(Colour(to="colour"), shape=(4, 5, 1)),
        (UINT8, (4, 5, 3), "HWC"),
    ),
    "cropped": (image(Crop(height=40, width=64)), (UINT8, (40, 64, 3), "HWC")),
    "cropped to more": (
        image(Crop(height=50, width=64, small="pad")),
        (UINT8, (50, 64, 3), "HWC"),
    ),
    "padded": (image(Pad(height=50, width=64)), (UINT8, (50, 64, 3), "HWC")),
    "padded to a multiple": (image(Pad(multiple=50)), (UINT8, (50, 100, 3), "HWC")),
    "padded to a multiple of any size": (
        file(Decode(), Pad(multiple=32)),
        (UINT8, (-1, -1, 3), "HWC"),
    ),
    "quantised": (
        image(Cast(), Layout(), Quantise(datatype="INT8", scale=0.1)),
        (DataType.INT8, (3, 48, 64), "CHW"),
    ),
    "one plane": (
        image(Colour(to="grey"), Layout(order="HW"), Cast()),
        (FP32, (48, 64), "HW"),
    ),
}


@pytest.mark.parametrize(("recipe", "wanted"), MADE.values(), ids=MADE.keys())
def test_what_is_made(recipe: InputRecipe, wanted: tuple[DataType, tuple[int, ...], str]) -> None:
    assert made(recipe) == wanted


QUANTISE = Quantise(datatype="INT8", scale=0.1)
REFUSED = {
    "decode of pixels": (image(Decode()), "needs one file a row"),
    "decode of two files": (image(Decode(), datatype=BYTES, shape=(2,)), "needs one file a row"),
    "decode twice": (file(Decode(), Decode()), "needs one file a row"),
    "resize of a file": (file(Resize(height=8, width=8)), "put a decode first"),
    "grey of grey": (image(Colour(to="grey"), Colour(to="grey")), "needs 3 or 4 channels"),
    "swap of two": (image(Colour(to="swapped"), shape=(4, 5, 2)), "needs 3 or 4 channels"),
    "colour of colour": (image(Colour(to="colour")), "needs 1 channel"),
    "channels of any number": (
        image(Crop(height=4, width=4), shape=(-1, -1, -1)),
        "a fixed number of channels",
    ),
    "no pixels": (image(Resize(height=4, width=4), shape=(4, 0, 3)), "holds no values|one pixel"),
    "too many channels": (image(Layout(), shape=(4, 5, 257)), "1 to 256"),
    "no channels": (image(Layout(), shape=(4, 5, 0)), "holds no values|fixed number of channels"),
    "crop beyond": (image(Crop(height=49, width=4)), "reaches to 49 x 4, beyond the image"),
    "crop beyond from a corner": (
        image(Crop(height=9, width=9, top=40, left=0)),
        "reaches to 49 x 9",
    ),
    "crop of one corner": (image(Crop(height=9, width=9, top=4)), "both top and left"),
    "pad of a larger image": (image(Pad(height=40, width=99)), "is larger than 40 x 99"),
    "pad to nothing": (image(Pad(height=40)), "needs a height and a width, or a multiple"),
    "pad to both": (image(Pad(height=99, width=99, multiple=4)), "not both"),
    "area like pillow": (
        image(Resize(height=4, width=4, method="area", like="pillow")),
        "area is a method of like",
    ),
    "lanczos like opencv": (
        image(Resize(height=4, width=4, method="lanczos")),
        "lanczos is a method of like",
    ),
    "a fill that is no byte": (image(Pad(multiple=9, fill=0.5)), "fill 0.5 is no UINT8"),
    "a fill that is too large": (
        image(Resize(height=4, width=4, fit="letterbox", fill=256.0)),
        "fill 256 is no UINT8",
    ),
    "resize of INT16": (
        image(Resize(height=8, width=8), datatype=DataType.INT16),
        "needs UINT8 or FP32",
    ),
    "quantise of UINT8": (image(QUANTISE), "needs FP32"),
    "quantise of a table": (
        image(Cast(), QUANTISE, datatype=DataType.FP64, shape=(5,)),
        "needs an image",
    ),
    "a zero point out of range": (
        image(Cast(), Quantise(datatype="INT8", scale=1.0, zero_point=200)),
        "zero_point from -128 to 127",
    ),
    "a scale that vanishes": (
        image(Cast(), Quantise(datatype="INT8", scale=1e-60)),
        "not 0 in FP32",
    ),
    "resize of levels": (image(Cast(), QUANTISE, Resize(height=4, width=4)), "UINT8 or FP32"),
    "one plane of colour": (image(Layout(order="HW")), "needs 1 channel"),
    "steps behind a plane": (
        image(Layout(order="HW"), Colour(to="colour"), shape=(4, 5, 1)),
        "needs an image of 3 axes",
    ),
    "a signal's step on an image": (image(Cast(), Layout(), Scale(factor=2.0)), "needs a signal"),
    "a signal's step on a plane": (
        image(Cast(), Layout(order="HW"), Frame(length=2, hop=1), shape=(4, 5, 1)),
        "needs a signal",
    ),
}


@pytest.mark.parametrize(("recipe", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused(recipe: InputRecipe, why: str) -> None:
    with pytest.raises(RecipeError, match=why) as caught:
        trace(recipe)
    assert caught.value.remedy


def test_a_size_that_stays_open_is_refused_by_a_model_of_one_size() -> None:
    taken = TensorSpec(name="x", datatype=FP32, shape=(3, 224, 224))
    engine = Interface(inputs=(taken,), outputs=(), batch_max=4)
    recipe = Recipe(inputs=(file(Decode(), Cast(), Layout()),))
    with pytest.raises(RecipeError, match=r"makes FP32 \[3, -1, -1\]") as caught:
        served_interface(recipe, engine)
    assert "resize, crop or pad" in caught.value.remedy
    fixed = Recipe(inputs=(file(Decode(), Resize(height=224, width=224), Cast(), Layout()),))
    (sent,) = served_interface(fixed, engine).inputs
    assert (sent.datatype, sent.shape) == (BYTES, (1,))
    open_engine = msgspec.structs.replace(
        engine, inputs=(msgspec.structs.replace(taken, shape=(3, -1, -1)),)
    )
    assert served_interface(recipe, open_engine).inputs == (sent,)


@pytest.mark.parametrize(
    ("step", "parameters"),
    [
        ("decode", {"channels": 2}),
        ("decode", {"pixels_max": 0}),
        ("decode", {"order": "GBR"}),
        ("colour", {"to": "purple"}),
        ("crop", {"height": 0, "width": 4}),
        ("crop", {"height": 4, "width": 4, "top": -1, "left": 0}),
        ("pad", {"multiple": 0}),
        ("resize", {"height": 4, "width": 4, "method": "cubic"}),
        ("quantise", {"datatype": "UINT8", "scale": 0.0}),
        ("quantise", {"datatype": "UINT16", "scale": 1.0}),
        ("layout", {"order": "WHC"}),
    ],
)
def test_parameters_out_of_bounds_are_refused(step: str, parameters: dict[str, object]) -> None:
    raw = {"name": "image", "datatype": "UINT8", "shape": [4, 5, 3]}
    table = {"feeds": "x", "raw": raw, "steps": [{"step": step, **parameters}]}
    with pytest.raises(RecipeError):
        from_table({"inputs": [table]}, Recipe, RecipeError, where="spec")
