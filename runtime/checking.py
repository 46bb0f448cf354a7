"""Whether a request fits an interface. Pure.

Knows: names, datatypes and shapes of inputs. Rules: the texts are those of Triton, which clients match on;
what a sender most likely meant is told. Leaves to others: reading the request (`runtime.codec`), answering.
"""

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from itertools import islice

from appliance.errors import RequestError
from appliance.tables import nearest
from appliance.tensors import Interface, TensorSpec
from runtime.codec import Call, Head, Wanted, wanted_outputs

NAME_CHARACTERS_MAX = 100  # of a name in a refusal
NAMES_SHOWN_MAX = 16


@dataclass(slots=True, kw_only=True)
class Checked:
    """What a request that fits asks for; the same for all requests of one header.

    `key` is the batch key of its shapes, None until it is known.
    """

    heads: Mapping[str, Head]
    rows: int
    wanted: tuple[Wanted, ...]
    key: Hashable | None = None


def check_request(call: Call, heads: Mapping[str, Head], interface: Interface) -> Checked:
    """What `call`, with inputs of `heads`, asks of `interface`. Raises RequestError or RequestLimit."""
    rows = check_inputs(heads, interface, model=call.model)
    return Checked(heads=heads, rows=rows, wanted=wanted_outputs(call, interface))


def check_inputs(heads: Mapping[str, Head], interface: Interface, *, model: str) -> int:
    """Check names, datatypes and shapes of a request's inputs and return its number of rows.

    Raises RequestError or RequestLimit in the words of Triton, which clients match on.
    """
    wanted = [spec.name for spec in interface.inputs]
    missing = [name for name in wanted if name not in heads]
    unknown = next((name for name in heads if name not in wanted), None)
    if unknown is not None:
        raise _misfit(
            f"unexpected inference input '{unknown}' for model '{model}'"
            + _meant(unknown, missing, wanted),
            interface,
        )
    if missing:
        raise _misfit(
            f"expected {len(wanted)} inputs but got {len(heads)} inputs for model '{model}'. "
            f"Got input(s) {_listed(heads)}, but missing required input(s) {_listed(missing)}. "
            "Please provide all required input(s).",
            interface,
        )
    rows = {_check_one(heads[spec.name], spec, interface, model) for spec in interface.inputs}
    if len(rows) > 1:
        raise _misfit(
            f"inputs of model '{model}' disagree in batch-size: {sorted(rows)}", interface
        )
    return rows.pop()


def _check_one(head: Head, spec: TensorSpec, interface: Interface, model: str) -> int:
    if head.datatype is not spec.datatype:
        raise _misfit(
            f"inference input '{spec.name}' data-type is '{head.datatype}', "
            f"but model '{model}' expects '{spec.datatype}'",
            interface,
        )
    return interface.check_shape(spec, head.shape, model=model)


def _meant(unknown: str, missing: list[str], wanted: list[str]) -> str:
    """What the sender of an unknown input most likely meant, and what is missing."""
    near = nearest(unknown, missing) or nearest(unknown, wanted)
    meant = f"; did you mean '{near}'?" if near else ""
    return f"{meant}; missing input(s) {_listed(missing)}" if missing else meant


def _listed(names: Collection[str]) -> str:
    """Names as Triton lists them; a status text has little room, so only so many."""
    shown = [name[:NAME_CHARACTERS_MAX] for name in islice(names, NAMES_SHOWN_MAX)]
    more = len(names) - len(shown)
    return f"{shown} and {more} more" if more else f"{shown}"


def _misfit(message: str, interface: Interface) -> RequestError:
    wants = ", ".join(
        f"{spec.name} {spec.datatype} {list(interface.wire_shape(spec))}"
        for spec in interface.inputs
    )
    return RequestError(message, remedy=f"send {wants}")
