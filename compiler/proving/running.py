"""Requests run through a servable, one after another.

Knows: how rows become requests and answers become rows again. Rules: what fails a request fails the act.
Leaves to others: which rows, and what is made of the outputs.
"""

from collections.abc import Collection, Iterable

import numpy as np

from appliance.errors import ApplianceError
from appliance.tensors import Array
from compiler.progress import Progress
from runtime.servable import Servable


def engine_outputs(
    servable: Servable,
    requests: Iterable[dict[str, Array]],
    wanted: Collection[str],
    progress: Progress,
) -> dict[str, Array]:
    """The `wanted` engine outputs of all requests, rows in front; a step is a row. Raises EngineError."""
    batched = servable.interface.batch_max > 0
    parts: list[dict[str, Array]] = []
    for request in requests:
        outputs, _ = servable.answered(request)
        rows = len(next(iter(request.values()))) if batched else 1
        parts.append({n: outputs[n] if batched else outputs[n][None] for n in wanted})
        progress.step(rows)
    return {name: np.concatenate([part[name] for part in parts]) for name in wanted}


def served_outputs(servable: Servable, inputs: dict[str, Array]) -> dict[str, Array]:
    """The served outputs of one request; raises the error that the request would get."""
    answer = servable.run([inputs])[0]
    if isinstance(answer, ApplianceError):
        raise answer
    return answer.outputs
