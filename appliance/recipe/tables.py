"""Steps of tables: one row of named columns.

Knows: the table steps and their parameters. Rules: see `step`; arithmetic takes FP32 columns (put a
cast first), each operation is rounded to nearest even and its constants to FP32 before; columns of texts
take no arithmetic until they are encoded. Leaves to others: computing them (`runtime.kernels`).
"""

from typing import Annotated, Literal, TypeAlias

import msgspec

from appliance.recipe.step import Finite, Step

Text = Annotated[str, msgspec.Meta(max_length=256)]
Categories = Annotated[tuple[Finite | Text, ...], msgspec.Meta(max_length=65536)]
OTHER = "other"  # what one-hot calls the column of unknown values


class Select(Step, frozen=True, kw_only=True, tag="select"):
    """Keep `columns`, by name and in this order; of any datatype."""

    columns: tuple[str, ...]


class Impute(Step, frozen=True, kw_only=True, tag="impute"):
    """Replace what is missing by the value given for its column: NaN in FP32, in texts the empty text.

    For example values = { body_weight = 70.0, ward = "surgery" }: write down the mean, median or most
    frequent value that training imputed. Columns that are not named stay as they are.
    """

    values: dict[str, Finite | Text]


class Standardise(Step, frozen=True, kw_only=True, tag="standardise"):
    """Per named column y = (x - mean) / std in FP32, difference and quotient rounded each.

    The three lists run in parallel: mean[0] and std[0] are those of columns[0]. Other columns stay. scikit-learn's
    StandardScaler: mean_ and scale_. NaN stays NaN.
    """

    columns: tuple[str, ...]
    mean: tuple[Finite, ...]
    std: tuple[Finite, ...]


class MinMax(Step, frozen=True, kw_only=True, tag="min_max"):
    """Per named column y = (x - low) / (high - low) in FP32, difference and quotient rounded each.

    The three lists run in parallel; other columns stay. `high - low` is computed in FP64 and rounded to
    FP32. With `clip`, y = min(max(y, 0), 1). NaN stays NaN. scikit-learn's MinMaxScaler: data_min_ and
    data_max_.
    """

    columns: tuple[str, ...]
    low: tuple[Finite, ...]
    high: tuple[Finite, ...]
    clip: bool = False


class Clip(Step, frozen=True, kw_only=True, tag="clip"):
    """Per named column y = min(max(x, low), high), exact; NaN stays NaN.

    `low` and `high` run in parallel to `columns`; one of them may be left out for no such bound.
    """

    columns: tuple[str, ...]
    low: tuple[Finite, ...] = ()
    high: tuple[Finite, ...] = ()


class Log1p(Step, frozen=True, kw_only=True, tag="log1p"):
    """Per named column y = ln(1 + x), computed in FP64 and rounded to FP32 once.

    -1 gives minus infinity, anything below it NaN; other columns stay.
    """

    columns: tuple[str, ...]


class OneHot(Step, frozen=True, kw_only=True, tag="one_hot"):
    """Replace `column` by one column a category, FP32: 1 where x is that category, else 0.

    The new columns stand in its place, in the order of `categories`, and are called `column=category`, a
    number in up to 9 digits: categories ["n", "s"] of `site` make `site=n` and `site=s`. All are texts or
    all numbers, as the column is. Numbers are compared as FP32, texts byte for byte as UTF-8; NaN is no
    category.

    A value that is none of them is `unknown`: "zeros" makes every column 0, "other" adds a last column
    `column=other` that is 1 for it, "error" refuses the request by column and value.
    """

    column: str
    categories: Categories
    unknown: Literal["zeros", "error", "other"] = "zeros"

    @property
    def names(self) -> tuple[str, ...]:
        """The new columns: one a category, then the one of unknown values if there is one."""
        shown = [
            category if isinstance(category, str) else f"{category:.9g}"
            for category in self.categories
        ]
        others = [OTHER] if self.unknown == "other" else []
        return tuple(f"{self.column}={name}" for name in (*shown, *others))


class Ordinal(Step, frozen=True, kw_only=True, tag="ordinal"):
    """Replace `column` by the index of its value among `categories`, counted from 0, FP32.

    All categories are texts or all numbers, as the column is. Numbers are compared as FP32, texts byte for
    byte as UTF-8; NaN is no category. A value that is none of them refuses the request by column and value
    where `unknown` is "error", or becomes the number that `unknown` is.
    """

    column: str
    categories: Categories
    unknown: Literal["error"] | Finite = "error"


TableStep: TypeAlias = Select | Impute | Standardise | MinMax | Clip | Log1p | OneHot | Ordinal
