"""An exported graph is stripped to its computation and names its outputs."""

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from compress.graph import tidy


def chatty_model() -> onnx.ModelProto:
    """Doubles, then adds one; a value inside bears the name that an output shall have."""
    nodes = [
        helper.make_node("Add", ["x", "x"], ["embedding"], doc_string="File /home/someone/a.py"),
        helper.make_node("Identity", ["embedding"], ["first"]),
        helper.make_node("Add", ["embedding", "x"], ["second"]),
    ]
    for node in nodes:
        node.metadata_props.add(key="stack_trace", value="/home/someone/model.py, line 3")
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n"]) for n in ("x", "embedding")]
    outputs = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n"]) for n in ("first", "second")
    ]
    graph = helper.make_graph(
        nodes, "g", value[:1], outputs, value_info=value[1:], doc_string="/home"
    )
    graph.metadata_props.add(key="where", value="/home/someone")
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    model.metadata_props.add(key="where", value="/home/someone")
    return model


def test_outputs_are_named_even_where_a_value_inside_has_the_name() -> None:
    model = chatty_model()
    tidy(model, ["logits", "embedding"])
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString())
    x = np.array([1.0, 2.0], dtype=np.float32)
    logits, embedding = session.run(["logits", "embedding"], {"x": x})
    assert logits.tolist() == [2.0, 4.0]
    assert embedding.tolist() == [3.0, 6.0]


def test_no_path_doc_string_or_metadata_is_left() -> None:
    model = chatty_model()
    tidy(model, ["logits", "embedding"])
    assert b"/home" not in model.SerializeToString()
    assert not model.graph.value_info


def test_bodies_of_branches_are_stripped_too() -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"], doc_string="/home/someone")],
        "body",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
    )
    model = chatty_model()
    model.graph.node.append(
        helper.make_node("If", ["c"], ["z"], then_branch=body, else_branch=body)
    )
    tidy(model, ["logits", "embedding"])
    assert b"/home" not in model.SerializeToString()
