"""The parameters of requests, inputs and outputs.

Knows: which parameters have a meaning, of which type each is, and the texts of Triton, which clients match
on. Rules: `asked` and `requested` never fail and take a wrong value as not given, so that a refusal can
be recorded with who asked; `check` refuses it. Leaves to others: acting on them.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from runtime.codec.call import Placement, Requested, Sequence, invalid

_EMPTY_FINAL = "triton_enable_empty_final_response"
_REGION = "shared_memory_region"
_OFFSET = "shared_memory_offset"
_BYTE_SIZE = "shared_memory_byte_size"
_CLASSIFICATION = "classification"
# Name: the kinds it may have and how Triton tells of them.
_TYPES: dict[str, tuple[tuple[str, ...], str]] = {
    "sequence_id": (("int64_param", "string_param"), "int64_param or string_param."),
    "sequence_start": (("bool_param",), "bool_param."),
    "sequence_end": (("bool_param",), "bool_param."),
    "priority": (("int64_param", "uint64_param"), "int64_param or uint64_param."),
    "timeout": (("int64_param",), "int64_param."),
    _EMPTY_FINAL: (("bool_param",), "bool_param."),  # every reply is its request's last and says so
}
# Of those without a meaning here, which are taken and passed over.
_OWN = (
    ("bool_param", "int64_param", "string_param", "double_param"),
    "int64_param, bool_param, or string_param.",
)


class Asked(NamedTuple):
    """The request's own parameters (see `runtime.codec.call.Call`)."""

    timeout_us: int = 0
    priority: int = 0
    sequence: Sequence | None = None


NOTHING_ASKED = Asked()


def asked(request: Any) -> Asked:
    """The parameters of a ModelInferRequest that have a meaning here; never fails."""
    values = {
        name: _value(parameter)
        for name, parameter in request.parameters.items()
        if name in _TYPES and parameter.WhichOneof("parameter_choice") in _TYPES[name][0]
    }
    if not values:
        return NOTHING_ASKED
    sequence = values.get("sequence_id", 0)
    start, end = bool(values.get("sequence_start", 0)), bool(values.get("sequence_end", 0))
    return Asked(
        timeout_us=max(int(values.get("timeout", 0)), 0),
        priority=max(int(values.get("priority", 0)), 0),
        sequence=Sequence(sequence, start, end) if sequence else None,
    )


def requested(request: Any) -> tuple[Requested, ...]:
    """The outputs that a ModelInferRequest names; never fails."""
    return tuple(
        Requested(output.name, *_form(output)) if output.parameters else Requested(output.name)
        for output in request.outputs
    )


def check(request: Any) -> None:
    """Refuse, with RequestError, what `asked` and `requested` pass over."""
    for name, parameter in request.parameters.items():
        _check_one(name, parameter)
    for output in request.outputs:
        if not output.parameters:
            continue
        placed = placement(output)
        if _CLASSIFICATION in output.parameters:
            _check_classes(output.parameters[_CLASSIFICATION])
            if placed:
                raise invalid("output can't set both 'shared_memory_region' and 'classification'")


def placement(tensor: Any) -> Placement | None:
    """Where an input's or output's data is in shared memory, None when it is in the message.

    Raises RequestError on parameters that are incomplete or of a wrong type.
    """
    given = tensor.parameters
    for name in (_OFFSET, _BYTE_SIZE):
        if name in given and _REGION not in given:
            raise invalid(
                f"'{name}' can not be specified without '{_REGION}' "
                f"parameter for tensor '{tensor.name}'"
            )
    if _REGION not in given:
        return None
    for name, kind in _memory_kinds(given):
        if given[name].WhichOneof("parameter_choice") != kind:
            raise invalid(
                f"invalid value type for '{name}' parameter for tensor '{tensor.name}', "
                f"expected {kind}."
            )
    if _BYTE_SIZE not in given:
        raise invalid(
            f"'{_BYTE_SIZE}' must be specified along with '{_REGION}' "
            f"parameter for tensor '{tensor.name}'"
        )
    offset = given[_OFFSET].int64_param if _OFFSET in given else 0
    byte_size = given[_BYTE_SIZE].int64_param
    if offset < 0 or byte_size < 0:
        raise invalid(
            f"'{_OFFSET}' and '{_BYTE_SIZE}' of tensor '{tensor.name}' must not be negative"
        )
    return Placement(given[_REGION].string_param, offset, byte_size)


def _memory_kinds(given: Any) -> Iterator[tuple[str, str]]:
    yield _REGION, "string_param"
    if _OFFSET in given:
        yield _OFFSET, "int64_param"
    if _BYTE_SIZE in given:
        yield _BYTE_SIZE, "int64_param"


def _form(output: Any) -> tuple[int, Placement | None]:
    """In which form an output is asked for, as far as its parameters are right."""
    classes = 0
    if _CLASSIFICATION in output.parameters:
        classes = max(output.parameters[_CLASSIFICATION].int64_param, 0)
    given = output.parameters
    if _REGION not in given:
        return classes, None
    offset = max(given[_OFFSET].int64_param, 0) if _OFFSET in given else 0
    byte_size = max(given[_BYTE_SIZE].int64_param, 0) if _BYTE_SIZE in given else 0
    return classes, Placement(given[_REGION].string_param, offset, byte_size)


def _check_one(name: str, parameter: Any) -> None:
    if name.startswith("triton_") and name != _EMPTY_FINAL:
        raise invalid(
            "parameter keys starting with 'triton_' are reserved for Triton usage. Only the "
            f"following keys starting with 'triton_' are allowed: {_EMPTY_FINAL}"
        )
    kinds, told = _TYPES.get(name, _OWN)
    kind = parameter.WhichOneof("parameter_choice")
    if kind not in kinds:
        raise invalid(f"invalid value type for '{name}' parameter, expected {told}")
    if name == "priority" and _value(parameter) < 0:
        raise invalid("invalid value for 'priority', expected value >= 0.")


def _check_classes(parameter: Any) -> None:
    if parameter.WhichOneof("parameter_choice") != "int64_param":
        raise invalid("invalid value type for 'classification' parameter, expected int64_param")
    if parameter.int64_param <= 0:
        raise invalid("invalid value for 'classification' parameter, expected >= 1")


def _value(parameter: Any) -> Any:
    return getattr(parameter, parameter.WhichOneof("parameter_choice"))
