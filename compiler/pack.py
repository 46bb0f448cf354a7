"""Model and spec to a bundle.

Knows: what a bundle is made of and in which order it is checked. Rules: equal inputs and key give equal
bytes; nothing is written until the reference itself reached the acceptance thresholds. Leaves to others:
the file's layout (`appliance.bundle`) and engines (`build`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from appliance.bundle import entry, write_bundle
from appliance.errors import SpecError
from appliance.golden import Golden
from appliance.manifest import GOLDEN_FILE, HELD_OUT_FILE, MODEL_FILE, PROFILE_FILE, Manifest
from appliance.profiles import Profile, profile_from_vectors
from appliance.recipe import Accepts, Recipe, served_interface
from appliance.signing import SigningKey
from appliance.store import Reached
from appliance.tables import canonical_json
from appliance.tensors import Array, Interface
from compiler.acceptance import check_acceptance, reached
from compiler.graph import interface_of
from compiler.held_out import HeldOut
from compiler.progress import Progress, Silent
from compiler.reference import Call, Reference
from compiler.samples import Rows, raw_specs, read_rows
from compiler.source import open_source
from compiler.spec import Spec, read_spec
from runtime.kernels.vector import DriftVector
from runtime.kernels.vector_fit import fit_layout

LAYOUT_ROWS_MAX = 2048  # rows of the sample that the drift vector's layout is fitted on


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A written bundle: its SHA-256, its signer's key id (None: unsigned), what the reference reached."""

    path: Path
    sha256: str
    signer: str | None
    manifest: Manifest
    reached: tuple[Reached, ...]


def pack(
    model: Path,
    spec_path: Path,
    path: Path,
    *,
    key: SigningKey | None,
    progress: Progress | None = None,
) -> Packed:
    """Write the bundle of the ONNX file `model` and the spec at `spec_path` to `path`.

    Raises SourceError, SpecError, RecipeError, ThresholdMissed or StateError; then nothing was written.
    """
    progress = progress or Silent()
    progress.stage("opening the model")
    source, spec = open_source(model), read_spec(spec_path)
    engine = interface_of(source, spec.model.batch_max)
    recipe = spec.full_recipe()
    served = served_interface(recipe, engine)
    sample, held_out = _read_data(spec, spec_path.parent, recipe, engine)

    run = _Run(Reference(source, recipe, engine), recipe, engine, progress)
    golden, vector = run.golden(sample, spec.data.golden_rows)
    sealed, profile, values = run.held_out(held_out, vector, spec)

    progress.stage("writing the bundle")
    contents = {
        MODEL_FILE: source.data,
        GOLDEN_FILE: golden.to_bytes(),
        HELD_OUT_FILE: sealed.to_bytes(),
        PROFILE_FILE: canonical_json(profile),
    }
    manifest = _manifest(spec, recipe, served, engine, contents)
    digest = write_bundle(path, manifest, contents, key)
    progress.step()
    signer = None if key is None else key.public.key_id
    return Packed(path=path, sha256=digest, signer=signer, manifest=manifest, reached=values)


@dataclass(frozen=True, slots=True)
class _Run:
    """The reference at work on the engineer's rows."""

    reference: Reference
    recipe: Recipe
    engine: Interface
    progress: Progress

    def golden(self, sample: Rows, count: int) -> tuple[Golden, DriftVector]:
        """The first `count` rows with their outputs, and the drift vector fitted on the sample."""
        rows = sample.part(slice(max(count, LAYOUT_ROWS_MAX)))
        call = self._run("running the sample", rows, every=True)
        first = Call(
            prepared={name: array[:count] for name, array in call.prepared.items()},
            outputs={name: array[:count] for name, array in call.outputs.items()},
        )
        inputs = self._served_rows(rows.part(slice(count)), first.prepared)
        layout = fit_layout(self.recipe, self.engine, call.prepared, call.outputs)
        return Golden(inputs=inputs, outputs=first.outputs), DriftVector(layout)
