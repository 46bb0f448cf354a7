"""Nodes put in an order in which every one finds its inputs made.

Knows: that a node with subgraphs also reads what they capture. Rules: nodes stay in the order given
wherever they can. Leaves to others: why they were out of order (`quantised` appends).
"""

import onnx

from compiler.precision.operators import captured


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Sort the nodes of `graph` itself; a graph with a loop stays as it is, for the checker to refuse."""
    nodes = list(graph.node)
    maker = {name: at for at, node in enumerate(nodes) for name in node.output if name}
    needs = [
        sorted({maker[name] for name in (*node.input, *captured(node)) if name in maker} - {at})
        for at, node in enumerate(nodes)
    ]
    placed: dict[int, None] = {}
    for first in range(len(nodes)):
        waiting, begun = [first], set[int]()
        while waiting:
            at = waiting[-1]
            missing = [need for need in needs[at] if need not in placed]
            if at in placed or not missing:
                placed[waiting.pop()] = None
            elif at in begun:
                return
            else:
                begun.add(at)
                waiting += reversed(missing)
    del graph.node[:]
    graph.node.extend(nodes[at] for at in placed)
