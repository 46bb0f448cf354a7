"""A bundle's files against its manifest, before anything is compiled from them.

Knows: what the manifest promises of the model, the golden vectors and the held-out rows. Rules: a
signature says who packed a bundle, not that it makes sense, so a build checks again what pack made sure
of; every refusal is BundleContent. Leaves to others: digests (`intake`), proof (`proof`).
"""

from collections.abc import Mapping
from pathlib import Path

from appliance.errors import ApplianceError, BundleContent, StoreError
from appliance.fitting import served_interface
from appliance.golden import Golden, rows_fit
from appliance.manifest import GOLDEN_FILE, HELD_OUT_FILE, MODEL_FILE, PROFILE_FILE, Manifest
from appliance.profiles import Profile
from appliance.tables import from_json
from appliance.tensors import Array, TensorSpec
from compiler.opening.graph import axes_of, interface_of
from compiler.opening.source import Source, open_sealed
from compiler.proving.acceptance import check_acceptance
from compiler.proving.robustness import check_disturbances
from compiler.rows.held_out import HeldOut
from compiler.spec import BATCH_LIMIT

_PACK_AGAIN = "pack it again with this release"


def check_content(directory: Path, manifest: Manifest) -> Source:
    """Check the extracted bundle in `directory` and return its model, opened.

    Raises BundleContent saying what does not fit.
    """
    try:
        source = _check_model(directory / MODEL_FILE, manifest)
        _check_golden(Golden.load(directory / GOLDEN_FILE), manifest)
        _check_held_out(HeldOut.load(directory / HELD_OUT_FILE), manifest)
        profile = (directory / PROFILE_FILE).read_bytes()
        from_json(profile, Profile, StoreError, where=PROFILE_FILE)
    except ApplianceError as error:
        if isinstance(error, BundleContent) and error.remedy == _PACK_AGAIN:
            raise
        # Its remedy is for who made the file; where it is staged is of no use to anyone.
        raise _misfit(str(error).replace(f"{directory}/", "")) from error
    return source


def _check_model(path: Path, manifest: Manifest) -> Source:
    """The model passes the checks of pack and has the interfaces that the manifest names."""
    if manifest.engine.batch_max > BATCH_LIMIT:
        raise _misfit(f"batch_max is {manifest.engine.batch_max}, over {BATCH_LIMIT}")
    source = open_sealed(path)
    engine = interface_of(source, manifest.engine.batch_max, axes_of(manifest.engine))
    if engine != manifest.engine:
        raise _misfit("the model has another interface than its manifest says")
    if served_interface(manifest.recipe, manifest.stateless) != manifest.served:
        raise _misfit("recipe and model make another served interface than the manifest says")
    return source


def _check_golden(golden: Golden, manifest: Manifest) -> None:
    inputs = _check_rows("golden inputs", golden.inputs, manifest.served.inputs)
    outputs = _check_rows("golden outputs", golden.outputs, manifest.stateless.outputs)
    if inputs != outputs:
        raise _misfit(f"there are {inputs} rows of golden inputs and {outputs} of outputs")


def _check_held_out(held_out: HeldOut, manifest: Manifest) -> None:
    _check_rows("held-out rows", held_out.inputs, manifest.served.inputs)
    check_acceptance(manifest.acceptance, manifest.stateless, held_out.truth)
    check_disturbances(
        manifest.disturbances, manifest.recipe, manifest.stateless, manifest.acceptance
    )


def _check_rows(what: str, arrays: Mapping[str, Array], specs: tuple[TensorSpec, ...]) -> int:
    """How many rows `arrays` have, which must be those of `specs`, each with the same rows."""
    wanted = {spec.name for spec in specs}
    if set(arrays) != wanted:
        raise _misfit(f"the {what} hold {sorted(arrays)}, not {sorted(wanted)}")
    misfits = [spec.name for spec in specs if not rows_fit(spec, arrays[spec.name])]
    if misfits:
        raise _misfit(f"the {what} {misfits} are of another type or shape")
    counts = {len(array) for array in arrays.values()}
    if len(counts) != 1 or 0 in counts:
        raise _misfit(f"the {what} have {sorted(counts)} rows, not the same number, 1 or more")
    return counts.pop()


def _misfit(what: str) -> BundleContent:
    return BundleContent(f"the bundle contradicts itself: {what}", remedy=_PACK_AGAIN)
