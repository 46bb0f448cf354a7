"""What stands for one engine input: the tensors clients send, the arrays of an engineer's rows. Pure.

Knows: the three ways a recipe is fed. Rules: the one place that says so; what is served, sampled, sealed
and proven follows from it. Leaves to others: what becomes of them (`runtime.kernels`).
"""

import msgspec

from appliance.recipe import Accepts, InputRecipe, Recipe
from appliance.tensors import DataType, TensorSpec


def sent_specs(item: InputRecipe | None, spec: TensorSpec) -> tuple[TensorSpec, ...]:
    """What clients send for the engine input `spec`, whose recipe is `item` (None: it has none)."""
    if item is None or item.accepts is Accepts.PREPARED:
        return (spec,)
    return raw_specs(item, spec)


def raw_specs(item: InputRecipe | None, spec: TensorSpec) -> tuple[TensorSpec, ...]:
    """What an engineer's raw row is made of for the engine input `spec`, whatever clients send.

    Columns have shape [1], one spec a column under its name, when they are sent one by one or when texts
    and numbers stand side by side.
    """
    if item is None:
        return (spec,)
    if not _by_column(item):
        return (item.raw,)
    texts = text_columns(item)
    return tuple(
        TensorSpec(
            name=name,
            datatype=DataType.BYTES if name in texts else item.raw.datatype,
            shape=(1,),
        )
        for name in item.columns
    )


def text_columns(item: InputRecipe) -> tuple[str, ...]:
    """The raw columns that hold texts."""
    return item.columns if item.raw.datatype is DataType.BYTES else item.texts


def from_raw(recipe: Recipe) -> Recipe:
    """`recipe` as it takes an engineer's raw rows, also where clients send prepared tensors."""
    inputs = tuple(
        msgspec.structs.replace(item, accepts=Accepts.COLUMNS if _by_column(item) else Accepts.RAW)
        for item in recipe.inputs
    )
    return msgspec.structs.replace(recipe, inputs=inputs)


def _by_column(item: InputRecipe) -> bool:
    mixed = bool(item.texts) and item.raw.datatype is not DataType.BYTES
    return item.accepts is Accepts.COLUMNS or mixed
