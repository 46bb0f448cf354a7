"""Steps of tables: one row of named columns.

Knows: the table steps and their parameters. Rules: see `step`. Leaves to others: computing them
(`runtime.kernels`).
"""

from typing import TypeAlias

from appliance.recipe.step import Finite, Step


class Select(Step, frozen=True, kw_only=True, tag="select"):
    """Keep `columns`, by name and in this order."""

    columns: tuple[str, ...]


class Impute(Step, frozen=True, kw_only=True, tag="impute"):
    """Replace NaN by the value given for its column."""

    values: dict[str, Finite]


class Standardise(Step, frozen=True, kw_only=True, tag="standardise"):
    """Per named column y = (x - mean) / std in FP32; the three lists run in parallel."""

    columns: tuple[str, ...]
    mean: tuple[Finite, ...]
    std: tuple[Finite, ...]


class OneHot(Step, frozen=True, kw_only=True, tag="one_hot"):
    """Replace `column` by one 0/1 column a category, in place; an unknown value gives all zeros.

    Values and categories are compared as FP32; NaN is no category. The new columns are called
    `column=category`, the category in up to 9 digits.
    """

    column: str
    categories: tuple[Finite, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The new columns, one a category."""
        return tuple(f"{self.column}={category:.9g}" for category in self.categories)


TableStep: TypeAlias = Select | Impute | Standardise | OneHot
