"""Recipes: preprocessing and postprocessing as data.

Knows: the steps there are and their parameters. Rules: a step is plain data with its formula in its
docstring. Leaves to others: whether a recipe fits a model (`appliance.fitting`), running the steps
(`runtime.kernels`).

Before the engine, per input: images are height x width x channels (HWC), tables are one row of named
columns. After the engine: steps add outputs made from the engine's outputs.
"""

from appliance.recipe.images import ImageStep, Layout, Normalise, Resize
from appliance.recipe.outputs import AfterStep, ArgMax, Softmax, TopK
from appliance.recipe.recipe import Accepts, BeforeStep, InputRecipe, Recipe
from appliance.recipe.step import FP32_MAX, Cast, Finite, Step
from appliance.recipe.tables import Impute, OneHot, Select, Standardise, TableStep

__all__ = [
    "FP32_MAX",
    "Accepts",
    "AfterStep",
    "ArgMax",
    "BeforeStep",
    "Cast",
    "Finite",
    "ImageStep",
    "Impute",
    "InputRecipe",
    "Layout",
    "Normalise",
    "OneHot",
    "Recipe",
    "Resize",
    "Select",
    "Softmax",
    "Standardise",
    "Step",
    "TableStep",
    "TopK",
]
