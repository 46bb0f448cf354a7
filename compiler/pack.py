"""Model and spec to a bundle.

Knows: what a bundle is made of, and who may do what: a child touches the model, this process holds the
key. Rules: equal inputs and key give equal bytes; what is signed is said by the spec, the files and the
interface that the child found, nothing else; nothing is written until all is checked. Leaves to others:
sealing the model (`packing`), the file's layout (`appliance.bundle`), engines (`build`).
"""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import msgspec

from appliance.bundle import MANIFEST_BYTES_MAX, entry, write_bundle
from appliance.config import BuildConfig, Config
from appliance.errors import BuildCrashed, ConfigError, SourceError, SpecError
from appliance.files import open_regular
from appliance.fitting import served_interface
from appliance.manifest import (
    BOM_FILE,
    CALIBRATION_FILE,
    GOLDEN_FILE,
    HELD_OUT_FILE,
    MODEL_FILE,
    PROFILE_FILE,
    SOURCE_SIGNATURE_FILE,
    Manifest,
    Precision,
)
from appliance.modelkeys import ModelSigningKey
from appliance.proof import Reached
from appliance.staging import staging
from appliance.states import stateless
from appliance.tables import canonical_json, from_json
from compiler.acts import Seal
from compiler.bom import bill_of_materials
from compiler.child import Confined, Here, Places, kernel_cache
from compiler.found import Sealed
from compiler.progress import Progress, Silent
from compiler.signedsource import SignedSource, covered_by
from compiler.spec import Spec, read_spec

_BESIDE_MAX = 1000  # files beside the model


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A written bundle: its SHA-256, its signer's key id (None: unsigned), what the reference reached.

    `notes` tell what was made of the model, `warnings` which fences this machine could not raise.
    """

    path: Path
    sha256: str
    signer: str | None
    manifest: Manifest
    reached: tuple[Reached, ...]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def pack(
    model: Path,
    spec_path: Path,
    path: Path,
    *,
    key: ModelSigningKey | None,
    precision: str | None = None,
    progress: Progress | None = None,
    config: Config | None = None,
    in_process: bool = False,
    signed_at: str | None = None,
    source: SignedSource | None = None,
) -> Packed:
    """Write the bundle of the ONNX file `model` and the spec at `spec_path` to `path`.

    The model is touched by a child process within the bounds of `config`, and in its state directory's
    workplace; without one, in the system's temporary directory. `in_process` does without the child.
    `precision` overrides the spec's; `signed_at`, RFC 3339, is signed with the rest; `source` is the
    model's own signature, which goes with it. Raises ConfigError, SourceError, SpecError, RecipeError,
    ThresholdMissed, BuildError or StateError; then nothing was written.
    """
    progress = progress or Silent()
    spec = _read_spec(spec_path, precision)
    data = [spec_path.parent / name for name in (spec.data.sample, spec.data.held_out)]
    refuse_overwriting(path, (model, spec_path, *data))
    doer = Here() if in_process else Confined(bounds=config.build if config else BuildConfig())
    with workplace(config) as directory:
        act = Seal(
            model=str(model),
            spec=spec,
            data=str(spec_path.parent),
            directory=str(directory),
        )
        places = Places(
            scratch=directory,
            readable=(*beside(model), *data),
            listable=(model.absolute().parent,),
            writable=kernel_cache(),
        )
        ended = doer.do(act, places, progress)
        progress.stage("writing the bundle")
        contents = _contents(directory, ended.result)
    manifest = _manifest(spec, ended.result, contents, source)
    bom = bill_of_materials(manifest, ended.result.reached)
    contents[BOM_FILE] = bom
    files = (*manifest.files, entry(BOM_FILE, bom))
    manifest = msgspec.structs.replace(manifest, files=files)
    _check_readable(manifest)
    digest = write_bundle(path, manifest, contents, key, signed_at=signed_at)
    progress.step()
    return Packed(
        path=path,
        sha256=digest,
        signer=None if key is None else key.public.key_id,
        manifest=manifest,
        reached=ended.result.reached,
        notes=ended.result.notes,
        warnings=ended.missing,
    )


def refuse_overwriting(path: Path, inputs: Iterable[Path]) -> None:
    """Raise ConfigError when writing the bundle to `path` would replace one of the `inputs`."""
    if path.resolve() in {item.resolve() for item in inputs}:
        raise ConfigError(
            f"the bundle would replace {path}, which it is made from",
            remedy="give --output another name",
        )


def _read_spec(path: Path, precision: str | None) -> Spec:
    """The spec, in another `precision` if one is given, if it can be sealed. Raises SpecError."""
    spec = read_spec(path)
    if precision is not None:
        known = [str(item) for item in Precision]
        if precision not in known:
            raise SpecError(
                f"there is no precision '{precision}'", remedy=f"use one of {', '.join(known)}"
            )
        model = msgspec.structs.replace(spec.model, precision=Precision(precision))
        spec = msgspec.structs.replace(spec, model=model)
    if from_json(canonical_json(spec), Spec, SpecError, where=str(path)) != spec:
        raise SpecError(
            f"{path} does not read back as it was written", remedy="use finite numbers in it"
        )
    return spec


@contextmanager
def workplace(config: Config | None) -> Iterator[Path]:
    """A private directory, removed at the end."""
    if config is None:
        with tempfile.TemporaryDirectory(prefix="holdfast-pack-") as directory:
            yield Path(directory)
    else:
        with staging(config.state.work) as directory:
            yield directory


def beside(model: Path) -> Iterator[Path]:
    """The model, and what lies beside it where its tensors may be kept; no hidden files and no keys."""
    yield model
    if not model.is_file():
        return
    for path in islice(sorted(model.absolute().parent.iterdir()), _BESIDE_MAX):
        keys = [path] if path.suffix == ".pem" else path.glob("*.pem") if path.is_dir() else []
        if not path.name.startswith(".") and not any(keys):
            yield path


def _contents(directory: Path, sealed: Sealed) -> dict[str, bytes]:
    """The bundle's files as the child left them. Raises BuildCrashed when one is missing."""
    names = [MODEL_FILE, GOLDEN_FILE, HELD_OUT_FILE, PROFILE_FILE]
    if sealed.calibration is not None:
        names.append(CALIBRATION_FILE)
    try:
        return {name: _read(directory / name) for name in names}
    except OSError as error:
        raise BuildCrashed(
            f"sealing ended without {error.filename}", remedy="pack the model again"
        ) from error


