"""How an explanation reads: lines for a person, plain values for `--json`.

Knows: both forms. Rules: the two say the same; tables are told column by column, side by side. Leaves to
others: printing (`compiler.cli`) and drawing (`pictures`).
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from appliance.tensors import Array
from compiler.explain import ExplainedInput, Explanation, Stage

FIRST_VALUES = 8
COLUMNS_SHOWN = 64
TEXT_SHOWN = 40  # characters of a text or of a step's parameters


def explained_lines(explanation: Explanation) -> Iterator[tuple[str, str]]:
    """Name and value of each stage; of tables, their columns from stage to stage."""
    yield "row", str(explanation.row)
    for item in explanation.inputs:
        yield "input", item.feeds
        for at, stage in enumerate(item.stages):
            yield stage_name(at, stage), _stage_text(stage)
        if any(stage.prepared.columns for stage in item.stages):
            yield "columns", _columns_text(item)


def explained_values(explanation: Explanation) -> dict[str, Any]:
    """The same for scripts; NaN and infinities are texts."""
    return {
        "row": explanation.row,
        "inputs": [
            {"feeds": item.feeds, "stages": [_stage_values(stage) for stage in item.stages]}
            for item in explanation.inputs
        ],
    }


def stage_name(at: int, stage: Stage) -> str:
    """A stage's place and step."""
    return stage.step if at == 0 else f"{at} {stage.step}"


def shape_text(stage: Stage) -> str:
    """Datatype and shape; of an image also which axis is which."""
    shape = f"{stage.datatype} {list(stage.array.shape)}"
    if stage.array.ndim < 2 or stage.prepared.columns:
        return shape
    return f"{shape} {stage.prepared.order}"


def range_text(stage: Stage) -> str:
    """The least and the largest value, and the share of NaN where there are any."""
    numbers = stage.numbers
    if numbers is None:
        return "no numbers"
    told = f"{numbers.min():.4g} .. {numbers.max():.4g}, mean {mean_of(numbers):.4g}"
    return f"{told}, NaN {stage.nan_share:.2%}" if stage.nan_share else told


def parameters_text(stage: Stage) -> str:
    """The step's parameters; empty for what was sent."""
    return ", ".join(f"{name} {_parameter(value)}" for name, value in stage.parameters.items())


def _parameter(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_parameter, value)) + "]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def mean_of(numbers: Array) -> float:
    """The mean; NaN of infinities of both signs."""
    with np.errstate(invalid="ignore", over="ignore"):
        return float(numbers.mean())


def _stage_text(stage: Stage) -> str:
    lines = [_cut(parameters_text(stage), 2 * TEXT_SHOWN)] if stage.parameters else []
    lines.append(f"{shape_text(stage)}   {range_text(stage)}")
    if not stage.prepared.columns:
        lines.append("first " + ", ".join(_told(value) for value in _first(stage)))
    return "\n".join(lines)


def _columns_text(item: ExplainedInput) -> str:
    """A line a column, a field a stage; a column that a stage has not is left blank."""
    values = [
        dict(zip(stage.prepared.columns, stage.array.ravel(), strict=False))
        for stage in item.stages
    ]
    names = list(dict.fromkeys(name for stage in values for name in stage))
    heads = ["", *(stage_name(at, stage) for at, stage in enumerate(item.stages))]
    rows = [heads] + [
        [_cut(name), *(_told(stage[name]) if name in stage else "" for stage in values)]
        for name in names[:COLUMNS_SHOWN]
    ]
    widths = [max(len(row[at]) for row in rows) for at in range(len(heads))]
    lines = [
        "  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True))
        for row in rows
    ]
    left = len(names) - COLUMNS_SHOWN
    return "\n".join([line.rstrip() for line in lines] + ([f"and {left} more"] if left > 0 else []))


def _stage_values(stage: Stage) -> dict[str, Any]:
    numbers = stage.numbers
    figures = (
        {"minimum": None, "maximum": None, "mean": None}
        if numbers is None
        else {
            "minimum": _plain(numbers.min()),
            "maximum": _plain(numbers.max()),
            "mean": _plain(mean_of(numbers)),
        }
    )
    return {
        "step": stage.step,
        "parameters": stage.parameters,
        "datatype": str(stage.datatype),
        "shape": list(stage.array.shape),
        "columns": list(stage.prepared.columns),
        **figures,
        "nan_share": stage.nan_share,
        "first": [_plain(value) for value in _first(stage)],
    }


def _first(stage: Stage) -> list[Any]:
    count = COLUMNS_SHOWN if stage.prepared.columns else FIRST_VALUES
    return list(stage.array.ravel()[:count])


def _told(value: Any) -> str:
    plain = _plain(value)
    return f"{plain:.6g}" if isinstance(plain, float) else str(plain)


def _plain(value: Any) -> str | int | float | bool:
    """A value as JSON has it; what it has not, as text."""
    if isinstance(value, bytes):
        return _text(value)
    number: float | int | bool = np.asarray(value).item()
    if isinstance(number, float) and not math.isfinite(number):
        return str(number)
    return number


def _text(value: bytes) -> str:
    """A text, or how long it is where it is none, as a picture's file."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return f"{len(value)} bytes"
    return _cut(text)


def _cut(text: str, length: int = TEXT_SHOWN) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."
