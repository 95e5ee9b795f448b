"""How much each MatMul of a model suffers from int8, measured with the integer kernels themselves.

One session holds every MatMul twice, as float and as int8 (what onnxruntime's dynamic quantization
makes of it), behind a switch. So a setting costs a run per text and no other graph, and one session
answers for all settings.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from compress.graph import name_nodes
from compress.quantize.graphs import (
    FLOAT,
    int8_channels,
    replace_node,
    weighted_matmuls,
    weights_of,
)
from compress.source import Feed
from edgeloop.runtime import EMBEDDING, LOGITS, SLOWER_FUSIONS

SWITCHES = "int8_switches"


@dataclass(frozen=True)
class Probe:
    """A model whose MatMuls, named in `names`, can be switched to int8; answers to `feeds`."""

    session: ort.InferenceSession
    names: tuple[str, ...]
    output: str
    feeds: Sequence[Feed]

    def answers(self, is_int8: NDArray[np.bool_]) -> NDArray[np.float32]:
        """All numbers of all answers, flat; is_int8 (len(names),)."""
        found = [
            self.session.run([self.output], {**feed, SWITCHES: is_int8})[0] for feed in self.feeds
        ]
        return np.concatenate([values.reshape(-1) for values in found])

    def expected(self) -> NDArray[np.float32]:
        """The answers of the float model."""
        return self.answers(np.zeros(len(self.names), dtype=np.bool_))

    def noise(self, expected: NDArray[np.float32], is_int8: NDArray[np.bool_]) -> float:
        """The power of what is added to the answers, as a ratio of the power of the expected."""
        error = self.answers(is_int8).astype(np.float64) - expected
        return float((error**2).sum() / max(float((expected.astype(np.float64) ** 2).sum()), 1e-12))


def make_probe(model: onnx.ModelProto, feeds: Sequence[Feed]) -> Probe:
    """Judges by the logits, or by the embedding where the model has none; `model` is left as it
    is."""
    switched = onnx.ModelProto()
    switched.CopyFrom(model)
    graph = switched.graph
    nodes = weighted_matmuls(graph, weights_of(graph))
    names = tuple(node.name for node in nodes)
    for number, node in enumerate(nodes):
        _put_behind_switch(graph, node, number)
    graph.input.append(helper.make_tensor_value_info(SWITCHES, onnx.TensorProto.BOOL, [len(names)]))
    name_nodes(graph)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(
        switched.SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=SLOWER_FUSIONS,
    )
    outputs = {value.name for value in graph.output}
    return Probe(session, names, LOGITS if LOGITS in outputs else EMBEDDING, feeds)


def _put_behind_switch(graph: onnx.GraphProto, node: onnx.NodeProto, number: int) -> None:
    """If(switch, int8 product, float product) in the node's place."""
    activation, weight = node.input
    known = {w.name: w for w in graph.initializer}
    if f"{weight}_int8" not in known:
        levels, scale = int8_channels(numpy_helper.to_array(known[weight]), axis=0)
        graph.initializer.append(numpy_helper.from_array(levels, f"{weight}_int8"))
        graph.initializer.append(numpy_helper.from_array(scale.reshape(-1), f"{weight}_scale"))
    own = f"{node.output[0]}_switch"
    graph.initializer.append(numpy_helper.from_array(np.array(number), f"{own}_number"))
    chosen = helper.make_node("Gather", [SWITCHES, f"{own}_number"], [own])
    branches = {
        "then_branch": _branch(_int8_nodes(activation, weight, f"{own}_int8"), f"{own}_int8"),
        "else_branch": _branch(
            [helper.make_node("MatMul", [activation, weight], [f"{own}_float"])], f"{own}_float"
        ),
    }
    replace_node(
        graph, node, [chosen, helper.make_node("If", [own], list(node.output), **branches)]
    )


def _int8_nodes(activation: str, weight: str, output: str) -> list[onnx.NodeProto]:
    levels, scale, zero = (f"{output}_{kind}" for kind in ("levels", "scale", "zero"))
    return [
        helper.make_node("DynamicQuantizeLinear", [activation], [levels, scale, zero]),
        helper.make_node("MatMulInteger", [levels, f"{weight}_int8", zero], [f"{output}_sums"]),
        helper.make_node("Cast", [f"{output}_sums"], [f"{output}_cast"], to=FLOAT),
        helper.make_node("Mul", [scale, f"{weight}_scale"], [f"{output}_scales"]),
        helper.make_node("Mul", [f"{output}_cast", f"{output}_scales"], [output]),
    ]


def _branch(nodes: Sequence[onnx.NodeProto], output: str) -> onnx.GraphProto:
    value = helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None)
    return helper.make_graph(nodes, output, [], [value])
