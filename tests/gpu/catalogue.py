"""Every kernel of scores, boxes and the drift vector, each in the forms that recipes ask for."""

import numpy as np

from appliance.layout import ImageValues, OutputValues, ScoreValues
from appliance.recipe import (
    AnchorBoxes,
    AnchorGrid,
    ArgMax,
    BoxForm,
    RescaleBoxes,
    Sigmoid,
    Softmax,
    SuppressBoxes,
    Threshold,
    TopK,
    YoloBoxes,
)
from appliance.tensors import DataType, TensorSpec
from runtime.kernels.cuda import KernelSource, Part
from runtime.kernels.cuda.boxes import PLACED, box_part
from runtime.kernels.cuda.reducing import THREADS
from runtime.kernels.cuda.scores import OfRows, cast_part, score_part
from runtime.kernels.cuda.suppression import SuppressPart
from runtime.kernels.cuda.vectors import CellPart, ScorePart, vector_part

GRID = AnchorGrid(rows=2, columns=2, stride=8.0, sizes=((4.0, 4.0),))
# Of what the parts read, by name, without rows.
SHAPES = {
    "x": (3, 8, 8),
    "y": (10,),
    "head": (7, 20),
    "turned": (20, 7),
    "b": (20, 4),
    "s": (20, 2),
    "c": (10,),
    "a": (4, 4),
    "placed:x": (12,),
}
PCA = np.zeros((3, 64), np.float32).tobytes()


def parts(threads: int = THREADS) -> list[Part]:
    """Parts that together launch all of them; blocks whose threads wait for each other have `threads`."""
    return [*_scores(threads), *_boxes(threads), *_vectors(threads)]


def sources() -> list[KernelSource]:
    """All of them, each once."""
    return list({each.name: each for part in parts() for each in part.kernels()}.values())


def tensors_of(part: Part) -> dict[str, np.ndarray]:
    """One row of anything for what a part reads."""
    rng = np.random.default_rng(5)
    pointers = [p for p in part.kernels()[0].parameters if p.endswith("*")]
    given = {}
    for name in part.reads:
        dtype = np.dtype(pointers[0].removesuffix("*"))
        if name == "s":
            dtype = np.dtype(np.float16)
        if name == "b" or name.startswith(PLACED):
            dtype = np.dtype(np.float32)
        given[name] = (rng.random((1, *SHAPES[name])) * 9).astype(dtype)
    return given


def _spec(name: str, datatype: DataType, *shape: int) -> TensorSpec:
    return TensorSpec(name=name, datatype=datatype, shape=shape)


def _scores(threads: int) -> list[Part]:
    scores = _spec("c", DataType.FP32, 10)
    softmax = Softmax(tensor="c", output="y")
    of_rows = [softmax, ArgMax(tensor="c", output="y")]
    of_rows.append(TopK(tensor="c", k=3, output="y", scores="z"))
    of_values = [Sigmoid(tensor="c", output="y"), Threshold(tensor="c", at=0.5, output="y")]
    return [
        *(OfRows(scores, step, threads=threads) for step in of_rows),
        *(score_part(step, scores) for step in of_values),
        OfRows(_spec("c", DataType.FP16, 10), softmax, threads=threads),
        cast_part(_spec("c", DataType.UINT8, 10), "y", "float32"),
        cast_part(_spec("c", DataType.INT64, 10), "y", "float16"),
        cast_part(_spec("c", DataType.BOOL, 10), "y", "float16"),
    ]


def _boxes(threads: int) -> list[Part]:
    half, single = DataType.FP16, DataType.FP32
    specs = {
        "head": _spec("head", half, 7, 20),
        "turned": _spec("turned", single, 20, 7),
        "b": _spec("b", single, 20, 4),
        "s": _spec("s", half, 20, 2),
        "a": _spec("a", single, 4, 4),
    }
    kept = {"output": "o", "output_scores": "os", "output_classes": "oc", "output_count": "on"}
    common = {"boxes": "b", "scores": "s", "score_min": 0.1, "iou_max": 0.5}
    steps = [
        YoloBoxes(tensor="head", objectness=True, boxes="u", scores="v"),
        YoloBoxes(tensor="turned", order="anchors_first", form="xywh", boxes="u", scores="v"),
        BoxForm(tensor="b", form="yxyx", width=2.0, output="y"),
        AnchorBoxes(tensor="a", grids=(GRID,), output="y"),
        RescaleBoxes(tensor="b", image="x", output="y"),
    ]
    suppressions = [
        SuppressBoxes(**common, **kept),
        SuppressBoxes(**common, **kept, every_class=True, agnostic=True, candidates_max=300),
    ]
    return [
        *(box_part(step, specs) for step in steps),
        *(SuppressPart(step, specs["b"], specs["s"], threads=threads) for step in suppressions),
    ]


def _vectors(threads: int) -> list[Part]:
    scores = _spec("y", DataType.FP32, 10)
    made = []
    for order, datatype in (("CHW", DataType.FP32), ("HWC", DataType.UINT8)):
        part = ImageValues(input="x", order=order, mean=PCA[:256], components=PCA[256:])
        spec = _spec("x", datatype, 3, 8, 8)
        made.append(CellPart(part, spec, 0, batch_axis=True, threads=threads))
    for logits in (True, False):
        part = ScoreValues(output="y", logits=logits, classes=10)
        made.append(ScorePart(part, scores, 0, batch_axis=True, threads=threads))
    columns = OutputValues(output="y", columns=3)
    return [*made, vector_part(columns, scores, 0, batch_axis=True)]
