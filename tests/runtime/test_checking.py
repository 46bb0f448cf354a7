"""Whether a request fits an interface, and what its sender is told."""

import pytest

from appliance.errors import RequestError
from appliance.tensors import DataType, Interface, TensorSpec
from runtime.checking import check_inputs
from runtime.codec import Head


def test_inputs_must_agree_in_rows():
    x = TensorSpec(name="x", datatype=DataType.FP32, shape=(1,))
    z = TensorSpec(name="z", datatype=DataType.FP32, shape=())
    two = Interface(inputs=(x, z), outputs=(), batch_max=4)
    heads = {"x": Head(DataType.FP32, (2, 1)), "z": Head(DataType.FP32, (3,))}
    with pytest.raises(RequestError, match=r"disagree in batch-size: \[2, 3\]"):
        check_inputs(heads, two, model="m")


WIDE = Interface(
    inputs=tuple(
        TensorSpec(name=name, datatype=DataType.FP32, shape=(1,))
        for name in ("age", "weight", *(f"lab_{number}" for number in range(40)))
    ),
    outputs=(),
    batch_max=4,
)


@pytest.mark.parametrize(
    ("sent", "hint"),
    [
        ("Age", "; did you mean 'age'?"),
        ("wieght", "; did you mean 'weight'?"),
        ("lab-7", "; did you mean 'lab_7'?"),
        ("colour", ""),
        ("x" * 10_000_000, ""),
        ("__", ""),
    ],
    ids=["case", "letters", "sign", "nothing near", "huge", "signs alone"],
)
def test_an_unknown_input_is_told_the_nearest_missing_one(sent, hint):
    names = [spec.name for spec in WIDE.inputs]
    missing = {"Age": "age", "wieght": "weight", "lab-7": "lab_7"}.get(sent, "age")
    heads = {name: Head(DataType.FP32, (1, 1)) for name in names if name != missing}
    heads[sent] = Head(DataType.FP32, (1, 1))
    with pytest.raises(RequestError) as refused:
        check_inputs(heads, WIDE, model="m")
    assert str(refused.value) == (
        f"unexpected inference input '{sent}' for model 'm'{hint}; missing input(s) ['{missing}']"
    )


def test_an_input_too_many_is_named_alone():
    heads = {spec.name: Head(DataType.FP32, (1, 1)) for spec in WIDE.inputs}
    with pytest.raises(RequestError) as refused:
        check_inputs(heads | {"zzz": Head(DataType.FP32, (1, 1))}, WIDE, model="m")
    assert str(refused.value) == "unexpected inference input 'zzz' for model 'm'"


def test_long_lists_of_missing_inputs_are_cut():
    with pytest.raises(RequestError) as refused:
        check_inputs({"lab_1": Head(DataType.FP32, (1, 1))}, WIDE, model="m")
    told = str(refused.value)
    assert told.startswith(
        "expected 42 inputs but got 1 inputs for model 'm'. Got input(s) ['lab_1']"
    )
    assert "missing required input(s) ['age', 'weight', 'lab_0', 'lab_2'," in told
    assert told.endswith("and 25 more. Please provide all required input(s).")
