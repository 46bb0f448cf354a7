"""From table steps to programs: what is done to which raw column for each column that is made.

Knows: what each table step adds to the programs, and which texts become which code. Rules: steps are
followed in their order, whatever it is. Leaves to others: running the programs (`tables`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from appliance.fitting import text_columns
from appliance.recipe import (
    BeforeStep,
    Clip,
    Impute,
    InputRecipe,
    Log1p,
    MinMax,
    OneHot,
    Ordinal,
    Select,
    Standardise,
)
from runtime.kernels.table_steps import (
    ATLEAST,
    ATMOST,
    DEMAND,
    EQUALS,
    FILL,
    KEEP,
    LOG1P,
    MATCH,
    SEEK,
    STANDARDISE,
)

Operation: TypeAlias = tuple[int, float, float]
Encoding: TypeAlias = OneHot | Ordinal

UNKNOWN = float("nan")  # the code of a text that is no category, the index of such a number


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column being made: its name, the raw column it starts as, what is done to it.

    `text` while it is not encoded; then `missing` is what the empty text stands for.
    """

    name: str
    source: int
    operations: tuple[Operation, ...] = ()
    text: bool = False
    missing: str = ""

    def then(self, kind: int, left: float = 0.0, right: float = 0.0) -> "Column":
        """The column with one more operation."""
        return replace(self, operations=(*self.operations, (kind, left, right)))

    def imputed(self, value: float | str) -> "Column":
        """The column with `value` where one is missing; of texts the first that is not empty counts."""
        if isinstance(value, str):
            return replace(self, missing=self.missing or value)
        return self.then(FILL, value)


@dataclass(slots=True)
class Programs:
    """The columns made so far, those that only demand a known category, and the codes of texts.

    `codes` is by raw column: 0, 1, 2 and so on for the texts that are categories, in their order.
    """

    columns: list[Column]
    demands: list[Column] = field(default_factory=list)
    codes: dict[int, dict[bytes, float]] = field(default_factory=dict)

    def follow(self, step: BeforeStep) -> None:
        """Let `step` follow; what is no table step changes no program."""
        if isinstance(step, OneHot | Ordinal):
            self.columns = [made for column in self.columns for made in self._encoded(step, column)]
            return
        named = {column.name: column for column in self.columns}
        if isinstance(step, Select):
            self.columns = [named[name] for name in step.columns]
            return
        for name, operations in _arithmetic(step):
            for operation in operations:
                named[name] = named[name].then(*operation)
        if isinstance(step, Impute):
            for name, value in step.values.items():
                named[name] = named[name].imputed(value)
        self.columns = list(named.values())

    def _encoded(self, step: Encoding, column: Column) -> list[Column]:
        """What an encoding makes of one column; others it leaves alone."""
        if column.name != step.column:
            return [column]
        values = [value for value in step.categories if not isinstance(value, str)]
        if column.text:
            texts = tuple(str(category) for category in step.categories)
            self.codes[column.source] = _codes(texts, column.missing)
            column, values = replace(column, text=False), [float(at) for at in range(len(texts))]
            index = column
        else:
            index = _sought(column, values, UNKNOWN, range(len(values)))
        if step.unknown == "error":
            self.demands.append(index.then(DEMAND))
        if isinstance(step, OneHot):
            return _hot(step, column, values)
        return [index if step.unknown == "error" else index.then(FILL, step.unknown)]


def programs_of(item: InputRecipe) -> Programs:
    """The programs of a table recipe."""
    texts = text_columns(item)
    programs = Programs(
        [Column(name=name, source=at, text=name in texts) for at, name in enumerate(item.columns)]
    )
    for step in item.steps:
        programs.follow(step)
    return programs


def _arithmetic(step: BeforeStep) -> Iterable[tuple[str, list[Operation]]]:
    """What a step does to numbers, column by column."""
    match step:
        case Standardise():
            for name, mean, std in zip(step.columns, step.mean, step.std, strict=True):
                yield name, [(STANDARDISE, mean, std)]
        case MinMax():
            bounds = [(ATLEAST, 0.0, 0.0), (ATMOST, 1.0, 0.0)] if step.clip else []
            for name, low, high in zip(step.columns, step.low, step.high, strict=True):
                yield name, [(STANDARDISE, low, high - low), *bounds]
        case Clip():
            for kind, limits in ((ATLEAST, step.low), (ATMOST, step.high)):
                for name, limit in zip(step.columns, limits, strict=False):
                    yield name, [(kind, limit, 0.0)]
        case Log1p():
            for name in step.columns:
                yield name, [(LOG1P, 0.0, 0.0)]


def _hot(step: OneHot, column: Column, values: list[float]) -> list[Column]:
    made = [column.then(EQUALS, value) for value in values]
    if step.unknown == "other":
        made.append(_sought(column, values, 1.0, [0.0] * len(values)))
    return [replace(hot, name=name) for hot, name in zip(made, step.names, strict=True)]


def _sought(column: Column, values: list[float], unknown: float, finds: Iterable[float]) -> Column:
    """What is found in `column` for each of `values`, in their order; `unknown` for any other."""
    matches = ((MATCH, value, found) for value, found in zip(values, finds, strict=True))
    search = (SEEK, unknown, 0.0), *matches, (KEEP, 0.0, 0.0)
    return replace(column, operations=(*column.operations, *search))


def _codes(categories: tuple[str, ...], missing: str) -> dict[bytes, float]:
    """The codes of texts; the empty text has that of `missing`, if it is no category itself."""
    known = {text.encode(): float(code) for code, text in enumerate(categories)}
    known.setdefault(b"", known.get(missing.encode(), UNKNOWN))
    return known
