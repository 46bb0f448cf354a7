"""Proof: an engine against the reference and the agreed thresholds, by the code that serves.

Knows: what must hold before a version is filed. Rules: golden vectors at one row and at a full batch,
then the acceptance thresholds on the held-out rows, all through `runtime.servable`. Leaves to others:
the metrics (`acceptance`) and what becomes of a failure (`build`).
"""

from pathlib import Path

import numpy as np

from appliance.errors import ApplianceError
from appliance.manifest import HELD_OUT_FILE, Manifest
from appliance.proof import Proof, Reached
from appliance.tensors import Array
from compiler.acceptance import reached
from compiler.held_out import HeldOut
from compiler.progress import Progress
from runtime.servable import Servable, golden_of


def prove(servable: Servable, directory: Path, manifest: Manifest, progress: Progress) -> Proof:
    """Prove the servable of an extracted bundle in `directory`; a step is a held-out row.

    Raises GoldenMissed, ThresholdMissed, or EngineError when the engine fails on rows it must serve.
    """
    golden = golden_of(directory)
    held_out = HeldOut.load(directory / HELD_OUT_FILE)
    progress.stage("proving", held_out.rows)
    error = servable.prove(golden, manifest)
    return Proof(
        golden_rows=golden.rows,
        error_max=error,
        outputs=(),
        buckets=(),
        disturbed=(),
        memory_bytes=None,
        reached=_thresholds(servable, held_out, manifest, progress),
    )


def _thresholds(
    servable: Servable, held_out: HeldOut, manifest: Manifest, progress: Progress
) -> tuple[Reached, ...]:
    """Run the held-out rows in full batches and compute every threshold's metric."""
    wanted = {item.output for item in manifest.acceptance}
    if not wanted:
        return ()
    batch_max = manifest.engine.batch_max
    parts: list[dict[str, Array]] = []
    for start in range(0, held_out.rows, batch_max or 1):
        rows = slice(start, start + (batch_max or 1))
        inputs = {name: array[rows] for name, array in held_out.inputs.items()}
        outputs = served_outputs(
            servable, inputs if batch_max else {n: a[0] for n, a in inputs.items()}
        )
        parts.append({name: outputs[name] if batch_max else outputs[name][None] for name in wanted})
        progress.step(batch_max or 1)
    joined = {name: np.concatenate([part[name] for part in parts]) for name in wanted}
    return reached(manifest.acceptance, joined, held_out.labels)


def served_outputs(servable: Servable, inputs: dict[str, Array]) -> dict[str, Array]:
    """The served outputs of one request; raises the error that the request would get."""
    answer = servable.run([inputs])[0]
    if isinstance(answer, ApplianceError):
        raise answer
    return answer.outputs
