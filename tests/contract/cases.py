"""The cases of onnx.backend.test, as the installed onnx package ships them.

Knows: where the package keeps them and what a case holds. Rules: equal packages give equal cases (the
package draws its inputs from numpy's global generator, which is seeded here and put back); nothing is
fetched. Leaves to others: running them.

Kinds: `node` (made by the package at import, one operator each or its function expanded), `simple`
(small models), `pytorch-operator` and `pytorch-converted` (small exports of 2017). The kind `real` is
nine networks for image classification without their weights; it is left out.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

KINDS = ("node", "simple", "pytorch-operator", "pytorch-converted")
SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One model with sets of inputs and expected outputs, each in the order of its graph.

    A value is an array, a list of values (a sequence) or None (an optional that holds nothing).
    """

    name: str
    kind: str
    model: bytes
    operators: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    sets: tuple[tuple[Sequence[Any], Sequence[Any]], ...]
    rtol: float
    atol: float


@cache
def all_cases() -> tuple[Case, ...]:
    """Every case, kinds in the order of KINDS, names sorted."""
    before = np.random.get_state()  # noqa: NPY002 - the generator that the package itself uses
    np.random.seed(SEED)  # noqa: NPY002
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some inputs overflow on purpose
            found = [(kind, item) for kind in KINDS for item in load_model_tests(kind=kind)]
    finally:
        np.random.set_state(before)  # noqa: NPY002
    cases = [_case(kind, item) for kind, item in found]
    return tuple(sorted(cases, key=lambda case: (KINDS.index(case.kind), case.name)))


def one_an_operator(cases: Sequence[Case]) -> list[Case]:
    """For every operator the first case that is made of it alone, and every simple model."""
    first: dict[tuple[str, ...], Case] = {}
    for case in cases:
        if case.kind == "node" and len(case.operators) == 1:
            first.setdefault(case.operators, case)
    return [*first.values(), *(case for case in cases if case.kind == "simple")]


def _case(kind: str, item: Any) -> Case:
    if item.model_dir is None:
        model, sets = item.model, tuple((_plain(i), _plain(o)) for i, o in item.data_sets)
    else:
        directory = Path(item.model_dir)
        model = onnx.load(directory / "model.onnx")
        sets = tuple(
            (_kept(path, "input", model.graph.input), _kept(path, "output", model.graph.output))
            for path in sorted(directory.glob("test_data_set_*"))
        )
    constants = {tensor.name for tensor in model.graph.initializer}
    return Case(
        name=item.name,
        kind=kind,
        model=model.SerializeToString(),
        operators=tuple(node.op_type for node in model.graph.node),
        inputs=tuple(info.name for info in model.graph.input if info.name not in constants),
        outputs=tuple(info.name for info in model.graph.output),
        sets=sets,
        rtol=item.rtol,
        atol=item.atol,
    )


def _plain(values: Sequence[Any]) -> list[Any]:
    return [
        numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value
        for value in values
    ]


def _kept(directory: Path, what: str, infos: Sequence[onnx.ValueInfoProto]) -> list[Any]:
    """The values in `directory`, each in the message of its declared type."""
    count = len(list(directory.glob(f"{what}_*.pb")))
    return [
        _value((directory / f"{what}_{at}.pb").read_bytes(), infos[at].type) for at in range(count)
    ]


def _value(data: bytes, kind: onnx.TypeProto) -> Any:
    match kind.WhichOneof("value"):
        case "sequence_type":
            return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
        case "optional_type":
            return numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
        case _:
            return numpy_helper.to_array(onnx.TensorProto.FromString(data))
