"""What is made of the engineer's rows before they are sealed: golden vectors, profile, held-out rows.

Knows: which rows go where. Rules: everything is computed by the reference from raw rows; the layout of
the drift vector is fitted on the sample and the profile counted on the held-out rows, for a fit flatters
its own rows. Leaves to others: running rows (`reference`) and the bundle (`pack`).
"""

from collections.abc import Collection, Iterator, Mapping

import numpy as np

from appliance.errors import GoldenMissed, SourceUnsupported, SpecError
from appliance.fitting import sent_specs
from appliance.golden import Golden, check_golden
from appliance.layout import VectorLayout
from appliance.manifest import Acceptance, Precision, Tolerance
from appliance.profiles import Profile, profile_from_vectors
from appliance.proof import Reached
from appliance.recipe import Accepts, Recipe
from appliance.tensors import Array, Interface
from compiler.opening.source import Source
from compiler.precision.calibration import Ranges, calibrate
from compiler.progress import Progress
from compiler.proving.acceptance import reached
from compiler.reference import Call, Reference
from compiler.rows.held_out import HeldOut
from compiler.rows.samples import Rows
from compiler.spec import CalibrationTable
from runtime.kernels.vector import DriftVector
from runtime.kernels.vector_fit import fit_layout

LAYOUT_ROWS_MAX = 2048  # rows of the sample that the layout is fitted on


class Sealing:
    """The reference at work on the engineer's rows."""

    def __init__(
        self, reference: Reference, recipe: Recipe, engine: Interface, progress: Progress
    ) -> None:
        self._reference = reference
        self._recipe, self._engine = recipe, engine
        self._progress = progress

    def golden(self, sample: Rows, count: int, tolerance: Tolerance) -> tuple[Golden, VectorLayout]:
        """The first `count` rows with the reference's outputs, and the layout fitted on the sample.

        Raises SpecError when all these rows are alike, SourceUnsupported when their outputs depend on
        what else is in the batch.
        """
        if self._engine.batch_max > 1:
            _check_variety(sample.part(slice(count)))
        rows = sample.part(slice(max(count, LAYOUT_ROWS_MAX)))
        call = self._reference.joined(self._calls("running the sample", rows))
        inputs = self._served_rows(rows.inputs, call.prepared)
        golden = Golden(inputs=_first(inputs, count), outputs=_first(call.outputs, count))
        self._check_apart(sample.part(slice(count)), golden, tolerance)
        return golden, fit_layout(self._recipe, self._engine, call.prepared, call.outputs)

    def held_out(
        self, rows: Rows, layout: VectorLayout, acceptance: tuple[Acceptance, ...]
    ) -> tuple[HeldOut, Profile, tuple[Reached, ...]]:
        """The rows as served, their profile, and what the reference reached; ThresholdMissed."""
        vector, vectors, kept = DriftVector(layout), [], []
        sent = self._sent_prepared()
        wanted = {item.output for item in acceptance}
        for call in self._calls("running the held-out rows", rows):
            vectors.append(vector.compute(call.prepared, call.outputs))
            kept.append(
                Call(prepared=_only(call.prepared, sent), outputs=_only(call.outputs, wanted))
            )
        joined = self._reference.joined(iter(kept))
        values = reached(acceptance, joined.outputs, rows.truth)
        inputs = self._served_rows(rows.inputs, joined.prepared)
        profile = profile_from_vectors(layout, np.concatenate(vectors))
        return HeldOut(inputs=inputs, truth=rows.truth), profile, values

    def calibration(
        self, source: Source, sample: Rows, precision: Precision, table: CalibrationTable
    ) -> Ranges | None:
        """The ranges for int8, from the first rows of the sample as the engine takes them.

        None when the `precision` asked for needs none or the model has nothing that int8 would compute.
        Raises SpecError when int8 is asked for such a model; EngineBuild or SourceUnsupported, see `calibrate`.
        """
        if precision not in (Precision.INT8, Precision.AUTO):
            return None
        calls = self._calls("preparing the calibration rows", sample.part(slice(table.rows)))
        prepared = self._reference.joined(calls).prepared
        self._progress.stage("calibrating")
        ranges = calibrate(source, prepared, table.method, batch_max=self._engine.batch_max)
        if ranges is None and precision is Precision.INT8:
            raise SpecError(
                "the model has nothing that int8 would compute: no product or convolution",
                remedy="set precision to fp32 or auto in the spec",
            )
        return ranges

    def _check_apart(self, rows: Rows, golden: Golden, tolerance: Tolerance) -> None:
        """Refuse a model that answers the golden rows otherwise alone than among others."""
        if self._engine.batch_max <= 1:
            return
        alone = self._reference.joined(self._reference.calls_alone(rows))
        try:
            check_golden(alone.outputs, golden, tolerance)
        except GoldenMissed as error:
            raise SourceUnsupported(
                f"the model does not keep rows apart; for a row run alone, {error}",
                remedy="set batch_max = 0 in the spec to serve one request at a time",
            ) from error

    def _calls(self, stage: str, rows: Rows) -> Iterator[Call]:
        self._progress.stage(stage, rows.count)
        for call in self._reference.calls(rows):
            yield call
            self._progress.step(self._engine.batch_max or 1)

    def _sent_prepared(self) -> set[str]:
        """The engine inputs that clients send as they are."""
        items = {spec.name: self._recipe.input_for(spec.name) for spec in self._engine.inputs}
        return {
            name for name, item in items.items() if item is None or item.accepts is Accepts.PREPARED
        }

    def _served_rows(
        self, raw: Mapping[str, Array], prepared: Mapping[str, Array]
    ) -> dict[str, Array]:
        """The rows under the names and in the form that clients send."""
        as_they_are = self._sent_prepared()
        return {
            sent.name: prepared[spec.name] if spec.name in as_they_are else raw[sent.name]
            for spec in self._engine.inputs
            for sent in sent_specs(self._recipe.input_for(spec.name), spec)
        }


def _check_variety(golden: Rows) -> None:
    """Rows that are all alike cannot show whether a model keeps rows apart."""
    if all(
        np.array_equal(a, np.broadcast_to(a[:1], a.shape), equal_nan=a.dtype.kind == "f")
        for a in golden.inputs.values()
    ):
        raise SpecError(
            f"the golden rows, the first {golden.count} of the sample, are all alike",
            remedy="begin the sample with rows that differ and set golden_rows to 2 or more, "
            "or set batch_max = 0",
        )


def _first(arrays: Mapping[str, Array], count: int) -> dict[str, Array]:
    return {name: array[:count] for name, array in arrays.items()}


def _only(arrays: Mapping[str, Array], names: Collection[str]) -> dict[str, Array]:
    return {name: array for name, array in arrays.items() if name in names}
