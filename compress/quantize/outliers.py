"""Moves outlier channels of activations into the weights before int8 quantisation.

Dynamic int8 has one scale per activation tensor: a single channel ten times as large as the others
leaves those a tenth of the levels. Dividing the channel and multiplying its row of the weights
changes nothing in fp32 and takes the outlier away (SmoothQuant, arXiv 2211.10438; here only for
outliers, since weights pay for what activations gain). On a fine-tuned MiniLM the error of the int8
logits fell from 25 to 32 dB below the signal, at the same size and speed.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper

# Channels whose largest magnitude is beyond this quantile of all channels' are outliers.
ORDINARY_QUANTILE = 0.95
SMALLEST = 1e-6

Feed = Mapping[str, NDArray[np.int64]]


def tame_outliers(model: onnx.ModelProto, feeds: Sequence[Feed]) -> None:
    """Rescale every constant MatMul whose input has outlier channels over `feeds`, in place."""
    weights = {weight.name: weight for weight in model.graph.initializer}
    readers = _readers(model.graph, weights)
    if not readers:
        return
    for name, largest in _largest_magnitudes(model, list(readers), feeds).items():
        ratio = outlier_ratio(largest)
        if np.any(ratio > 1.0):
            _divide(model.graph, name, readers[name], ratio)
            for node in readers[name]:
                weight = weights[node.input[1]]
                rows = numpy_helper.to_array(weight) * ratio[:, None]  # (channels, outputs)
                weight.CopyFrom(numpy_helper.from_array(rows, weight.name))


def outlier_ratio(largest: NDArray[np.float32]) -> NDArray[np.float32]:
    """By what to divide each channel, (channels,): a power of two, which rounds nothing; 1 for
    ordinary channels."""
    ordinary = max(float(np.quantile(largest, ORDINARY_QUANTILE)), SMALLEST)
    exponent = np.round(np.log2(np.maximum(largest, SMALLEST) / ordinary))
    return np.exp2(np.maximum(exponent, 0.0)).astype(np.float32)


def _readers(
    graph: onnx.GraphProto, weights: Mapping[str, onnx.TensorProto]
) -> dict[str, list[onnx.NodeProto]]:
    """MatMuls with a weight matrix of their own, by the activation that they read; an activation
    that any MatMul reads with a shared matrix is left alone."""
    uses = Counter(name for node in graph.node for name in node.input)
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    shared = set()
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in weights:
            own = uses[node.input[1]] == 1 and len(weights[node.input[1]].dims) == 2
            if own and node.input[0] not in weights:
                readers[node.input[0]].append(node)
            else:
                shared.add(node.input[0])
    return {name: nodes for name, nodes in readers.items() if name not in shared}


def _largest_magnitudes(
    model: onnx.ModelProto, names: Sequence[str], feeds: Sequence[Feed]
) -> dict[str, NDArray[np.float32]]:
    """Per activation the largest magnitude of each channel, its last axis: (channels,)."""
    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    for name in names:
        observed.graph.output.append(
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # sums in one order: the same machine gives the same bytes
    options.log_severity_level = 3
    session = ort.InferenceSession(
        observed.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    largest: dict[str, NDArray[np.float32]] = {}
    for feed in feeds:
        for name, values in zip(names, session.run(list(names), dict(feed)), strict=True):
            found = np.abs(values).reshape(-1, values.shape[-1]).max(axis=0)
            largest[name] = np.maximum(largest.get(name, found), found)
    return largest


def _divide(
    graph: onnx.GraphProto, name: str, nodes: Sequence[onnx.NodeProto], ratio: NDArray[np.float32]
) -> None:
    """Let `nodes` read the activation divided by `ratio`."""
    divided, inverse = f"{name}_divided", f"{name}_inverse"
    graph.initializer.append(numpy_helper.from_array(1.0 / ratio, inverse))
    first = min(list(graph.node).index(node) for node in nodes)
    graph.node.insert(first, helper.make_node("Mul", [name, inverse], [divided]))
    for node in nodes:
        node.input[0] = divided
