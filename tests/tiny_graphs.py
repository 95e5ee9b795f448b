"""The graphs of the tiny models: a table of embeddings, their masked mean, and a head per task."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HIDDEN = 16


def as_model(graph: onnx.GraphProto) -> onnx.ModelProto:
    """The graph as a model that every ONNX Runtime of ours reads."""
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def _encoder(table: np.ndarray, mean: str = "embedding") -> onnx.GraphProto:
    """Token ids and mask to `tokens` (batch, seq, hidden) and their masked mean."""
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["tokens"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["mask3"]),
        helper.make_node("Mul", ["tokens", "mask3"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "one"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "one"], ["count"], keepdims=1),
        helper.make_node("Div", ["sum", "count"], [mean]),
    ]
    values = {
        "table": table,
        "last": np.array([2], dtype=np.int64),
        "one": np.array([1], dtype=np.int64),
    }
    return helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "seq"])
            for name in ("input_ids", "attention_mask")
        ],
        [],
        [numpy_helper.from_array(v, n) for n, v in values.items()],
    )


def _give(graph: onnx.GraphProto, name: str, shape: list[str | int]) -> None:
    graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))


def _classifier(table: np.ndarray, head: np.ndarray) -> onnx.GraphProto:
    graph = _encoder(table)
    graph.initializer.append(numpy_helper.from_array(head, "head"))
    graph.node.append(helper.make_node("MatMul", ["embedding", "head"], ["logits"]))
    _give(graph, "logits", ["batch", head.shape[1]])
    _give(graph, "embedding", ["batch", HIDDEN])
    return graph


def _multi_label_classifier(table: np.ndarray, head: np.ndarray) -> onnx.GraphProto:
    graph = _classifier(table, head)
    graph.node[-1].output[0] = "unbiased"
    graph.initializer.append(numpy_helper.from_array(np.float32(-1.0), "bias"))
    graph.node.append(helper.make_node("Add", ["unbiased", "bias"], ["logits"]))
    return graph


def _tagger(table: np.ndarray, head: np.ndarray) -> onnx.GraphProto:
    """Every word of a label begins an entity."""
    labels = head.shape[1]
    tags = np.zeros((HIDDEN, 1 + 2 * labels), dtype=np.float32)
    tags[:, 1::2] = head
    bias = np.zeros(1 + 2 * labels, dtype=np.float32)
    bias[0] = 5.0
    graph = _encoder(table)
    graph.initializer.append(numpy_helper.from_array(tags, "head"))
    graph.initializer.append(numpy_helper.from_array(bias, "bias"))
    graph.node.append(helper.make_node("MatMul", ["tokens", "head"], ["unbiased"]))
    graph.node.append(helper.make_node("Add", ["unbiased", "bias"], ["logits"]))
    _give(graph, "logits", ["batch", "seq", 1 + 2 * labels])
    _give(graph, "embedding", ["batch", HIDDEN])
    return graph


def _embedder(table: np.ndarray, _: np.ndarray) -> onnx.GraphProto:
    graph = _encoder(table, mean="mean")
    graph.node.append(helper.make_node("ReduceL2", ["mean", "one"], ["length"], keepdims=1))
    graph.node.append(helper.make_node("Div", ["mean", "length"], ["embedding"]))
    _give(graph, "embedding", ["batch", HIDDEN])
    return graph


GRAPHS = {
    "text-classification": _classifier,
    "multi-label-classification": _multi_label_classifier,
    "token-classification": _tagger,
    "text-embedding": _embedder,
}


def weigh_second_text(graph: onnx.GraphProto) -> None:
    """Let the words of a second text count twice."""
    graph.input.append(
        helper.make_tensor_value_info("token_type_ids", TensorProto.INT64, ["batch", "seq"])
    )
    (cast,) = [node for node in graph.node if node.output[0] == "mask"]
    cast.output[0] = "plain_mask"
    graph.node.insert(2, helper.make_node("Cast", ["token_type_ids"], ["types"], to=1))
    graph.node.insert(3, helper.make_node("Mul", ["types", "plain_mask"], ["second"]))
    graph.node.insert(4, helper.make_node("Add", ["second", "plain_mask"], ["mask"]))
