"""Makes the models of tests/golden/models with the libraries that engineers train with.

Run by hand in an environment of the extra `train` with skl2onnx, onnxmltools, xgboost and lightgbm added:

    python tests/golden/make_models.py

Each NAME.onnx has a NAME.npz beside it: rows as "input/TENSOR", and the answers that the library itself
gave for them as "output/TENSOR", none of which passed through ONNX.
"""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import onnx
import onnxmltools
import torch
import xgboost
from onnxmltools.convert.common.data_types import FloatTensorType as PlainFloats
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import nn

DIRECTORY = Path(__file__).parent / "models"
ROWS, COLUMNS = 24, 5
RNG = np.random.default_rng(20)
NUMBERS = RNG.normal(size=(300, COLUMNS)).astype(np.float32)
CLASSES = (NUMBERS[:, 0] + 0.5 * NUMBERS[:, 1] ** 2 > 0.4).astype(np.int64) + (NUMBERS[:, 2] > 1.0)

Arrays = dict[str, np.ndarray]


def save(name: str, model: onnx.ModelProto, inputs: Arrays, outputs: Arrays) -> None:
    """Write NAME.onnx and NAME.npz."""
    (DIRECTORY / f"{name}.onnx").write_bytes(model.SerializeToString())
    arrays = {f"input/{key}": array for key, array in inputs.items()}
    arrays |= {f"output/{key}": array for key, array in outputs.items()}
    np.savez_compressed(DIRECTORY / f"{name}.npz", **arrays)


def sklearn_logistic() -> None:
    """A scaler and a logistic regression, converted with the defaults: probabilities in a ZipMap."""
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(NUMBERS, CLASSES)
    rows = NUMBERS[:ROWS]
    save(
        "sklearn_logistic",
        to_onnx(model, initial_types=[("X", FloatTensorType([None, COLUMNS]))]),
        {"X": rows},
        {
            "output_label": model.predict(rows),
            "output_probability": model.predict_proba(rows).astype(np.float32),
        },
    )


def sklearn_categories() -> None:
    """A column of texts, one of them unknown, beside numbers; the answer is a text too."""
    sites = RNG.choice(["nord", "süd", "ost"], size=(300, 1)).astype(object)
    numbers = NUMBERS[:, :2]
    names = np.array(["low", "high"])[((numbers[:, 0] > 0) ^ (sites[:, 0] == "ost")).astype(int)]
    table = np.concatenate([sites, numbers.astype(object)], axis=1)
    encoder = ColumnTransformer(
        [("site", OneHotEncoder(handle_unknown="ignore"), [0]), ("rest", StandardScaler(), [1, 2])]
    )
    model = make_pipeline(encoder, LogisticRegression()).fit(table, names)
    rows = table[:ROWS].copy()
    rows[3, 0] = "unbekannt"
    types = [("site", StringTensorType([None, 1])), ("numbers", FloatTensorType([None, 2]))]
    save(
        "sklearn_categories",
        to_onnx(model, initial_types=types),
        {"site": rows[:, :1].astype(str), "numbers": rows[:, 1:].astype(np.float32)},
        {
            "output_label": model.predict(rows).astype(str),
            "output_probability": model.predict_proba(rows).astype(np.float32),
        },
    )


def sklearn_forest() -> None:
    """A random forest, without the ZipMap."""
    model = RandomForestClassifier(5, max_depth=4, random_state=1).fit(NUMBERS, CLASSES)
    rows = NUMBERS[:ROWS]
    types = [("X", FloatTensorType([None, COLUMNS]))]
    save(
        "sklearn_forest",
        to_onnx(model, initial_types=types, options={"zipmap": False}),
        {"X": rows},
        {
            "label": model.predict(rows),
            "probabilities": model.predict_proba(rows).astype(np.float32),
        },
    )


def boosted(name: str, model: Any, convert: Callable[..., onnx.ModelProto]) -> None:
    """A gradient boosted ensemble."""
    model.fit(NUMBERS, CLASSES)
    rows = NUMBERS[:ROWS]
    save(
        name,
        convert(model, initial_types=[("X", PlainFloats([None, COLUMNS]))], target_opset=15),
        {"X": rows},
        {
            "label": model.predict(rows).astype(np.int64),
            "probabilities": model.predict_proba(rows).astype(np.float32),
        },
    )


class Attention(nn.Module):
    """One small block of a transformer: projections, heads by `view`, softmax, normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(8, 24)
        self.out = nn.Linear(8, 8)
        self.norm = nn.LayerNorm(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (rows, 6, 8)."""
        rows, length, width = x.shape
        q, k, v = (
            part.reshape(rows, length, 2, 4).transpose(1, 2)
            for part in self.project(x).chunk(3, dim=-1)
        )
        weights = torch.softmax(q @ k.transpose(-1, -2) / 2.0, dim=-1)
        mixed = (weights @ v).transpose(1, 2).reshape(rows, length, width)
        return self.norm(x + self.out(mixed)).mean(dim=1)


class Convolution(nn.Module):
    """A convolution that takes images of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.last = nn.Linear(4, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """image: (rows, 1, height, width)."""
        return self.last(torch.relu(self.first(image)).mean(dim=(2, 3)))


def exported(
    name: str, module: nn.Module, shape: tuple[int, ...], output: str, **options: Any
) -> None:
    """Export `module` with an example of one row, or two where the batch is open."""
    module.eval()
    (input_name,) = options["input_names"]
    rows = RNG.normal(size=(ROWS, *shape)).astype(np.float32)
    example = torch.from_numpy(rows[: options.pop("example_rows")])
    path = DIRECTORY / f"{name}.onnx"
    torch.onnx.export(module, (example,), path, output_names=[output], verbose=False, **options)
    with torch.no_grad():
        answers = module(torch.from_numpy(rows)).numpy()
    model = onnx.load(path)
    for node in model.graph.node:  # where in this file and its libraries a node comes from
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    path.with_suffix(".onnx.data").unlink(missing_ok=True)
    save(name, model, {input_name: rows}, {output: answers})


def main() -> None:
    """Make them all."""
    DIRECTORY.mkdir(exist_ok=True)
    torch.manual_seed(3)
    warnings.filterwarnings("ignore")
    sklearn_logistic()
    sklearn_categories()
    sklearn_forest()
    trees = {"n_estimators": 4, "max_depth": 3}
    boosted("xgboost", xgboost.XGBClassifier(**trees), onnxmltools.convert_xgboost)
    boosted("lightgbm", lightgbm.LGBMClassifier(**trees, verbose=-1), onnxmltools.convert_lightgbm)
    rows = torch.export.Dim("rows", min=1, max=64)
    exported(
        "torch_dynamo",
        Attention(),
        (6, 8),
        "y",
        example_rows=2,
        input_names=["x"],
        dynamo=True,
        dynamic_shapes={"x": {0: rows}},
    )
    exported(
        "torch_script",
        Convolution(),
        (1, 9, 7),
        "scores",
        example_rows=2,
        input_names=["image"],
        dynamo=False,
        dynamic_axes={
            "image": {0: "rows", 2: "height", 3: "width"},
            "scores": {0: "rows"},
        },
    )
    exported(
        "torch_batch_of_one",
        Attention(),
        (6, 8),
        "y",
        example_rows=1,
        input_names=["x"],
        dynamo=False,
    )


if __name__ == "__main__":
    sys.exit(main())
