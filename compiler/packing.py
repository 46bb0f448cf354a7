"""What a bundle holds, made from a stranger's model.

Knows: the order in which a model, its spec and its rows are checked and sealed. Rules: everything here
parses or runs the model, so it is done in a child; no key comes near it; nothing is sealed until the
reference itself reached the acceptance thresholds. Leaves to others: the manifest and the signature
(`pack`).
"""

from pathlib import Path

from appliance.errors import SpecError
from appliance.files import write_file
from appliance.fitting import served_interface
from appliance.manifest import (
    CALIBRATION_FILE,
    GOLDEN_FILE,
    HELD_OUT_FILE,
    MODEL_FILE,
    PROFILE_FILE,
    Precision,
)
from appliance.recipe import Recipe
from appliance.states import stateless
from appliance.tables import canonical_json
from appliance.tensors import Interface
from compiler.found import Sealed
from compiler.opening.graph import graph_notes, interface_of
from compiler.opening.received import received_source
from compiler.progress import Progress
from compiler.proving.acceptance import check_acceptance
from compiler.proving.robustness import check_disturbances
from compiler.reference import Reference
from compiler.rows.samples import Rows, raw_specs, read_rows
from compiler.sealing import Sealing
from compiler.spec import Spec


def seal(model: Path, spec: Spec, data: Path, directory: Path, progress: Progress) -> Sealed:
    """Write the bundle's files of the ONNX file `model` and the rows in `data` into `directory`.

    Raises SourceError, SpecError, RecipeError, ThresholdMissed or StateError.
    """
    progress.stage("opening the model")
    source = received_source(model, spec.model)
    whole = interface_of(source, spec.model.batch_max, spec.model.axes)
    engine = stateless(whole, spec.model.states)
    notes = graph_notes(source, spec.model.batch_max)
    _check_precision(spec)
    recipe = spec.full_recipe()
    served_interface(recipe, engine)
    sample, held_out = _read_data(spec, data, recipe, engine)

    reference = Reference(source, recipe, whole, states=spec.model.states)
    reference.check_lengths()
    reference.check_rewritten(sample.part(slice(spec.data.golden_rows)), spec.tolerance.fp32)
    sealing = Sealing(reference, recipe, engine, progress)
    golden, layout = sealing.golden(sample, spec.data.golden_rows, spec.tolerance.fp32)
    sealed, profile, values = sealing.held_out(held_out, layout, spec.acceptance)
    ranges = None
    if not spec.model.states:  # a sequence's start says nothing of what states become
        ranges = sealing.calibration(source, sample, spec.model.precision, spec.calibration)

    write_file(directory / MODEL_FILE, source.data)
    write_file(directory / GOLDEN_FILE, golden.to_bytes())
    write_file(directory / HELD_OUT_FILE, sealed.to_bytes())
    write_file(directory / PROFILE_FILE, canonical_json(profile))
    if ranges is not None:
        write_file(directory / CALIBRATION_FILE, ranges.to_bytes())
    return Sealed(
        engine=whole,
        calibration=None if ranges is None else ranges.calibration,
        source_sha256=source.sha256,
        source_files=dict(source.files),
        sample_sha256=sample.sha256(),
        reached=values,
        notes=notes,
    )


def _read_data(spec: Spec, directory: Path, recipe: Recipe, engine: Interface) -> tuple[Rows, Rows]:
    """The sample and the held-out rows. Raises SpecError when they do not fit spec and model."""
    specs = raw_specs(recipe, engine)
    sample = read_rows(directory / spec.data.sample, specs)
    held_out = read_rows(directory / spec.data.held_out, specs)
    if sample.count < spec.data.golden_rows:
        raise SpecError(
            f"the sample has {sample.count} rows, golden_rows is {spec.data.golden_rows}",
            remedy="give a larger sample or fewer golden rows",
        )
    check_acceptance(spec.acceptance, engine, held_out.truth)
    check_disturbances(spec.robustness, recipe, engine, spec.acceptance)
    return sample, held_out


def _check_precision(spec: Spec) -> None:
    if spec.model.states and spec.model.precision is Precision.INT8:
        raise SpecError(
            "int8 needs the ranges of the states, which single rows do not have",
            remedy="set precision to auto, fp16, bf16 or fp32 in the spec",
        )
