"""Numbers in the specs of the examples: constants of the recipe and evidence of the training.

Knows: which values of a spec are measured, and how. Rules: a spec stays as its author wrote it, comments
included, except what stands after those keys; a key must stand at the start of exactly one line. Leaves
to others: the words of the spec, which people write.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
from example_data import Parts

from appliance.files import sha256_parts, write_file
from appliance.recipe import InputRecipe, Standardise
from appliance.tensors import Array

CODE = ("example_data", "networks", "spec_numbers", "train")
FRAMEWORKS = ("torch", "scikit-learn", "numpy", "onnx")
MARGIN = 0.005
NUMBERS_A_LINE = 5


def image_constants(_: InputRecipe, images: Array) -> dict[str, str]:
    """Mean and standard deviation of all pixels (UINT8), on the scale 0..1."""
    scaled = images / 255
    return {"mean": _numbers([scaled.mean()]), "std": _numbers([scaled.std()])}


def table_constants(item: InputRecipe, table: Array) -> dict[str, str]:
    """Median of each column the recipe keeps, then mean and standard deviation with it filled in."""
    step = next(step for step in item.steps if isinstance(step, Standardise))
    kept = table[:, [item.columns.index(column) for column in step.columns]]
    medians = np.nanmedian(kept, axis=0)
    filled = np.where(np.isnan(kept), medians, kept)
    values = {column: _number(median) for column, median in zip(step.columns, medians, strict=True)}
    return values | {"mean": _numbers(filled.mean(axis=0)), "std": _numbers(filled.std(axis=0))}


def evidence(parts: Parts, accuracy: float) -> dict[str, str]:
    """The acceptance threshold, what was trained on, by which code, with which frameworks.

    The threshold is the accuracy less half a point, cut to a whole point: an engine that rounds
    otherwise may flip a close row, a broken one misses it at once.
    """
    minimum = math.floor((accuracy - MARGIN) * 100) / 100
    rows = len(parts.held_out.label)
    versions = {name: metadata.version(name) for name in FRAMEWORKS}
    table = ", ".join(f"{name} = {json.dumps(number)}" for name, number in versions.items())
    code = sha256_parts(Path(__file__).with_name(f"{name}.py").read_bytes() for name in CODE)
    return {
        "minimum": f"{minimum:.2f}  # train.py measured {accuracy:.4f} on {rows} held-out rows",
        "data_sha256": json.dumps(parts.training.sha256()),
        "training_code": f'"examples/{{{",".join(CODE)}}}.py, joined sha256 {code}"',
        "frameworks": f"{{ {table} }}",
    }


def fill(spec: Path, values: Mapping[str, str]) -> None:
    """Replace what stands after each key of `values` by that TOML text. Raises ValueError."""
    text = spec.read_text("utf-8")
    for key, value in values.items():
        line = re.compile(rf"^{re.escape(key)} = (\[[^\]]*\]|[^\n]*)", re.MULTILINE)
        if len(line.findall(text)) != 1:
            raise ValueError(f"{spec} must have '{key} =' at the start of exactly one line")
        text = line.sub(lambda _, key=key, value=value: f"{key} = {value}", text)
    write_file(spec, text.encode())


def _number(value: float) -> str:
    return f"{value:.6g}"


def _numbers(values: Sequence[float] | Array) -> str:
    texts = [_number(value) for value in values]
    if len(texts) <= NUMBERS_A_LINE:
        return f"[{', '.join(texts)}]"
    lines = (texts[at : at + NUMBERS_A_LINE] for at in range(0, len(texts), NUMBERS_A_LINE))
    return "[\n" + "".join(f"  {', '.join(line)},\n" for line in lines) + "]"
