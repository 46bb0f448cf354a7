"""What tensors claim: dimensions that their data does not bear out are refused before anything is made."""

import math

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from appliance.errors import SourceFormat, SourceUnsupported
from compiler.opening.declared import check_declared, declared_bytes
from compiler.opening.source import open_source

WHOLE = [TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.UINT8]
WHOLE += [TensorProto.BOOL, TensorProto.FLOAT16, TensorProto.UINT32, TensorProto.COMPLEX128]
PACKED = [TensorProto.INT4, TensorProto.UINT4]


def model_with(tensor: TensorProto) -> onnx.ModelProto:
    return onnx.ModelProto(graph=onnx.GraphProto(initializer=[tensor]))


@given(st.sampled_from(WHOLE + PACKED), st.lists(st.integers(0, 5), max_size=3), st.booleans())
def test_tensors_as_onnx_makes_them_pass(kind, dims, raw):
    count = math.prod(dims)
    dtype = np.complex128 if kind == TensorProto.COMPLEX128 else np.float64
    values = np.ones(count, dtype)
    if raw and kind not in PACKED:
        array = values.astype(helper.tensor_dtype_to_np_dtype(kind)).reshape(dims)
        tensor = numpy_helper.from_array(array, "t")
    else:
        tensor = helper.make_tensor("t", kind, dims, values.tolist())
    check_declared(model_with(tensor), 4)


@given(st.sampled_from(WHOLE), st.integers(1, 9), st.integers(1, 9))
def test_another_number_of_values_is_refused(kind, held, claimed):
    tensor = helper.make_tensor("t", kind, [held], [1] * held)
    tensor.dims[0] = claimed
    if held == claimed:
        check_declared(model_with(tensor), 4)
        return
    with pytest.raises(SourceFormat, match=f"'t' declares .{claimed}. and holds"):
        check_declared(model_with(tensor), 4)


def boasting(**changes) -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros(2, np.float32), "t")
    for name, value in changes.items():
        if name == "dims":
            del tensor.dims[:]
            tensor.dims.extend(value)
        elif name == "data_type":
            tensor.data_type = value
        else:
            getattr(tensor, name).extend(value)
    return tensor


@pytest.mark.parametrize(
    ("tensor", "told"),
    [
        (boasting(dims=[10**6, 10**6]), "instead of 4000000000000"),
        (boasting(dims=[2**62, 2**62, 2**62]), "holds 8 bytes instead of"),
        (boasting(dims=[-2]), "negative dimension"),
        (boasting(float_data=[1.0]), "2 fields"),
        (boasting(data_type=TensorProto.STRING), "keeps STRING as raw data"),
        (boasting(data_type=999), "keeps 999 as raw data"),
        (TensorProto(name="t", data_type=TensorProto.FLOAT, dims=[3]), "0 fields"),
        (TensorProto(name="t", data_type=1, dims=[1], int32_data=[1]), "its data in int32_data"),
        (
            TensorProto(name="t", data_type=1, dims=[1], segment=TensorProto.Segment(begin=0)),
            "segments",
        ),
    ],
)
def test_claims_are_refused(tensor, told):
    with pytest.raises((SourceFormat, SourceUnsupported), match=told):
        check_declared(model_with(tensor), 4)


def test_a_claim_is_found_wherever_it_hides(make_onnx, tmp_path):
    huge = boasting(dims=[10**12])
    branch = onnx.GraphProto(node=[helper.make_node("Constant", [], ["c"], value=huge)])
    node = helper.make_node("If", ["x"], ["scores"], then_branch=branch, else_branch=branch)
    function = helper.make_function(
        "own", "F", [], ["c"], [helper.make_node("Constant", [], ["c"], value=huge)], []
    )
    models = (
        make_onnx([node]),
        onnx.ModelProto(ir_version=9, functions=[function], graph=make_onnx().graph),
    )
    for model in models:
        (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(SourceFormat, match="instead of 4000000000000"):
            open_source(tmp_path / "m.onnx")


def test_bytes_of_narrow_numbers_are_rounded_up():
    assert declared_bytes(TensorProto(data_type=TensorProto.INT4, dims=[3])) == 2
    assert declared_bytes(TensorProto(data_type=TensorProto.DOUBLE, dims=[])) == 8
