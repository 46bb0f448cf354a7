"""Recipes: preprocessing and postprocessing as data.

Knows: the steps there are and their parameters. Rules: a step is plain data with its formula in its
docstring. Leaves to others: whether a recipe fits a model (`appliance.fitting`), running the steps
(`runtime.kernels`).

Before the engine, per input: images are height x width x channels (HWC), tables are one row of named
columns, signals are samples in time. After the engine: steps add outputs made from the engine's outputs.
"""

from appliance.recipe.boxes import (
    AnchorBoxes,
    AnchorGrid,
    BoxForm,
    BoxStep,
    RescaleBoxes,
    SuppressBoxes,
    YoloBoxes,
)
from appliance.recipe.images import (
    Colour,
    Crop,
    Decode,
    ImageStep,
    Layout,
    Normalise,
    Pad,
    Quantise,
    Resize,
)
from appliance.recipe.outputs import (
    ArgMax,
    Drop,
    Labels,
    ScoreStep,
    Sigmoid,
    Softmax,
    Threshold,
    TopK,
)
from appliance.recipe.recipe import Accepts, AfterStep, BeforeStep, InputRecipe, Recipe
from appliance.recipe.signals import (
    Frame,
    Log,
    Mel,
    Range,
    Scale,
    SignalStep,
    Spectrum,
    Transpose,
)
from appliance.recipe.step import FP32_MAX, Cast, Finite, Step
from appliance.recipe.tables import (
    Clip,
    Impute,
    Log1p,
    MinMax,
    OneHot,
    Ordinal,
    Select,
    Standardise,
    TableStep,
)

__all__ = [
    "FP32_MAX",
    "Accepts",
    "AfterStep",
    "AnchorBoxes",
    "AnchorGrid",
    "ArgMax",
    "BeforeStep",
    "BoxForm",
    "BoxStep",
    "Cast",
    "Clip",
    "Colour",
    "Crop",
    "Decode",
    "Drop",
    "Finite",
    "Frame",
    "ImageStep",
    "Impute",
    "InputRecipe",
    "Labels",
    "Layout",
    "Log",
    "Log1p",
    "Mel",
    "MinMax",
    "Normalise",
    "OneHot",
    "Ordinal",
    "Pad",
    "Quantise",
    "Range",
    "Recipe",
    "RescaleBoxes",
    "Resize",
    "Scale",
    "ScoreStep",
    "Select",
    "Sigmoid",
    "SignalStep",
    "Softmax",
    "Spectrum",
    "Standardise",
    "Step",
    "SuppressBoxes",
    "TableStep",
    "Threshold",
    "TopK",
    "Transpose",
    "YoloBoxes",
]
