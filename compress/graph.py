"""An exported graph made fit to ship: named outputs, and nothing in it but the computation.

Exporters write stack traces with the paths of the machine into every node; those would differ from
machine to machine, and so would the file's hash.
"""

from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper


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


def constants(graph: onnx.GraphProto) -> dict[str, NDArray[np.generic]]:
    """Every constant by name: initializers, and the Constant nodes of the older exporter."""
    found = {weight.name: numpy_helper.to_array(weight) for weight in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return found


def attribute(node: onnx.NodeProto, name: str, default: float) -> float:
    """A number among the node's attributes."""
    for found in node.attribute:
        if found.name == name:
            return float(onnx.helper.get_attribute_value(found))
    return default


def name_nodes(graph: onnx.GraphProto) -> None:
    """Give every node without a name one of its own, in place: quantizers go by names."""
    taken = {node.name for node in graph.node}
    numbers = count()
    for node in graph.node:
        while not node.name:
            name = f"{node.op_type}_{next(numbers)}"
            node.name = "" if name in taken else name


def drop_unused(graph: onnx.GraphProto) -> None:
    """Remove the initializers that nothing reads, in place."""
    used = {name for node in all_nodes(graph) for name in node.input}
    used |= {value.name for value in graph.output}
    kept = [weight for weight in graph.initializer if weight.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The graph's nodes and those of the graphs in them."""
    for node in graph.node:
        yield node
        for found in node.attribute:
            if found.HasField("g"):
                yield from all_nodes(found.g)
