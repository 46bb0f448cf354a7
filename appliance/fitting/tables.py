"""What table steps do to a tensor spec. Pure."""

import numpy as np

from appliance.errors import RecipeError
from appliance.fitting.prepared import Prepared, misfit, replaced, vanishes
from appliance.recipe import (
    FP32_MAX,
    Accepts,
    Clip,
    Impute,
    InputRecipe,
    Log1p,
    MinMax,
    OneHot,
    Ordinal,
    Select,
    Standardise,
    Step,
    TableStep,
)
from appliance.tables import nearest
from appliance.tensors import DataType


def table_step(step: TableStep, before: Prepared) -> Prepared:
    """The tensor after `step`. Raises RecipeError when the step does not fit it."""
    if not before.columns:
        raise misfit(step, before, "needs named columns")
    match step:
        case Select():
            _check_columns(step, before, step.columns)
            texts = tuple(name for name in before.texts if name in step.columns)
            return replaced(before, shape=(len(step.columns),), columns=step.columns, texts=texts)
        case Impute():
            _check_values(step, before)
            return before
        case OneHot() | Ordinal():
            return _encoded(step, before)
        case Standardise() | MinMax() | Clip() | Log1p():  # pragma: no branch
            _check_columns(step, before, step.columns)
            _check_numbers(step, before, step.columns)
            _check_parameters(step, before)
            return before


def check_raw_columns(item: InputRecipe) -> None:
    """Check what `item` says of its raw columns. Raises RecipeError."""
    why = _wrong_columns(item)
    if why is not None:
        raise RecipeError(f"input '{item.raw.name}' {why[0]}", remedy=why[1])


def _wrong_columns(item: InputRecipe) -> tuple[str, str] | None:
    """What is wrong, as a sentence without its subject, and what to do."""
    names, one_by_one = item.columns, item.accepts is Accepts.COLUMNS
    if not names:
        if item.texts or one_by_one:
            return "names no columns", "name them in `columns`"
        return None
    if item.raw.shape != (len(names),):
        return (
            f"has shape {list(item.raw.shape)} but names {len(names)} columns",
            "a table's raw shape is [number of columns]",
        )
    if len(set(names)) != len(names):
        return f"names a column twice: {', '.join(names)}", "rename one"
    unknown = next((name for name in item.texts if name not in names), None)
    if unknown is not None:
        near = nearest(unknown, names)
        return (
            f"has no column '{unknown}', which `texts` names",
            f"did you mean '{near}'?" if near else f"name some of {', '.join(names)}",
        )
    if item.texts and item.accepts is Accepts.RAW and item.raw.datatype is not DataType.BYTES:
        return (
            "holds texts and numbers, which no single tensor can",
            'set accepts = "columns", so that each column is an input of its own',
        )
    if one_by_one and not all(1 <= len(name) <= 256 for name in names):
        return "has a column whose name no input can have", "use 1 to 256 characters"
    return None


def _check_columns(step: Step, before: Prepared, names: tuple[str, ...]) -> None:
    if not names or len(set(names)) != len(names):
        raise misfit(step, before, "needs columns, each once")
    for name in names:
        if name not in before.columns:
            near = nearest(name, before.columns)
            hint = f"; did you mean '{near}'?" if near else ""
            raise misfit(step, before, f"there is no column '{name}' here{hint}")


def _check_numbers(step: Step, before: Prepared, names: tuple[str, ...]) -> None:
    """Refuse columns that no arithmetic can be done on."""
    texts = [name for name in names if name in before.texts]
    if texts:
        raise misfit(step, before, f"{texts} hold texts: encode them first, by one_hot or ordinal")
    if before.spec.datatype is not DataType.FP32:
        raise misfit(step, before, "needs FP32: put a cast first")


def _check_parameters(step: Standardise | MinMax | Clip | Log1p, before: Prepared) -> None:
    """The lists beside the columns of a step."""
    match step:
        case Standardise():
            if not len(step.columns) == len(step.mean) == len(step.std) or vanishes(step.std):
                raise misfit(step, before, "needs one mean and one std, not 0 in FP32, a column")
        case MinMax():
            if not len(step.columns) == len(step.low) == len(step.high):
                raise misfit(step, before, "needs one low and one high a column")
            spans = tuple(high - low for low, high in zip(step.low, step.high, strict=True))
            if min(spans) <= 0 or max(spans) > FP32_MAX or vanishes(spans):
                raise misfit(step, before, "needs every high above its low, also in FP32")
        case Clip():
            counts = {len(bounds) for bounds in (step.low, step.high) if bounds}
            if counts != {len(step.columns)}:
                raise misfit(step, before, "needs one low, one high or both a column")
            if any(low > high for low, high in zip(step.low, step.high, strict=False)):
                raise misfit(step, before, "needs no low above its high")


def _check_values(step: Impute, before: Prepared) -> None:
    names = tuple(step.values)
    _check_columns(step, before, names)
    numbers = tuple(name for name in names if name not in before.texts)
    if numbers:
        _check_numbers(step, before, numbers)
    for name, value in step.values.items():
        if isinstance(value, str) is not (name in before.texts):
            what = "text" if name in before.texts else "number"
            raise misfit(step, before, f"the value for '{name}' must be a {what}")


def _encoded(step: OneHot | Ordinal, before: Prepared) -> Prepared:
    """The table after a column of categories became numbers."""
    _check_columns(step, before, (step.column,))
    is_text = step.column in before.texts
    only_texts = is_text and before.spec.datatype is DataType.BYTES
    if not only_texts:  # there are numbers beside it, or it is one itself
        _check_numbers(step, before, () if is_text else (step.column,))
    _check_categories(step, before, is_text=is_text)
    names = step.names if isinstance(step, OneHot) else (step.column,)
    at = before.columns.index(step.column)
    columns = before.columns[:at] + names + before.columns[at + 1 :]
    if len(set(columns)) != len(columns):
        raise misfit(step, before, f"the columns {', '.join(names)} would share a name with others")
    return replaced(
        before,
        datatype=DataType.FP32,
        shape=(len(columns),),
        columns=columns,
        texts=tuple(name for name in before.texts if name != step.column),
    )


def _check_categories(step: OneHot | Ordinal, before: Prepared, *, is_text: bool) -> None:
    what = "texts" if is_text else "numbers"
    if any(isinstance(category, str) is not is_text for category in step.categories):
        raise misfit(
            step, before, f"'{step.column}' holds {what}, so its categories must be {what}"
        )
    distinct = {
        category if isinstance(category, str) else float(np.float32(category))
        for category in step.categories
    }
    if not distinct or len(distinct) != len(step.categories):
        raise misfit(step, before, "needs categories, each once (numbers that differ in FP32)")
