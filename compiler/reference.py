"""The reference: the model as it was received, run in fp32 without any optimisation.

Knows: how raw rows become engine inputs and reference outputs. Rules: ONNX Runtime on one thread, no graph
rewritten, so that equal rows give equal bytes. Leaves to others: what is made of the outputs (`pack`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import numpy as np

from appliance.errors import EngineError, SourceUnsupported
from appliance.fitting import served_interface
from appliance.golden import rows_fit
from appliance.recipe import Accepts, Recipe
from appliance.tensors import Array, Interface
from compiler.samples import Rows
from compiler.source import Source
from runtime.engines.libraries import onnxruntime
from runtime.engines.onnxruntime_cpu import OnnxRuntimeEngine, session_options
from runtime.kernels.chain import Chain


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One engine call: its inputs and outputs as the engine takes and gives them."""

    prepared: dict[str, Array]
    outputs: dict[str, Array]


class Reference:
    """The model of `source` behind the recipe's steps, fed with raw rows."""

    def __init__(self, source: Source, recipe: Recipe, engine: Interface) -> None:
        """Open the model. Raises SourceUnsupported when ONNX Runtime does not run it."""
        from_raw = _from_raw(recipe)
        served = served_interface(from_raw, engine)
        self._chain = Chain(from_raw, served=served, engine=engine)
        self._engine = _open(source, engine)

    def calls(self, rows: Rows) -> Iterator[Call]:
        """Run all rows in order: `batch_max` a call, or one without a batch axis.

        Raises SourceUnsupported when the model fails on them or gives other shapes than it declares.
        """
        return self._calls(rows, self._engine.interface.batch_max or 1)

    def calls_alone(self, rows: Rows) -> Iterator[Call]:
        """Run all rows in order, each in a call of its own; raises as `calls`."""
        return self._calls(rows, 1)

    def joined(self, calls: Iterator[Call]) -> Call:
        """Many calls as one, rows in front also for a model without a batch axis."""
        done = list(calls)
        return Call(
            prepared={
                name: self._join([c.prepared[name] for c in done]) for name in done[0].prepared
            },
            outputs={name: self._join([c.outputs[name] for c in done]) for name in done[0].outputs},
        )

    def _calls(self, rows: Rows, rows_max: int) -> Iterator[Call]:
        batched = self._engine.interface.batch_max > 0
        for start in range(0, rows.count, rows_max):
            part = rows.part(slice(start, start + rows_max)).inputs
            yield self._call(part if batched else {n: a[0] for n, a in part.items()})

    def _call(self, inputs: dict[str, Array]) -> Call:
        shapes = self._chain.prepared_shape(inputs)
        prepared = {
            spec.name: np.empty(shapes[spec.name], spec.datatype.numpy)
            for spec in self._engine.interface.inputs
        }
        self._chain.before(inputs, prepared)
        try:
            outputs = self._engine.run(prepared)
        except EngineError as error:
            raise SourceUnsupported(
                f"the model fails on the sample: {error}",
                remedy="check the recipe and that the model runs on such rows",
            ) from error
        _check_outputs(outputs, self._engine.interface, len(next(iter(prepared.values()))))
        return Call(prepared=prepared, outputs=outputs)

    def _join(self, arrays: list[Array]) -> Array:
        join = np.concatenate if self._engine.interface.batch_max else np.stack
        try:
            return join(arrays)
        except ValueError as error:
            raise SourceUnsupported(
                f"the shape of a tensor depends on its values: {arrays[0].shape} and others",
                remedy="give the model outputs of one shape",
            ) from error


def _from_raw(recipe: Recipe) -> Recipe:
    """The recipe for raw rows, also where clients send prepared tensors."""
    inputs = tuple(msgspec.structs.replace(item, accepts=Accepts.RAW) for item in recipe.inputs)
    return msgspec.structs.replace(recipe, inputs=inputs)


def _open(source: Source, interface: Interface) -> OnnxRuntimeEngine:
    library, options = onnxruntime(), session_options(1)
    options.graph_optimization_level = library.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.use_deterministic_compute = True
    try:
        session = library.InferenceSession(source.data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library's errors share no base class
        text = " ".join(str(error).split())[-300:]
        raise SourceUnsupported(
            f"ONNX Runtime cannot run the model: {text}",
            remedy="export it with operators and an opset that ONNX Runtime supports",
        ) from error
    return OnnxRuntimeEngine(session, interface)


def _check_outputs(outputs: dict[str, Array], interface: Interface, rows: int) -> None:
    """What came out against what the graph declares; `rows` went in when there is a batch axis."""
    for spec in interface.outputs:
        array = outputs[spec.name]
        if interface.batch_max and array.shape[:1] != (rows,):
            raise SourceUnsupported(
                f"output '{spec.name}' has shape {list(array.shape)} for {rows} rows: "
                "its first axis does not follow the inputs'",
                remedy="set batch_max = 0 in the spec to serve one request at a time",
            )
        if not rows_fit(spec, array if interface.batch_max else array[None]):
            raise SourceUnsupported(
                f"output '{spec.name}' is {array.dtype} {list(array.shape)}, the graph declares "
                f"{spec.datatype} {list(interface.wire_shape(spec))}",
                remedy="export the model with the shapes that it computes",
            )
