"""States that a model keeps between the requests of a sequence. Pure.

Knows: which output of an engine is which of its inputs in the next request. Rules: a state is no part of
what clients see; at a sequence's start it is zeros; its shape is fixed, so that what it takes is known before.
Leaves to others: whose state it is (`runtime.sequences`), computing it (`runtime.servable`).
"""

import math

import msgspec

from appliance.errors import SpecError
from appliance.tensors import Array, DataType, Interface, TensorName, TensorSpec, blank


class State(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One state: what the engine gives as `output` it takes as `input` with the sequence's next request."""

    input: TensorName
    output: TensorName


def stateless(engine: Interface, states: tuple[State, ...]) -> Interface:
    """The `engine`'s interface without its states: what recipes, golden rows and clients work with.

    Raises SpecError when a state is not in the engine, is named twice, has texts, or has an output of
    another datatype or shape than its input or one with an open axis; or when nothing else is left.
    """
    if not states:
        return engine
    taken = {state.input for state in states}, {state.output for state in states}
    if min(map(len, taken)) < len(states):
        raise _wrong("a tensor is named by two states", "give each state an input and an output")
    for state in states:
        _check(state, engine)
    inputs = tuple(spec for spec in engine.inputs if spec.name not in taken[0])
    outputs = tuple(spec for spec in engine.outputs if spec.name not in taken[1])
    if not inputs or not outputs:
        raise _wrong("nothing is left beside the states", "leave an input and an output to clients")
    return Interface(inputs=inputs, outputs=outputs, batch_max=engine.batch_max)


def state_specs(engine: Interface, states: tuple[State, ...]) -> tuple[TensorSpec, ...]:
    """The engine's inputs that are states, in the order of `states`, each of which it has."""
    by_name = {spec.name: spec for spec in engine.inputs}
    return tuple(by_name[state.input] for state in states)


def state_bytes(specs: tuple[TensorSpec, ...]) -> int:
    """How many bytes the states of one sequence have."""
    return sum(math.prod(spec.shape) * spec.datatype.numpy.itemsize for spec in specs)


def beginning(spec: TensorSpec, rows: int | None) -> Array:
    """The state `spec` at the start of `rows` sequences, zeros (rows, *shape); None: without an axis of rows."""
    return blank(spec.shape if rows is None else (rows, *spec.shape), spec.datatype)


def _check(state: State, engine: Interface) -> None:
    taken, given = engine.input(state.input), engine.output(state.output)
    if taken is None or given is None:
        name = state.input if taken is None else state.output
        known = engine.inputs if taken is None else engine.outputs
        raise _wrong(
            f"the model has no {'input' if taken is None else 'output'} '{name}' for a state",
            f"use one of {', '.join(spec.name for spec in known)}",
        )
    if (taken.datatype, taken.shape) != (given.datatype, given.shape):
        raise _wrong(
            f"the state '{taken.name}' is {taken.datatype} {list(taken.shape)}, "
            f"'{given.name}' is {given.datatype} {list(given.shape)}",
            "name an output of the input's datatype and shape",
        )
    if -1 in taken.shape or taken.datatype is DataType.BYTES:
        raise _wrong(
            f"the state '{taken.name}' is {taken.datatype} {list(taken.shape)}",
            "give states numbers and a fixed shape",
        )


def _wrong(message: str, remedy: str) -> SpecError:
    return SpecError(message, remedy=remedy)
