"""int8 with scales that are fixed beforehand: the answer to a text depends on no other text.

Only MatMuls with weights, since quantizing whatever can be quantized is slower than fp32 here, and
only their inputs: a float output needs no scale and goes on into operators that are float anyway. A
Gemm, as heads have it, stays float: onnxruntime has no integer kernel of it with a float output.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from compress.graph import drop_unused, name_nodes
from compress.quantize.calibrate import METHODS, Range, observe
from compress.quantize.graphs import (
    calibration_feeds,
    int8_channels,
    load,
    quantize_lookups,
    replace_node,
    weighted_matmuls,
    weights_of,
)
from compress.quantize.outliers import tame_outliers
from compress.source import CALIBRATION_ROWS, Source
from edgeloop.bundle import MODEL, TOKENIZER

UINT8_MAX = 255


def static_int8(method: str) -> Callable[[Source, Path], None]:
    """The step that calibrates by a method of compress.quantize.calibrate."""

    def step(source: Source, folder: Path) -> None:
        model = load(source)
        feeds = calibration_feeds(source, model, CALIBRATION_ROWS)
        tame_outliers(model, feeds)
        nodes = weighted_matmuls(model.graph, weights_of(model.graph))
        names = list(dict.fromkeys(node.input[0] for node in nodes))
        seen = observe(model, names, feeds)
        _insert(model, nodes, {name: METHODS[method](seen[name]) for name in names})
        quantize_lookups(model)
        onnx.save(model, str(folder / MODEL))
        shutil.copyfile(source.tokenizer, folder / TOKENIZER)

    return step


static_int8_minmax = static_int8("minmax")
static_int8_percentile = static_int8("percentile")
static_int8_entropy = static_int8("entropy")


def _insert(
    model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], ranges: dict[str, Range]
) -> None:
    """QuantizeLinear and DequantizeLinear at both inputs of every node, in place."""
    graph, weights = model.graph, weights_of(model.graph)
    done: set[str] = set()
    for node in nodes:
        activation, weight = node.input
        made = []
        if activation not in done:
            made += _activation(graph, activation, ranges[activation])
        if weight not in done:
            levels, scale = int8_channels(weights[weight], axis=0)
            made.append(_weight(graph, weight, levels, scale.reshape(-1)))
        done |= {activation, weight}
        inputs = [f"{activation}_dequantized", f"{weight}_dequantized"]
        made.append(helper.make_node("MatMul", inputs, list(node.output), node.name))
        replace_node(graph, node, made)
    name_nodes(graph)
    drop_unused(graph)


def _activation(graph: onnx.GraphProto, name: str, found: Range) -> list[onnx.NodeProto]:
    low, high = min(found[0], 0.0), max(found[1], 0.0)  # zero has a level of its own
    scale = np.float32((high - low) / UINT8_MAX)
    zero = np.uint8(np.clip(np.rint(-low / scale), 0, UINT8_MAX))
    graph.initializer.append(numpy_helper.from_array(np.array(scale), f"{name}_scale"))
    graph.initializer.append(numpy_helper.from_array(np.array(zero), f"{name}_zero"))
    parameters = [f"{name}_scale", f"{name}_zero"]
    levels = f"{name}_levels"
    return [
        helper.make_node("QuantizeLinear", [name, *parameters], [levels]),
        helper.make_node("DequantizeLinear", [levels, *parameters], [f"{name}_dequantized"]),
    ]


def _weight(
    graph: onnx.GraphProto, name: str, levels: np.ndarray, scale: np.ndarray
) -> onnx.NodeProto:
    zeros = np.zeros(len(scale), dtype=np.int8)
    for array, kind in ((levels, "int8"), (scale, "scale"), (zeros, "zero")):
        graph.initializer.append(numpy_helper.from_array(array, f"{name}_{kind}"))
    inputs = [f"{name}_{kind}" for kind in ("int8", "scale", "zero")]
    return helper.make_node("DequantizeLinear", inputs, [f"{name}_dequantized"], axis=1)
