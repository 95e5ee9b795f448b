"""What the quantizers share: the MatMuls that have weights, and tables of int8 rows."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from compress.graph import attribute, drop_unused, name_nodes
from compress.source import Feed, Source
from edgeloop.errors import ExportError

FLOAT = int(onnx.TensorProto.FLOAT)
# Below this a range says little of what real texts do to an activation.
CALIBRATION_ROWS_NEEDED = 16
# Smaller tables weigh nothing, and their every value counts for all texts.
SMALLEST_TABLE_ROWS = 16
INT8_MAX = 127


def load(source: Source) -> onnx.ModelProto:
    """The source's model, its every node named."""
    model = onnx.load(str(source.model))
    name_nodes(model.graph)
    return model


def calibration_feeds(source: Source, model: onnx.ModelProto, most: int) -> list[Feed]:
    """At most `most` texts as the model's inputs, one at a time.

    Raises ExportError where the source has too few texts to calibrate on.
    """
    if len(source.texts) < CALIBRATION_ROWS_NEEDED:
        raise ExportError(
            f"calibration has {len(source.texts)} texts, {CALIBRATION_ROWS_NEEDED} are needed: "
            "add training rows or unlabelled texts, or leave the calibrated candidates out"
        )
    return source.feeds(model, most)


def weights_of(graph: onnx.GraphProto) -> dict[str, NDArray[np.float32]]:
    """The float weights by name."""
    return {
        weight.name: numpy_helper.to_array(weight)
        for weight in graph.initializer
        if weight.data_type == FLOAT
    }


def weighted_matmuls(
    graph: onnx.GraphProto, weights: Mapping[str, NDArray[np.float32]]
) -> list[onnx.NodeProto]:
    """MatMuls of an activation with a weight matrix, in the order of computation."""
    return [
        node
        for node in graph.node
        if node.op_type == "MatMul"
        and node.input[0] not in weights
        and node.input[1] in weights
        and weights[node.input[1]].ndim == 2
    ]


def split_gemms(graph: onnx.GraphProto) -> None:
    """Write Gemm(a, W, c) as MatMul(a, W) + c, in place, where W is a weight: integers by dynamic
    scales, and weights in blocks, exist for MatMul."""
    weights = weights_of(graph)
    for node in [node for node in graph.node if node.op_type == "Gemm"]:
        plain = {"alpha": 1.0, "beta": 1.0, "transA": 0.0}
        is_plain = all(attribute(node, name, value) == value for name, value in plain.items())
        if not is_plain or node.input[1] not in weights or node.input[0] in weights:
            continue
        matrix = weights[node.input[1]]
        if attribute(node, "transB", 0.0):
            matrix = np.ascontiguousarray(matrix.T)
        name = f"{node.input[1]}_of_{node.output[0]}"
        graph.initializer.append(numpy_helper.from_array(matrix, name))
        product = node.output[0] if len(node.input) < 3 else f"{node.output[0]}_product"
        made = [helper.make_node("MatMul", [node.input[0], name], [product], node.name)]
        if len(node.input) == 3:
            made.append(helper.make_node("Add", [product, node.input[2]], list(node.output)))
        replace_node(graph, node, made)
    name_nodes(graph)
    drop_unused(graph)


def replace_node(
    graph: onnx.GraphProto, node: onnx.NodeProto, made: Sequence[onnx.NodeProto]
) -> None:
    """Put `made` where `node` is, in place."""
    position = next(i for i, other in enumerate(graph.node) if other is node)
    del graph.node[position]
    for offset, new in enumerate(made):
        graph.node.insert(position + offset, new)


def embedding_lookups(
    graph: onnx.GraphProto, weights: Mapping[str, NDArray[np.float32]]
) -> list[onnx.NodeProto]:
    """The Gathers of rows from a table of weights that only Gathers read."""
    readers = Counter(name for n in graph.node if n.op_type != "Gather" for name in n.input)
    return [
        node
        for node in graph.node
        if node.op_type == "Gather"
        and attribute(node, "axis", 0.0) == 0.0
        and node.input[0] in weights
        and weights[node.input[0]].ndim == 2
        and len(weights[node.input[0]]) >= SMALLEST_TABLE_ROWS
        and not readers[node.input[0]]
    ]


def quantize_lookups(model: onnx.ModelProto) -> None:
    """int8 rows with a scale each instead of float ones, in place. The row is looked up first and
    made float then, so that the table stays int8 in memory as well."""
    graph = model.graph
    weights = weights_of(graph)
    for node in embedding_lookups(graph, weights):
        table, ids, output = node.input[0], node.input[1], node.output[0]
        names = {kind: f"{table}_rows_{kind}" for kind in ("int8", "scale")}
        if names["int8"] not in {weight.name for weight in graph.initializer}:
            rows, scale = int8_channels(weights[table], axis=1)
            graph.initializer.append(numpy_helper.from_array(rows, names["int8"]))
            graph.initializer.append(numpy_helper.from_array(scale, names["scale"]))
        made = [
            helper.make_node("Gather", [names["int8"], ids], [f"{output}_row_int8"], axis=0),
            helper.make_node("Gather", [names["scale"], ids], [f"{output}_row_scale"], axis=0),
            helper.make_node("Cast", [f"{output}_row_int8"], [f"{output}_row_cast"], to=FLOAT),
            helper.make_node("Mul", [f"{output}_row_cast", f"{output}_row_scale"], [output]),
        ]
        replace_node(graph, node, made)
    name_nodes(graph)
    drop_unused(graph)


def int8_channels(
    weight: NDArray[np.float32], axis: int
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric int8 and its scales, one for all values along `axis`, which is kept with size 1."""
    largest = np.abs(weight).max(axis=axis, keepdims=True)
    scale = (np.where(largest > 0.0, largest, 1.0) / INT8_MAX).astype(np.float32)
    levels = np.clip(np.rint(weight / scale), -INT8_MAX, INT8_MAX).astype(np.int8)
    return levels, scale
