"""Steps after the engine that work on scores: probabilities, classes, labels.

Knows: these after-steps and their parameters. Rules: see `step`; a step reads the engine's outputs and those of
the steps before it, FP32 or FP16 and FP64 rounded to FP32 first (to nearest even; larger becomes
infinite). Leaves to others: boxes (`boxes`), computing them (`runtime.kernels`).
"""

from typing import Annotated, TypeAlias

import msgspec

from appliance.recipe.step import Finite, Step
from appliance.tensors import TensorName

TopCount = Annotated[int, msgspec.Meta(ge=1, le=1024)]


class Softmax(Step, frozen=True, kw_only=True, tag="softmax"):
    """Add output `output` = exp(x - max x) / sum over the last axis of `tensor`, FP32.

    The shape stays. Computed in FP64, within 1.5 units of FP32's last place. A row that holds NaN or
    +infinity, or nothing but -infinity, becomes NaN.
    """

    tensor: TensorName
    output: TensorName


class Sigmoid(Step, frozen=True, kw_only=True, tag="sigmoid"):
    """Add output `output` = 1 / (1 + exp(-x)) of each value of `tensor`, FP32, of the same shape.

    Computed in FP64 and rounded to FP32 once. NaN stays NaN.
    """

    tensor: TensorName
    output: TensorName


class ArgMax(Step, frozen=True, kw_only=True, tag="argmax"):
    """Add output `output` = index of the largest value on the last axis of `tensor`, INT64.

    The last axis becomes 1: [classes] makes [1]. The first of equal values wins; NaN is smaller than every
    number. `labels` names one more output with the label's text, BYTES of the same shape; it needs one label
    a class in the model spec.
    """

    tensor: TensorName
    output: TensorName
    labels: TensorName | None = None


class TopK(Step, frozen=True, kw_only=True, tag="top_k"):
    """Add output `output` = indices of the `k` largest values on the last axis of `tensor`, INT64.

    The last axis becomes k: [classes] makes [k], best first. Equal values are ordered by index; NaN is
    smaller than every number. `scores` names one more output with their values, FP32, `labels` one with
    their labels' texts, BYTES, both of the same shape; labels need one a class in the model spec.
    """

    tensor: TensorName
    k: TopCount
    output: TensorName
    scores: TensorName | None = None
    labels: TensorName | None = None


class Threshold(Step, frozen=True, kw_only=True, tag="threshold"):
    """Add output `output` = (x >= at) of each value of `tensor`, BOOL, of the same shape.

    `at` is rounded to FP32; NaN is below it. `labels` names an output of texts, BYTES of the same
    shape: with one label a class, the label where true and an empty text where false; where the last axis has
    length 1 and the model spec two labels, the first where false and the second where true.
    """

    tensor: TensorName
    at: Finite
    output: TensorName
    labels: TensorName | None = None


class Labels(Step, frozen=True, kw_only=True, tag="labels"):
    """Add output `output` = the label text of each index in `tensor`, BYTES, of the same shape.

    `tensor` holds integers of any width; an index without a label gives an empty text.
    """

    tensor: TensorName
    output: TensorName


class Drop(Step, frozen=True, kw_only=True, tag="drop"):
    """Leave `tensors` out of the answers; steps before this one may read them, later ones may not."""

    tensors: Annotated[tuple[TensorName, ...], msgspec.Meta(min_length=1)]


ScoreStep: TypeAlias = Softmax | Sigmoid | ArgMax | TopK | Threshold | Labels
