"""Steps after the engine: each adds outputs made from the engine's.

Knows: the after-steps and their parameters. Rules: see `step`. Leaves to others: computing them
(`runtime.kernels`).
"""

from typing import Annotated, TypeAlias

import msgspec

from appliance.recipe.step import Step
from appliance.tensors import TensorName

TopCount = Annotated[int, msgspec.Meta(ge=1, le=1024)]


class Softmax(Step, frozen=True, kw_only=True, tag="softmax"):
    """Add output `output` = exp(x - max x) / sum over the last axis of `tensor`, FP32."""

    tensor: TensorName
    output: TensorName


class ArgMax(Step, frozen=True, kw_only=True, tag="argmax"):
    """Add output `output` = index of the largest value on the last axis (first wins), INT64 [1]."""

    tensor: TensorName
    output: TensorName


class TopK(Step, frozen=True, kw_only=True, tag="top_k"):
    """Add the `k` best classes of `tensor`, best first: `output` INT64 [k], `labels` BYTES [k].

    `labels` names the output with label texts; it needs labels in the model spec.
    """

    tensor: TensorName
    k: TopCount
    output: TensorName
    labels: TensorName | None = None


AfterStep: TypeAlias = Softmax | ArgMax | TopK
