"""Tables that input_ids looks up in are cut; ids in the graph move; anything else is refused."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.lookup import compared_ids, cut_rows
from edgeloop.errors import ExportError
from tests.tiny_graphs import as_model

ROWS, WIDTH = 10, 3
KEPT = [0, 4, 7]
TABLE = np.arange(ROWS * WIDTH, dtype=np.float32).reshape(ROWS, WIDTH)


def graph(*nodes: onnx.NodeProto, output: str = "rows") -> onnx.ModelProto:
    constants = {"table": TABLE, "pad": np.array(4), "shift": np.array([1])}
    made = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "seq"])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return as_model(made)


def lookup(ids: str = "input_ids") -> onnx.NodeProto:
    return helper.make_node("Gather", ["table", ids], ["rows"])


def run(model: onnx.ModelProto, ids: list[int]) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString())
    found: np.ndarray = session.run(None, {"input_ids": np.array([ids], dtype=np.int64)})[0]
    return found


def test_kept_rows_are_found_under_their_new_ids() -> None:
    model = graph(lookup())
    assert cut_rows(model, KEPT) == ROWS
    np.testing.assert_array_equal(run(model, [0, 1, 2])[0], TABLE[KEPT])


def test_ids_are_followed_through_casts() -> None:
    cast = helper.make_node("Cast", ["input_ids"], ["ids"], to=TensorProto.INT32)
    model = graph(cast, lookup("ids"))
    cut_rows(model, KEPT)
    np.testing.assert_array_equal(run(model, [2])[0], TABLE[[7]])


@pytest.mark.parametrize("as_node", [False, True])
def test_a_compared_id_moves_and_its_constant_elsewhere_does_not(as_node: bool) -> None:
    pad = "pad"
    nodes = [
        helper.make_node("Equal", ["input_ids", pad], ["is_pad"]),
        helper.make_node("Cast", ["is_pad"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Cast", [pad], ["four"], to=TensorProto.FLOAT),
        lookup(),
        helper.make_node("Unsqueeze", ["mask", "shift"], ["mask3"]),
        helper.make_node("Mul", ["mask3", "four"], ["scaled"]),
        helper.make_node("ReduceSum", ["scaled"], ["sum"]),
        helper.make_node("Add", ["rows", "sum"], ["shifted"]),
    ]
    model = graph(*nodes, output="shifted")
    if as_node:
        kept = [weight for weight in model.graph.initializer if weight.name != pad]
        del model.graph.initializer[:]
        model.graph.initializer.extend(kept)
        value = numpy_helper.from_array(np.array(4))
        model.graph.node.insert(0, helper.make_node("Constant", [], [pad], value=value))
    before = run(model, [4, 7, 4])
    assert compared_ids(model) == {4}
    cut_rows(model, KEPT)
    np.testing.assert_array_equal(run(model, [1, 2, 1]), before)


def test_a_compared_id_that_is_not_kept_is_refused() -> None:
    equal = helper.make_node("Equal", ["input_ids", "pad"], ["is_pad"])
    with pytest.raises(ExportError, match="asks for id 4"):
        cut_rows(graph(equal, lookup()), [0, 7])


def test_ids_that_are_computed_with_are_refused() -> None:
    add = helper.make_node("Add", ["input_ids", "shift"], ["ids"])
    with pytest.raises(ExportError, match="Add.*computes with input_ids"):
        cut_rows(graph(add, lookup("ids")), KEPT)


def test_a_table_with_other_readers_is_refused() -> None:
    total = helper.make_node("ReduceSum", ["table"], ["total"])
    with pytest.raises(ExportError, match="not looked up by input_ids alone"):
        cut_rows(graph(lookup(), total), KEPT)


def test_a_graph_without_a_table_is_refused() -> None:
    cast = helper.make_node("Shape", ["input_ids"], ["rows"])
    with pytest.raises(ExportError, match="no embedding table"):
        cut_rows(graph(cast), KEPT)


def test_an_id_beyond_the_table_is_refused() -> None:
    with pytest.raises(ExportError, match="has 10 rows, the tokenizer id 12"):
        cut_rows(graph(lookup()), [0, 12])
