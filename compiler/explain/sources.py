"""Where the rows come from that an explanation follows.

Knows: a spec with its sample, a bundle and a stored version with their golden rows. Rules: a spec needs no model,
so that a recipe can be looked at before there is one; a bundle is verified before it is read. Leaves to
others: what becomes of the rows (`explain`).
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import msgspec

from appliance.errors import BundleContent, SpecError
from appliance.fitting import from_raw, raw_specs, trace
from appliance.golden import Golden, load_arrays, rows_fit
from appliance.manifest import GOLDEN_FILE, Manifest
from appliance.recipe import Recipe
from appliance.store import StoredVersion
from appliance.tensors import Interface, TensorSpec, datatype_of
from appliance.trust import TrustStore
from compiler.explain import Rows
from compiler.intake import take_in
from compiler.rows.samples import read_rows
from compiler.rows.truth import is_truth
from compiler.spec import read_spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A recipe, the engine inputs that it makes and rows as clients send them."""

    recipe: Recipe
    engine: Interface
    rows: Rows


def spec_sample(path: Path) -> Sample:
    """The recipe of the spec at `path` with its sample. Raises SpecError, RecipeError."""
    spec = read_spec(path)
    recipe, file = from_raw(spec.full_recipe()), path.parent / spec.data.sample
    made = [
        (item, msgspec.structs.replace(trace(item)[-1].spec, name=item.feeds))
        for item in recipe.inputs
    ]
    raw = [each for item, engine in made for each in raw_specs(item, engine)]
    others = _other_inputs(file, {each.name for each in raw})
    rows = read_rows(file, [*raw, *others])
    inputs = (*(engine for _, engine in made), *others)
    return Sample(
        recipe=recipe, engine=Interface(inputs=inputs, outputs=(), batch_max=1), rows=rows.inputs
    )


def bundle_sample(path: Path, trust: Path) -> Sample:
    """The golden rows of the bundle at `path`, signed by a key in `trust`. Raises BundleError."""
    signers = TrustStore.read(trust)
    signers.require_someone()
    with tempfile.TemporaryDirectory() as directory:
        manifest = take_in(path, signers.keys(), Path(directory)).manifest
        return _golden_sample(manifest, Golden.load(Path(directory) / GOLDEN_FILE))


def version_sample(stored: StoredVersion) -> Sample:
    """The golden rows of a stored version. Raises StoreError."""
    return _golden_sample(stored.manifest, Golden.load(stored.directory / GOLDEN_FILE))


def _other_inputs(file: Path, known: set[str]) -> list[TensorSpec]:
    """Engine inputs without a recipe: the sample's other arrays, taken as they are."""
    specs = []
    for name, array in load_arrays(file, SpecError).items():
        datatype = datatype_of(array.dtype)
        if name not in known and not is_truth(name) and datatype is not None and array.ndim:
            specs.append(TensorSpec(name=name, datatype=datatype, shape=array.shape[1:]))
    return specs


def _golden_sample(manifest: Manifest, golden: Golden) -> Sample:
    for spec in manifest.served.inputs:
        if spec.name not in golden.inputs or not rows_fit(spec, golden.inputs[spec.name]):
            raise BundleContent(
                f"the golden rows of '{spec.name}' are not as the manifest says",
                remedy="pack it again with this release",
            )
    return Sample(recipe=manifest.recipe, engine=manifest.stateless, rows=golden.inputs)
