"""Steps of tables: one row of named columns.

Knows: the table steps and their parameters. Rules: see `step`; all arithmetic is FP32, each operation
rounded to nearest even, its constants rounded to FP32 first; columns of texts take no arithmetic until
they are encoded. Leaves to others: computing them (`runtime.kernels`).
"""

from typing import Annotated, Literal, TypeAlias

import msgspec

from appliance.recipe.step import Finite, Step

Text = Annotated[str, msgspec.Meta(max_length=256)]
Categories = Annotated[tuple[Finite | Text, ...], msgspec.Meta(max_length=65536)]
OTHER = "other"  # what one-hot calls the column of unknown values


class Select(Step, frozen=True, kw_only=True, tag="select"):
    """Keep `columns`, by name and in this order."""

    columns: tuple[str, ...]


class Impute(Step, frozen=True, kw_only=True, tag="impute"):
    """Replace what is missing by the value given for its column: NaN, or in texts the empty text.

    Mean, median or most frequent value of the training rows are values like any other.
    """

    values: dict[str, Finite | Text]


class Standardise(Step, frozen=True, kw_only=True, tag="standardise"):
    """Per named column y = (x - mean) / std in FP32; the three lists run in parallel."""

    columns: tuple[str, ...]
    mean: tuple[Finite, ...]
    std: tuple[Finite, ...]


class MinMax(Step, frozen=True, kw_only=True, tag="min_max"):
    """Per named column y = (x - low) / (high - low) in FP32; the three lists run in parallel.

    `high - low` is computed in FP64 and rounded. With `clip`, y = min(max(y, 0), 1); NaN stays NaN.
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

    -1 gives minus infinity and anything below it NaN.
    """

    columns: tuple[str, ...]


class OneHot(Step, frozen=True, kw_only=True, tag="one_hot"):
    """Replace `column` by one 0/1 column a category, in place.

    An unknown value gives `zeros`, is refused by an `error` that names column and value, or is the 1 of
    one more column, `other`, behind the categories. Numbers are compared as FP32, texts byte for byte
    as UTF-8; NaN is no category. The new columns are called `column=category`, a number in up to 9
    digits.
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
    """Per row y = the index of x among `categories`, counted from 0, FP32.

    An unknown value is refused by an `error` that names column and value, or gives the number
    `unknown`. Values are compared as by one-hot.
    """

    column: str
    categories: Categories
    unknown: Literal["error"] | Finite = "error"


TableStep: TypeAlias = Select | Impute | Standardise | MinMax | Clip | Log1p | OneHot | Ordinal
