"""What a layer tells of its arithmetic, in the words that engines of TensorRT 10 and 11 use."""

import json

import pytest

from appliance.errors import EngineBuild
from appliance.manifest import Precision
from compiler.targets.tensorrt.inspected import layers_of, seen

HEAVY = {"/conv1/Conv": Precision.FP16, "/fc/MatMul": Precision.FP16}


def layer(kind="gemm", tactic="", nodes=("/fc/MatMul",), types=("Half", "Half"), **more):
    entering, leaving = types
    return {
        "Name": "__myl_fc",
        "LayerType": kind,
        "Inputs": [{"Name": "x", "Format/Datatype": entering}],
        "Outputs": [{"Name": "y", "Format/Datatype": leaving}],
        "TacticName": tactic,
        "Metadata": "\x1e".join(f"[ONNX Layer: {name}]" for name in nodes),
    } | more


@pytest.mark.parametrize(
    ("tactic", "precision"),
    [
        ("sm80_xmma_gemm_f16f16_f16f16_f16_nn_n_tilesize64x64x64_stage3", "fp16"),
        ("sm80_xmma_fprop_implicit_gemm_f16f16_f16f32_f32_nhwckrsc_nhwc", "fp16"),
        ("ampere_h16816gemm_256x128_ldg8_nn_v1", "fp16"),
        ("turing_h1688cudnn_256x64_ldg8_relu_exp_small_nhwc_tn_v1", "fp16"),
        ("sm80_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x32", "bf16"),
        ("sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw_vect_c_32", "int8"),
        ("sm80_xmma_gemm_i8f32_i8i32_f32_tn_n_tilesize32x32x64_stage6", "int8"),
        ("sm80_xmma_gemm_f32f32_f32f32_f32_nn_n_tilesize32x32x8_stage3", "fp32"),
        ("ampere_sgemm_32x32_sliced1x4_nn", "fp32"),
        ("ampere_scudnn_winograd_128x128_ldg1_ldg4_relu_tile148t_nt_v1", "fp32"),
        ("sm80_xmma_gemm_f32f32_tf32f32_f32_tn_n_tilesize32x32x64_stage3", "tf32"),
    ],
)
def test_a_tactic_names_what_it_computes_in(tactic, precision):
    (told,) = seen([layer(tactic=tactic, types=("Float", "Float"))], HEAVY)
    assert (told.precision, told.shown, told.nodes) == (precision, True, ("/fc/MatMul",))


@pytest.mark.parametrize(
    ("words", "precision"),
    [
        ("Half", "fp16"),
        ("Float", "fp32"),
        ("BFloat16", "bf16"),
        ("Int8", "int8"),
        ("Row major linear FP16 format", "fp16"),
        ("Row major linear FP32", "fp32"),
        ("Channel major FP16 format where channel % 4 == 0", "fp16"),
        ("Thirty-two wide channel vectorized row major Int8 format.", "int8"),
    ],
)
def test_without_a_telling_tactic_its_tensors_say_it(words, precision):
    (told,) = seen([layer(types=(words, words))], HEAVY)
    assert (told.precision, told.shown) == (precision, True)


@pytest.mark.parametrize(
    "keys", [{"DataType": "Half"}, {"Datatype": "Half"}, {"Format": "Row major FP16"}]
)
def test_tensors_as_tensorrt_11_tells_of_them(keys):
    tensor = {"Name": "x", "Dimensions": [1, 3], "Format": "Row major linear (kLINEAR)", **keys}
    (told,) = seen([layer(Inputs=[tensor], Outputs=[tensor])], HEAVY)
    assert (told.precision, told.shown) == ("fp16", True)


def test_weights_say_it_before_tensors_do():
    given = layer(kind="CaskConvolution", types=("Half", "Float"), Weights={"Type": "Int8"})
    assert seen([given], HEAVY)[0].precision == "int8"


@pytest.mark.parametrize(
    "given",
    [
        layer(types=("Float", "Half")),
        layer(types=("N/A due to dynamic shapes",) * 2),
        layer(nodes=("/fc/MatMul", "cast:fc.fp16"), types=("Float", "Float")),
    ],
)
def test_a_fused_layer_that_does_not_tell_counts_as_the_graph_is_typed(given):
    (told,) = seen([given], HEAVY)
    assert (told.precision, told.shown) == ("fp16", False)


