"""Proof: an engine against the reference and what was agreed, by the code that serves.

Knows: what must hold before a version is filed, and in which order it is looked at: memory, golden rows, states,
thresholds, gated disturbances. Rules: everything runs through `runtime.servable`. Leaves to others: the
comparison (`comparison`), the metrics (`acceptance`), disturbing rows (`robustness`), latency (`choice`),
what becomes of a failure (`candidates`).
"""

from pathlib import Path

import msgspec

from appliance.errors import LimitMissed
from appliance.manifest import HELD_OUT_FILE, Manifest, Precision
from appliance.proof import Proof, Reached
from compiler.progress import Progress
from compiler.proving.acceptance import reached
from compiler.proving.comparison import compare, worst_of
from compiler.proving.lengths import golden_at_lengths
from compiler.proving.robustness import check_drops, chosen_disturbances, disturbed
from compiler.proving.running import engine_outputs, served_outputs
from compiler.proving.steps import check_steps
from compiler.rows.held_out import HeldOut
from runtime.servable import Servable, golden_of

__all__ = ["complete", "prove", "served_outputs"]


def prove(
    servable: Servable,
    directory: Path,
    manifest: Manifest,
    precision: Precision,
    progress: Progress,
    *,
    memory_bytes: int | None = None,
) -> Proof:
    """Prove the warm servable of an extracted bundle in `directory`, whose engine is of `precision`.

    memory_bytes: what assembling and warming it added to this process's memory; None: not known.
    Raises GoldenMissed, LimitMissed, ThresholdMissed, or EngineError when the engine fails on rows it
    must serve.
    """
    golden = golden_of(directory)
    _check_memory(memory_bytes, manifest)
    found = [compare(servable, golden, manifest, precision, progress)]
    for lengths, other in golden_at_lengths(golden, directory, manifest):
        found.append(compare(servable, other, manifest, precision, progress, lengths=lengths))
    compared = worst_of(found)
    check_steps(servable, golden, directory, manifest, precision)
    held_out = HeldOut.load(directory / HELD_OUT_FILE)
    values = _thresholds(servable, held_out, manifest, progress)
    gated = chosen_disturbances(manifest, gated=True)
    passes = disturbed(servable, held_out, manifest, gated, progress)
    check_drops(passes)
    return Proof(
        golden_rows=golden.rows,
        error_max=compared.error_max,
        error_p99=compared.error_p99,
        outputs=compared.outputs,
        buckets=compared.buckets,
        reached=values,
        disturbed=passes,
        memory_bytes=memory_bytes,
    )


def complete(
    servable: Servable, directory: Path, manifest: Manifest, proof: Proof, progress: Progress
) -> Proof:
    """`proof` with the disturbances that are only reported: for the engine that is kept.

    Raises EngineError when the engine fails on such rows.
    """
    held_out = HeldOut.load(directory / HELD_OUT_FILE)
    reported = chosen_disturbances(manifest, gated=False)
    passes = disturbed(servable, held_out, manifest, reported, progress)
    return msgspec.structs.replace(proof, disturbed=(*proof.disturbed, *passes))


def _thresholds(
    servable: Servable, held_out: HeldOut, manifest: Manifest, progress: Progress
) -> tuple[Reached, ...]:
    """Run the held-out rows in full batches and compute every threshold's metric."""
    wanted = {item.output for item in manifest.acceptance}
    if not wanted:
        return ()
    progress.stage("running the held-out rows", held_out.rows)
    requests = held_out.requests(manifest.served.batch_max)
    outputs = engine_outputs(servable, requests, wanted, progress)
    return reached(manifest.acceptance, outputs, held_out.truth)


def _check_memory(found: int | None, manifest: Manifest) -> None:
    allowed = manifest.limits.memory_bytes_max
    if allowed is not None and found is not None and found > allowed:
        raise LimitMissed(
            f"loading and warming the engine takes {found} bytes of memory, over {allowed}",
            remedy="raise memory_bytes_max in the spec's [limits], or give a smaller model or batch_max",
        )
