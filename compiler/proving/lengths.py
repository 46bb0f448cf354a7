"""Golden rows at the other lengths of open axes, with the reference's outputs for them.

Knows: how rows of one length become rows of another: their values over again, or cut. Rules: only models with
ranges have such rows; they are made where the engine is built, from the model in the bundle, so that a bundle
stays small; a length that the recipe never makes is left out, for no client reaches it. Leaves to others:
comparing (`comparison`), which lengths are tried (`appliance.tensors`).
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from appliance.errors import SpecError
from appliance.fitting import sent_specs, trace
from appliance.golden import Golden
from appliance.manifest import MODEL_FILE, Manifest
from appliance.recipe import Accepts, InputRecipe, Recipe
from appliance.tensors import Array, TensorSpec, shapes_to_try
from compiler.opening.source import open_sealed
from compiler.reference import Reference
from compiler.rows.samples import Rows


def golden_at_lengths(
    golden: Golden, directory: Path, manifest: Manifest
) -> Iterator[tuple[str, Golden]]:
    """Golden vectors at each other length of an extracted bundle in `directory`, and the length in words.

    Raises SourceUnsupported when the reference fails at a length within the ranges.
    """
    engine = manifest.stateless
    tried = shapes_to_try(engine)
    if not tried:
        return
    source = open_sealed(directory / MODEL_FILE)
    reference = Reference(source, as_sent(manifest.recipe), manifest.engine, states=manifest.states)
    for shapes in tried:
        inputs = {
            sent.name: _resized(
                golden.inputs[sent.name], _lengths(item, spec, sent, shapes[spec.name])
            )
            for spec in engine.inputs
            for item in (manifest.recipe.input_for(spec.name),)
            for sent in sent_specs(item, spec)
        }
        if all(array.shape == golden.inputs[name].shape for name, array in inputs.items()):
            continue
        try:
            call = reference.joined(reference.calls(Rows(inputs=inputs)))
        except SpecError:
            continue  # the recipe does not make these lengths
        told = ", ".join(f"{name} {list(array.shape[1:])}" for name, array in inputs.items())
        yield told, Golden(inputs=inputs, outputs=call.outputs)


def as_sent(recipe: Recipe) -> Recipe:
    """The recipe without the inputs that clients prepare themselves."""
    raw = tuple(item for item in recipe.inputs if item.accepts is not Accepts.PREPARED)
    return msgspec.structs.replace(recipe, inputs=raw)


def _lengths(
    item: InputRecipe | None, spec: TensorSpec, sent: TensorSpec, wanted: tuple[int, ...]
) -> tuple[int, ...]:
    """The lengths to send so that the engine's input has those `wanted`; -1 where they stay."""
    if item is None or sent == spec:
        return wanted
    if len(sent.shape) != len(wanted):
        return (-1,) * len(sent.shape)
    if trace(item)[-1].order == "CHW":
        wanted = (*wanted[1:], wanted[0])
    return tuple(
        length if given == -1 else -1 for given, length in zip(sent.shape, wanted, strict=True)
    )


def _resized(rows: Array, lengths: tuple[int, ...]) -> Array:
    """The rows with other lengths behind the first axis."""
    for axis, length in enumerate(lengths, start=1):
        if length not in (-1, rows.shape[axis]) and rows.shape[axis]:
            rows = rows.take(np.arange(length) % rows.shape[axis], axis=axis)
    return rows