@pytest.mark.parametrize(
    "given",
    [
        # The sum behind a product in INT8, the scale of a fused attention: none of them multiplies.
        layer(
            kind="kgen",
            tactic="__myl_CastMulAdd_0x5f169c0abf16d3f16e21b7",
            types=("Float", "Float"),
        ),
        layer(kind="fusion", tactic="pointwise_vectorized", types=("Float", "Float")),
        layer(kind="kgen", tactic="_gemm_mha_v2_0xf16f160bf16aa", types=("Float", "Float")),
    ],
)
def test_what_surrounds_a_product_tells_nothing_of_it(given):
    for asked in Precision.INT8, Precision.FP32:
        (told,) = seen([given], {"/fc/MatMul": asked})
        assert (told.precision, told.shown) == (asked, False)


def test_a_part_that_is_told_of_as_one_counts_as_the_graph_is_typed():
    name = "{ForeignNode[/embed/Gather.../fc/Add]}"
    (told,) = seen([layer(kind="Myelin", nodes=(), Name=name, types=("Int64", "Float"))], HEAVY)
    assert (told.precision, told.shown, told.nodes) == (Precision.FP16, False, ())
    assert seen([layer(kind="Myelin", nodes=(), Name=name)], {}) == ()


def test_a_copy_for_a_layer_is_not_the_layer():
    name = "Reformatting CopyNode for Input Tensor 0 to /pad/Pad + /conv1/Conv + /relu1/Relu"
    assert (
        seen([layer(kind="Reformat", nodes=(), Name=name, types=("Float", "Float"))], HEAVY) == ()
    )


def test_nodes_in_a_name_that_the_compiler_gave():
    names = {f"/{name}/MatMul": Precision.FP16 for name in "qkv"}
    given = layer(nodes=(), Name="/q/MatMul+/k/MatMul+/v/MatMul_myl0_2")
    assert seen([given], names)[0].nodes == tuple(names)


def test_products_of_what_is_no_heavy_node_are_not_held_to_the_graph():
    given = layer(kind="gemm", nodes=("/rnn/GRU",), types=("Float", "Float"))
    assert seen([given], HEAVY, {"/rnn/GRU", *HEAVY}) == ()
    (told,) = seen([given], HEAVY, set(HEAVY))
    assert told.precision == "fp32", "of a node that the graph does not have"


def test_json_as_the_library_writes_it():
    text = (
        '{"Layers": [{"Name": "/fc/MatMul_myl0_4", "LayerType": "gemm", "Alpha": -nan, "Beta": inf,\n'
        '"Range": [inf,-inf], "Inputs": [], "Outputs": [], "TacticName": "sm80_xmma_gemm_f16f16_f16f32_f32",'
        ' "Metadata": "[ONNX Layer: /fc/MatMul]\x1f[ONNX Layer: /fc/Add]\x1e[ONNX Layer: /infinite,inf]"}],'
        ' "Bindings": ["x"]}'
    )
    (told,) = layers_of(text)
    assert (told["Alpha"], told["Range"]) == (None, [None, None])
    assert seen([told], HEAVY)[0].nodes == ("/fc/MatMul",)


def test_layers_that_matter_are_found_by_node_by_name_and_by_kind():
    layers = [
        layer(kind="kgen", nodes=("/conv1/Conv", "/relu1/Relu")),
        layer(kind="kgen", nodes=("/softmax/Softmax",)),
        layer(kind="Reformat", nodes=()),
        layer(kind="CaskConvolution", nodes=(), Name="/conv1/Conv + /relu1/Relu"),
        layer(kind="gemm", nodes=("unknown",), types=("Float", "Float")),
        layer(kind="gemm", nodes=("unknown",), types=("", "")),
        layer(kind="Conversion", nodes=(), types=("Float", "Half")),
    ]
    found = seen(layers, HEAVY)
    assert [item.nodes for item in found] == [("/conv1/Conv",), ("/conv1/Conv",), ()]
    assert [item.precision for item in found] == ["fp16", "fp16", "fp32"]


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "[]",
        json.dumps({"Layers": []}),
        json.dumps({"Layers": ["only names", "of layers"]}),
        json.dumps({"Layers": None}),
    ],
)
def test_an_inspector_that_tells_nothing_is_an_error(text):
    with pytest.raises(EngineBuild, match="so its precision cannot be checked"):
        layers_of(text)
