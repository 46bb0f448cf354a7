"""Model and spec to a bundle.

Knows: what a bundle is made of and in which order it is checked. Rules: equal inputs and key give equal
bytes; nothing is written until the reference itself reached the acceptance thresholds. Leaves to others:
the file's layout (`appliance.bundle`) and engines (`build`).
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from appliance.bundle import MANIFEST_BYTES_MAX, entry, write_bundle
from appliance.errors import ConfigError, SpecError
from appliance.fitting import served_interface
from appliance.manifest import GOLDEN_FILE, HELD_OUT_FILE, MODEL_FILE, PROFILE_FILE, Manifest
from appliance.proof import Reached
from appliance.recipe import Recipe
from appliance.signing import SigningKey
from appliance.tables import canonical_json, from_json
from appliance.tensors import Interface
from compiler.acceptance import check_acceptance
from compiler.graph import interface_of
from compiler.progress import Progress, Silent
from compiler.reference import Reference
from compiler.samples import Rows, raw_specs, read_rows
from compiler.sealing import Sealing
from compiler.source import open_source
from compiler.spec import Spec, read_spec


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

    Raises ConfigError, SourceError, SpecError, RecipeError, ThresholdMissed or StateError; then nothing
    was written.
    """
    progress = progress or Silent()
    progress.stage("opening the model")
    spec = read_spec(spec_path)
    data = (spec_path.parent / name for name in (spec.data.sample, spec.data.held_out))
    refuse_overwriting(path, (model, spec_path, *data))
    source = open_source(model)
    engine = interface_of(source, spec.model.batch_max)
    recipe = spec.full_recipe()
    served = served_interface(recipe, engine)
    sample, held_out = _read_data(spec, spec_path.parent, recipe, engine)

    sealing = Sealing(Reference(source, recipe, engine), recipe, engine, progress)
    golden, layout = sealing.golden(sample, spec.data.golden_rows, spec.tolerance.fp32)
    sealed, profile, values = sealing.held_out(held_out, layout, spec.acceptance)

    progress.stage("writing the bundle")
    contents = {
        MODEL_FILE: source.data,
        GOLDEN_FILE: golden.to_bytes(),
        HELD_OUT_FILE: sealed.to_bytes(),
        PROFILE_FILE: canonical_json(profile),
    }
    manifest = _manifest(spec, served, engine, contents, sample.sha256())
    _check_readable(manifest)
    digest = write_bundle(path, manifest, contents, key)
    progress.step()
    signer = None if key is None else key.public.key_id
    return Packed(path=path, sha256=digest, signer=signer, manifest=manifest, reached=values)


def refuse_overwriting(path: Path, inputs: Iterable[Path]) -> None:
    """Raise ConfigError when writing the bundle to `path` would replace one of the `inputs`."""
    if path.resolve() in {item.resolve() for item in inputs}:
        raise ConfigError(
            f"the bundle would replace {path}, which it is made from",
            remedy="give --output another name",
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
    check_acceptance(spec.acceptance, engine, held_out.labels)
    return sample, held_out


def _manifest(
    spec: Spec,
    served: Interface,
    engine: Interface,
    contents: Mapping[str, bytes],
    sample_sha256: str,
) -> Manifest:
    return Manifest(
        model=spec.model.name,
        release_notes=spec.model.release_notes,
        served=served,
        engine=engine,
        recipe=spec.full_recipe(),
        precision=spec.model.precision,
        tolerances=spec.tolerance,
        acceptance=spec.acceptance,
        limits=spec.limits,
        disturbances=spec.robustness,
        calibration=None,
        fallback=spec.model.fallback,
        provenance=spec.provenance,
        source_sha256=hashlib.sha256(contents[MODEL_FILE]).hexdigest(),
        sample_sha256=sample_sha256,
        files=tuple(entry(name, data) for name, data in contents.items()),
    )


def _check_readable(manifest: Manifest) -> None:
    """Refuse what no box could open: a manifest too long, or with a value that cannot be read back."""
    body = canonical_json(manifest)
    if len(body) > MANIFEST_BYTES_MAX:
        raise SpecError(
            f"the manifest has {len(body)} bytes, over {MANIFEST_BYTES_MAX}",
            remedy="give fewer or shorter labels, columns and names",
        )
    if from_json(body, Manifest, SpecError, where="manifest") != manifest:
        raise SpecError(
            "the manifest does not read back as it was written",
            remedy="use finite numbers and plain names in the spec and the model",
        )
