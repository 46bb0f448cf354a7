"""Signals as data: what steps make of samples, and every refusal."""

import pytest

from appliance.errors import RecipeError
from appliance.fitting import served_interface, trace
from appliance.recipe import (
    BeforeStep,
    Cast,
    Frame,
    InputRecipe,
    Layout,
    Log,
    Mel,
    Normalise,
    Range,
    Recipe,
    Scale,
    Select,
    Spectrum,
    Transpose,
)
from appliance.tensors import DataType, Interface, TensorSpec

FRAME = Frame(length=400, hop=160, centre="reflect")
MEL = Mel(rate=16000, mels=80)


def signal(*steps: BeforeStep, shape: tuple[int, ...] = (16000,)) -> InputRecipe:
    raw = TensorSpec(name="sound", datatype=DataType.INT16, shape=shape)
    return InputRecipe(feeds="x", raw=raw, steps=steps)


def shapes(*steps: BeforeStep, shape: tuple[int, ...] = (16000,)) -> list[tuple[int, ...]]:
    return [stage.spec.shape for stage in trace(signal(Cast(), *steps, shape=shape))[2:]]


def test_a_mel_spectrogram() -> None:
    steps = (Scale(factor=2**-15), FRAME, Spectrum(), MEL, Log(), Range(below=8.0), Transpose())
    stages = trace(signal(Cast(), *steps))
    assert [(stage.spec.shape, stage.order) for stage in stages[1:]] == [
        ((16000,), "HWC"),
        ((16000,), "samples"),
        ((101, 400), "frames"),
        ((101, 201), "spectrum"),
        ((101, 80), "mels"),
        ((101, 80), "levels"),
        ((101, 80), "levels"),
        ((80, 101), "transposed"),
    ]


def test_channels_and_open_lengths() -> None:
    steps = (FRAME, Spectrum(size=512), Transpose())
    assert shapes(*steps, shape=(16000, 2)) == [(2, 101, 400), (2, 101, 257), (2, 257, 101)]
    assert shapes(*steps, shape=(-1,)) == [(-1, 400), (-1, 257), (257, -1)]
    assert shapes(Transpose(), shape=(-1, 2)) == [(2, -1)]


@pytest.mark.parametrize("length", range(1, 9))
@pytest.mark.parametrize("centre", ["none", "reflect", "zeros"])
def test_the_shortest_signal_gives_a_frame(length: int, centre: str) -> None:
    frame = Frame(length=length, hop=3, centre=centre)  # type: ignore[arg-type]
    assert frame.samples_min >= 1
    assert frame.count(frame.samples_min) >= 1
    if centre == "none":
        assert (frame.samples_min, frame.count(length)) == (length, 1)


REFUSED: dict[str, tuple[InputRecipe, str]] = {
    "before the cast": (signal(Scale(factor=2.0)), "put a cast first"),
    "of three axes": (signal(Cast(), FRAME, shape=(8, 8, 3)), "needs a signal"),
    "of no axis": (signal(Cast(), FRAME, shape=()), "needs a signal"),
    "of any number of channels": (signal(Cast(), FRAME, shape=(800, -1)), "fixed number"),
    "of no channel": (signal(Cast(), FRAME, shape=(800, 0)), "fixed number"),
    "too short": (signal(Cast(), FRAME, shape=(200,)), "needs 201 samples or more"),
    "frames twice": (signal(Cast(), FRAME, FRAME), "in frames already"),
    "a spectrum without frames": (signal(Cast(), Spectrum()), "put a frame step first"),
    "a spectrum of less than a frame": (
        signal(Cast(), FRAME, Spectrum(size=399)),
        "needs a size of 400",
    ),
    "mels without a spectrum": (signal(Cast(), FRAME, MEL), "needs a spectrum"),
    "mels of a log": (signal(Cast(), FRAME, Spectrum(), Log(), MEL), "before any log"),
    "mels beyond half the rate": (
        signal(Cast(), FRAME, Spectrum(), Mel(rate=16000, mels=80, high=8001)),
        "which are 0, 8001 and 8000 Hz",
    ),
    "mels upside down": (
        signal(Cast(), FRAME, Spectrum(), Mel(rate=16000, mels=80, low=8000)),
        "needs low < high",
    ),
    "mels of next to nothing": (
        signal(*(Cast(), FRAME, Spectrum()), Mel(rate=16000, mels=9, low=1000, high=1000.001)),
        "needs low further below high",
    ),
    "no samples": (signal(Cast(), Scale(factor=2.0), shape=(0,)), "holds no values"),
    "a log of samples": (signal(Cast(), Log()), "needs a spectrum"),
    "a log of a log": (signal(Cast(), FRAME, Spectrum(), Log(), Log()), "not yet a log"),
    "a range of frames": (signal(Cast(), FRAME, Range(below=1.0)), "needs a spectrum"),
    "one axis transposed": (signal(Cast(), Transpose()), "needs two axes"),
    "transposed twice": (signal(Cast(), FRAME, Transpose(), Transpose()), "needs two axes"),
    "a scale of what is transposed": (
        signal(Cast(), FRAME, Transpose(), Scale(factor=2.0)),
        "the transpose is the last step",
    ),
    "a spectrum of what is transposed": (
        signal(Cast(), FRAME, Transpose(), Spectrum()),
        "put a frame step first",
    ),
    "a signal of an image": (
        signal(Cast(), Layout(), Scale(factor=2.0), shape=(8, 8, 1)),
        "needs a signal",
    ),
    "an image of a signal": (
        signal(
            *(Cast(), FRAME, Spectrum()),
            Normalise(mean=(0.0,), std=(1.0,)),
            shape=(16000, 1),
        ),
        "needs an image",
    ),
    "columns of a signal": (signal(Cast(), FRAME, Select(columns=("a",))), "needs named columns"),
}


@pytest.mark.parametrize(("recipe", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_steps_that_do_not_fit_are_refused(recipe: InputRecipe, why: str) -> None:
    with pytest.raises(RecipeError, match=why) as caught:
        trace(recipe)
    assert caught.value.remedy


def test_a_signal_of_columns_is_refused() -> None:
    raw = TensorSpec(name="row", datatype=DataType.FP32, shape=(2,))
    item = InputRecipe(feeds="x", raw=raw, columns=("a", "b"), steps=(Scale(factor=2.0),))
    with pytest.raises(RecipeError, match="needs a signal"):
        trace(item)


def test_an_open_length_needs_an_engine_that_takes_it() -> None:
    recipe = Recipe(inputs=(signal(Cast(), FRAME, Spectrum(), shape=(-1,)),))

    def engine(frames: int) -> Interface:
        taken = TensorSpec(name="x", datatype=DataType.FP32, shape=(frames, 201))
        return Interface(inputs=(taken,), outputs=(), batch_max=8)

    assert served_interface(recipe, engine(-1)).inputs == (recipe.inputs[0].raw,)
    with pytest.raises(RecipeError, match=r"makes FP32 \[-1, 201\]"):
        served_interface(recipe, engine(100))
