"""The reference: the model as it was received, run in fp32 without any optimisation.

Knows: how raw rows become engine inputs and reference outputs. Rules: ONNX Runtime on one thread, nothing
optimised, so that equal rows give equal bytes; a model that was rewritten to be sealed is compared with the
one received. Leaves to others: what is made of the outputs (`sealing`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from appliance.errors import (
    EngineError,
    GoldenMissed,
    RequestError,
    SourceUnsupported,
    SpecError,
)
from appliance.fitting import from_raw
from appliance.golden import Golden, check_golden, rows_fit
from appliance.manifest import Tolerance
from appliance.recipe import Recipe
from appliance.states import State, beginning, state_specs
from appliance.tensors import Array, Interface, blank, shapes_to_try
from compiler.opening.batching import NAMED_MAX
from compiler.opening.graph import edges
from compiler.opening.source import Source
from compiler.rows.samples import Rows
from compiler.starting import FromStart
from runtime.engines.libraries import onnxruntime
from runtime.engines.loading import library_text
from runtime.engines.onnxruntime_cpu import OnnxRuntimeEngine, plain_options
from runtime.kernels.chain import Chain


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One engine call: its inputs and outputs as the engine takes and gives them."""

    prepared: dict[str, Array]
    outputs: dict[str, Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One row of a sequence: the states before it, by the engine's input names, and what came out, states too.

    Arrays have a row in front where the engine's have.
    """

    before: dict[str, Array]
    after: dict[str, Array]


class Reference:
    """The model of `source` behind the recipe's steps, fed with raw rows."""

    def __init__(
        self, source: Source, recipe: Recipe, engine: Interface, *, states: tuple[State, ...] = ()
    ) -> None:
        """Open the model; every row begins a sequence. Raises SourceUnsupported when ONNX Runtime does not run it."""
        self._source, self._whole, self._states = source, engine, states
        self._engine = self._open(source.data)
        self._chain = Chain(from_raw(recipe), engine=self._engine.interface)

    def calls(self, rows: Rows) -> Iterator[Call]:
        """Run all rows in order: `batch_max` a call, or one without a batch axis.

        Raises SourceUnsupported when the model fails on them or gives other shapes than it declares,
        SpecError when the recipe does not take them.
        """
        return self._calls(rows, self._engine.interface.batch_max or 1)

    def calls_alone(self, rows: Rows) -> Iterator[Call]:
        """Run all rows in order, each in a call of its own; raises as `calls`."""
        return self._calls(rows, 1)

    def steps(self, rows: Rows) -> Iterator[Step]:
        """Run all rows as one sequence, each with the states that the one before left.

        Raises SpecError or SourceUnsupported as `calls`.
        """
        whole = OnnxRuntimeEngine(_session(self._source.data), self._whole)
        specs = state_specs(self._whole, self._states)
        row = 1 if self._whole.batch_max else None
        states = {spec.name: beginning(spec, row) for spec in specs}
        for call in self.calls_alone(rows):
            before = states
            after = whole.run({**call.prepared, **before})
            states = {state.input: after[state.output] for state in self._states}
            yield Step(before=before, after=after)

    def stacked(self, rows: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
        """Outputs of single rows, by name, as those of all, rows in front."""
        return {name: self._join([row[name] for row in rows]) for name in rows[0]}

    def check_rewritten(self, rows: Rows, tolerance: Tolerance) -> None:
        """Compare the model that is sealed, in batches, with the one received, row by row.

        Raises SourceUnsupported when an answer is another one; there is nothing to do where nothing was
        rewritten.
        """
        if self._source.received is None:
            return
        received = self._open(self._source.received)
        for call in self.calls(rows):
            try:
                alone = [received.run(row) for row in self._alone(call.prepared)]
                outputs = {name: self._join([row[name] for row in alone]) for name in call.outputs}
                check_golden(
                    self._with_rows(call.outputs),
                    Golden(inputs=call.prepared, outputs=outputs),
                    tolerance,
                )
            except (EngineError, GoldenMissed) as error:
                raise SourceUnsupported(
                    "the model does not answer as it was received once it is rewritten to be sealed: "
                    f"{error}{self._culprits()}",
                    remedy="leave open_batch out, or export the model with a dynamic first axis and "
                    "without functions",
                ) from error

    def check_lengths(self) -> None:
        """Run the model at the ends of its axes' ranges. Raises SourceUnsupported or SpecError naming the lengths."""
        interface = self._engine.interface
        for shapes in shapes_to_try(interface):
            rows = (1,) if interface.batch_max else ()
            told = ", ".join(f"'{name}' {list(shape)}" for name, shape in shapes.items())
            try:
                inputs = {
                    spec.name: blank((*rows, *shapes[spec.name]), spec.datatype)
                    for spec in interface.inputs
                }
            except ValueError as error:
                raise SpecError(
                    f"[model.axes] allows {told}, more than an array can hold",
                    remedy="give smaller lengths as max",
                ) from error
            try:
                outputs = self._engine.run(inputs)
            except EngineError as error:
                raise SourceUnsupported(
                    f"the model fails at {told}, within [model.axes]: {error}",
                    remedy="narrow the range, or set its step to what the model needs",
                ) from error
            self._check_outputs(outputs, 1)

    def joined(self, calls: Iterator[Call]) -> Call:
        """Many calls as one, rows in front also for a model without a batch axis."""
        done = list(calls)
        return Call(
            prepared={
                name: self._join([c.prepared[name] for c in done]) for name in done[0].prepared
            },
            outputs={name: self._join([c.outputs[name] for c in done]) for name in done[0].outputs},
        )

    def _open(self, model: bytes) -> FromStart:
        return FromStart(OnnxRuntimeEngine(_session(model), self._whole), self._states)

    def _calls(self, rows: Rows, rows_max: int) -> Iterator[Call]:
        batched = self._engine.interface.batch_max > 0
        for start in range(0, rows.count, rows_max):
            part = rows.part(slice(start, start + rows_max)).inputs
            yield self._call(part if batched else {n: a[0, ...] for n, a in part.items()})

    def _call(self, inputs: dict[str, Array]) -> Call:
        try:
            shapes = self._chain.prepared_shape(inputs)
            prepared = {
                spec.name: np.empty(shapes[spec.name], spec.datatype.numpy)
                for spec in self._engine.interface.inputs
            }
            self._chain.before(inputs, prepared)
            outputs = self._engine.run(prepared)
        except RequestError as error:
            raise SpecError(
                f"a row of the data files is none that could be served: {error}",
                remedy=error.remedy,
            ) from error
        except EngineError as error:
            raise SourceUnsupported(
                f"the model fails on the sample: {error}{self._culprits()}",
                remedy="check the recipe and that the model runs on such rows",
            ) from error
        rows = len(next(iter(inputs.values()))) if self._engine.interface.batch_max else 1
        self._check_outputs(outputs, rows)
        return Call(prepared=prepared, outputs=outputs)

    def _alone(self, prepared: dict[str, Array]) -> Iterator[dict[str, Array]]:
        """Each row of a call as a call of its own."""
        return (
            rows_apart(prepared, batched=True)
            if self._engine.interface.batch_max
            else iter([prepared])
        )

    def _with_rows(self, outputs: dict[str, Array]) -> dict[str, Array]:
        batched = self._engine.interface.batch_max > 0
        return outputs if batched else {name: array[None] for name, array in outputs.items()}

    def _culprits(self) -> str:
        """The nodes that may be why a batch does not go through, as the end of a message."""
        found = edges(self._source).hard_coded if self._engine.interface.batch_max else ()
        return f" ({'; '.join(map(str, found[:NAMED_MAX]))})" if found else ""

    def _check_outputs(self, outputs: dict[str, Array], rows: int) -> None:
        """What came out against what the graph declares; `rows` went in when there is a batch axis."""
        interface = self._engine.interface
        for spec in interface.outputs:
            array = outputs[spec.name]
            if interface.batch_max and array.shape[:1] != (rows,):
                raise SourceUnsupported(
                    f"output '{spec.name}' has shape {list(array.shape)} for {rows} rows: "
                    f"its first axis does not follow the inputs'{self._culprits()}",
                    remedy="set batch_max = 0 in the spec to serve one request at a time",
                )
            if not rows_fit(spec, array if interface.batch_max else array[None]):
                raise SourceUnsupported(
                    f"output '{spec.name}' is {array.dtype} {list(array.shape)}, the graph declares "
                    f"{spec.datatype} {list(interface.wire_shape(spec))}",
                    remedy="export the model with the shapes that it computes",
                )

    def _join(self, arrays: list[Array]) -> Array:
        join = np.concatenate if self._engine.interface.batch_max else np.stack
        try:
            return join(arrays)
        except ValueError as error:
            raise SourceUnsupported(
                f"the shape of a tensor depends on its values: {arrays[0].shape} and others",
                remedy="give the model outputs of one shape",
            ) from error


def rows_apart(rows: Mapping[str, Array], *, batched: bool) -> Iterator[dict[str, Array]]:
    """Each of the rows as a request of its own; unless `batched`, without their axis."""
    for at in range(len(next(iter(rows.values())))):
        part = slice(at, at + 1) if batched else (at, ...)
        yield {name: array[part] for name, array in rows.items()}


def check_runs(source: Source) -> None:
    """Raise SourceUnsupported when ONNX Runtime cannot open the model."""
    _session(source.data)


def _session(data: bytes) -> Any:
    library = onnxruntime()
    try:
        return library.InferenceSession(data, plain_options(), providers=["CPUExecutionProvider"])
    except Exception as error:  # the library's errors share no base class
        raise SourceUnsupported(
            f"ONNX Runtime cannot run the model: {library_text(error)}",
            remedy="export it with operators and an opset that ONNX Runtime supports",
        ) from error
