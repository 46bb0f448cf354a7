"""What table steps do to a tensor spec. Pure."""

import numpy as np

from appliance.fitting.prepared import Prepared, misfit, replaced, vanishes
from appliance.recipe import Impute, OneHot, Select, Standardise, Step, TableStep
from appliance.tensors import DataType


def table_step(step: TableStep, before: Prepared) -> Prepared:
    """The tensor after `step`. Raises RecipeError when the step does not fit it."""
    if not before.columns:
        raise misfit(step, before, "needs named columns")
    if not isinstance(step, Select) and before.spec.datatype is not DataType.FP32:
        raise misfit(step, before, "needs FP32: put a cast first")
    match step:
        case Select():
            _check_columns(step, before, step.columns)
            return replaced(before, shape=(len(step.columns),), columns=step.columns)
        case Impute():
            _check_columns(step, before, tuple(step.values))
            return before
        case Standardise():
            _check_columns(step, before, step.columns)
            if not len(step.columns) == len(step.mean) == len(step.std) or vanishes(step.std):
                raise misfit(step, before, "needs one mean and one std, not 0 in FP32, a column")
            return before
        case OneHot():  # pragma: no branch
            columns = _hot_columns(step, before)
            return replaced(before, shape=(len(columns),), columns=columns)


def _check_columns(step: Step, before: Prepared, names: tuple[str, ...]) -> None:
    missing = [name for name in names if name not in before.columns]
    if missing or not names or len(set(names)) != len(names):
        raise misfit(step, before, f"needs columns that exist, each once; missing {missing}")


def _hot_columns(step: OneHot, before: Prepared) -> tuple[str, ...]:
    """The columns after a one-hot step. Raises RecipeError when they cannot be told apart."""
    _check_columns(step, before, (step.column,))
    at = before.columns.index(step.column)
    columns = before.columns[:at] + step.names + before.columns[at + 1 :]
    distinct = {float(np.float32(category)) for category in step.categories}
    if not distinct or len(distinct) != len(step.names) or len(set(columns)) != len(columns):
        raise misfit(step, before, "needs categories that differ in FP32 and name new columns")
    return columns
