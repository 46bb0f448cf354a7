"""The states of an engine against the reference's, step by step.

Knows: the golden rows as one sequence. Rules: every step begins with the states that the reference has there,
so that errors do not add up and each step is judged by the tolerance of the golden rows; the steps run one by
one and together in a batch, since both are served. Leaves to others: golden rows at a sequence's start
(`comparison`).
"""

from collections.abc import Sequence
from pathlib import Path

from appliance.errors import ApplianceError, GoldenMissed
from appliance.golden import Golden, check_golden
from appliance.manifest import MODEL_FILE, Manifest, Precision
from appliance.tensors import Array
from compiler.opening.source import open_sealed
from compiler.proving.lengths import as_sent
from compiler.reference import Reference, Step, rows_apart
from compiler.rows.samples import Rows
from runtime.servable import Inputs, Servable


def check_steps(
    servable: Servable, golden: Golden, directory: Path, manifest: Manifest, precision: Precision
) -> None:
    """Let the extracted bundle in `directory` compute its golden rows as one sequence.

    Nothing is done for a model without states. Raises GoldenMissed when outputs or states differ from the
    reference's by more than the tolerance of `precision`, or EngineError.
    """
    if not manifest.states:
        return
    source = open_sealed(directory / MODEL_FILE)
    reference = Reference(source, as_sent(manifest.recipe), manifest.engine, states=manifest.states)
    steps = list(reference.steps(Rows(inputs=golden.inputs)))
    wanted = Golden(inputs={}, outputs=reference.stacked([step.after for step in steps]))
    rows = rows_apart(golden.inputs, batched=servable.interface.batch_max > 0)
    requests = [{**row, **step.before} for row, step in zip(rows, steps, strict=True)]
    together = max(servable.interface.batch_max, 1)
    for count in {1, together}:
        got = [
            each
            for start in range(0, len(requests), count)
            for each in _computed(servable, requests[start : start + count], manifest, steps[0])
        ]
        try:
            check_golden(
                reference.stacked(got),
                wanted,
                manifest.tolerances.of(precision),
                exact=precision is Precision.FP32,
            )
        except GoldenMissed as error:
            raise GoldenMissed(
                f"in a sequence of the golden rows, {error}", remedy=error.remedy
            ) from error


def _computed(
    servable: Servable, requests: Sequence[Inputs], manifest: Manifest, step: Step
) -> list[dict[str, Array]]:
    """What the requests of one call are answered, by the names in `step`; raises the first error."""
    found = []
    for answer in servable.run(requests):
        if isinstance(answer, ApplianceError):
            raise answer
        states = {state.output: answer.states[state.input] for state in manifest.states}
        found.append({name: (answer.outputs | states)[name] for name in step.after})
    return found
