"""An exported graph made fit to ship: named outputs, and nothing in it but the computation.

Exporters write stack traces with the paths of the machine into every node; those would differ from
machine to machine, and so would the file's hash.
"""

from collections.abc import Sequence

import onnx


def tidy(model: onnx.ModelProto, outputs: Sequence[str]) -> None:
    """Name the outputs, in order, and strip doc strings, metadata and inferred shapes, in place."""
    _name_outputs(model.graph, outputs)
    del model.metadata_props[:]
    model.doc_string = ""
    _strip(model.graph)
    for function in model.functions:
        function.doc_string = ""
        del function.metadata_props[:]
        del function.value_info[:]
        _strip_nodes(function.node)


def _name_outputs(graph: onnx.GraphProto, outputs: Sequence[str]) -> None:
    # torch 2.13 gives an output the name it is asked for even where a value inside the graph bears
    # it already (aten.embedding -> "embedding"), which breaks single assignment.
    names = {name: f"{name}_inner" for name in outputs}
    names |= {value.name: name for value, name in zip(graph.output, outputs, strict=True)}
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value, name in zip(graph.output, outputs, strict=True):
        value.name = name


def _strip(graph: onnx.GraphProto) -> None:
    graph.doc_string = ""
    del graph.metadata_props[:]
    del graph.value_info[:]
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.doc_string = ""
        del value.metadata_props[:]
    _strip_nodes(graph.node)


def _strip_nodes(nodes: Sequence[onnx.NodeProto]) -> None:
    for node in nodes:
        node.doc_string = ""
        del node.metadata_props[:]
        for attribute in node.attribute:
            attribute.doc_string = ""
            if attribute.HasField("g"):
                _strip(attribute.g)
