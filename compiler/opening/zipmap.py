"""ZipMap taken off: class probabilities as a tensor instead of a map a row.

Knows: what converters of scikit-learn, XGBoost and LightGBM put behind a classifier (ai.onnx.ml ZipMap).
Rules: only a last node whose output is the model's is taken off; its input is the same numbers, a column
a class, so nothing computed changes. Leaves to others: sequences and maps of any other origin, which are
refused (`edges`).
"""

import onnx
from onnx import TensorProto, helper

_SHOWN_CLASSES = 10


def tensors_for_zipmaps(model: onnx.ModelProto) -> list[str]:
    """Replace each final ZipMap by an Identity under the output's own name; tells of each."""
    graph = model.graph
    read = {name for node in graph.node for name in node.input}
    infos = {info.name: info for info in graph.output}
    return [
        _replace(node, infos[node.output[0]])
        for node in graph.node
        if node.op_type == "ZipMap"
        and node.domain == "ai.onnx.ml"
        and len(node.input) == len(node.output) == 1
        and node.output[0] in infos
        and node.output[0] not in read
    ]


def _replace(node: onnx.NodeProto, info: onnx.ValueInfoProto) -> str:
    classes = _classes(node)
    told = ", ".join(classes[:_SHOWN_CLASSES]) + (", ..." if len(classes) > _SHOWN_CLASSES else "")
    plain = helper.make_node("Identity", node.input, node.output, name=node.name)
    node.CopyFrom(plain)
    # ZipMap takes nothing but floats; how many rows there are is told by shape inference.
    info.CopyFrom(helper.make_tensor_value_info(info.name, TensorProto.FLOAT, [None, len(classes)]))
    return (
        f"the ZipMap before '{info.name}' was taken off: "
        f"it is a tensor, a column a class in the order {told}"
    )


def _classes(node: onnx.NodeProto) -> list[str]:
    for attribute in node.attribute:
        if attribute.name == "classlabels_strings":
            return [item.decode("utf-8", "replace") for item in attribute.strings]
        if attribute.name == "classlabels_int64s":
            return [str(item) for item in attribute.ints]
    return []