def _read(path: Path) -> bytes:
    with open_regular(path) as file:
        return file.read()


def _manifest(
    spec: Spec, sealed: Sealed, contents: dict[str, bytes], source: SignedSource | None
) -> Manifest:
    """What the bundle says, but for its BOM. Raises SourceError when `source` is of another model."""
    if source is not None:
        if not covered_by(source.files, sealed.source_sha256, sealed.source_files):
            raise SourceError(
                "the signature is not over the model as it was read, with all files of its tensors",
                remedy="sign the directory that the model is in, and let it lie still while packing",
            )
        contents[SOURCE_SIGNATURE_FILE] = source.signature
    recipe, states = spec.full_recipe(), spec.model.states
    return Manifest(
        model=spec.model.name,
        release_notes=spec.model.release_notes,
        served=served_interface(recipe, stateless(sealed.engine, states)),
        engine=sealed.engine,
        states=states,
        recipe=recipe,
        precision=spec.model.precision,
        tolerances=spec.tolerance,
        acceptance=spec.acceptance,
        limits=spec.limits,
        disturbances=spec.robustness,
        calibration=sealed.calibration,
        fallback=spec.model.fallback,
        interface_changes=spec.model.interface_changes,
        edition=spec.model.edition,
        minimum_release=spec.model.minimum_release,
        compatible=spec.model.compatible,
        provenance=spec.provenance,
        source_signer=None if source is None else source.signer,
        source_sha256=sealed.source_sha256,
        source_files=sealed.source_files,
        sample_sha256=sealed.sample_sha256,
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
