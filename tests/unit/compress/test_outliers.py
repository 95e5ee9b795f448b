"""Outlier channels move into the weights: same answers in fp32, a smaller range to quantise."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from compress.quantize.outliers import Feed, outlier_ratio, tame_outliers

CHANNELS, OUTPUTS, OUTLIER = 40, 5, 7
Weights = NDArray[np.float32]


def network(shared: bool = False) -> onnx.ModelProto:
    """ids (batch, seq) -> table row, whose channel OUTLIER is 64 times as large -> MatMul."""
    rng = np.random.default_rng(0)
    table = rng.normal(size=(30, CHANNELS)).astype(np.float32)
    table[:, OUTLIER] *= 64.0
    weight = rng.normal(size=(CHANNELS, OUTPUTS)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("MatMul", ["rows", "weight"], ["out"]),
    ]
    if shared:
        nodes.append(helper.make_node("MatMul", ["out2", "weight"], ["other"]))
        nodes.insert(1, helper.make_node("Neg", ["rows"], ["out2"]))
    outputs = ["out", "other"] if shared else ["out"]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "seq"])],
        [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", "seq", OUTPUTS])
            for n in outputs
        ],
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(weight, "weight")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def feeds() -> list[Feed]:
    rng = np.random.default_rng(1)
    return [{"input_ids": rng.integers(0, 30, (1, n))} for n in (3, 9, 20)]


def answers(model: onnx.ModelProto) -> list[NDArray[np.float32]]:
    session = ort.InferenceSession(model.SerializeToString())
    return [session.run(["out"], dict(feed))[0] for feed in feeds()]


def test_fp32_answers_stay_and_the_outlier_is_gone_from_the_activation() -> None:
    model, before = network(), network()
    tame_outliers(model, feeds())
    onnx.checker.check_model(model, full_check=True)
    for found, expected in zip(answers(model), answers(before), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    (multiply,) = [node for node in model.graph.node if node.op_type == "Mul"]
    inverse = next(w for w in model.graph.initializer if w.name == multiply.input[1])
    factors = numpy_helper.to_array(inverse)
    assert 1 / 64 <= factors[OUTLIER] <= 1 / 16
    assert np.delete(factors, OUTLIER).min() >= 0.5


def test_a_matrix_that_two_nodes_share_is_left_alone() -> None:
    model = network(shared=True)
    before = model.SerializeToString()
    tame_outliers(model, feeds())
    assert model.SerializeToString() == before


def test_activations_without_outliers_are_left_alone() -> None:
    model = network()
    table = model.graph.initializer[0]
    values = numpy_helper.to_array(table).copy()
    values[:, OUTLIER] /= 64.0
    table.CopyFrom(numpy_helper.from_array(np.sign(values), "table"))
    before = model.SerializeToString()
    tame_outliers(model, feeds())
    assert model.SerializeToString() == before


@settings(deadline=None)
@given(st.lists(st.floats(0.0, 1e6, width=32), min_size=1, max_size=100))
def test_ratios_are_powers_of_two_and_touch_only_large_channels(values: list[float]) -> None:
    largest = np.array(values, dtype=np.float32)
    ratio = outlier_ratio(largest)
    assert np.all(ratio >= 1.0)
    assert np.all(np.log2(ratio) == np.round(np.log2(ratio)))
    ordinary = max(float(np.quantile(largest, 0.95)), 1e-6)
    assert np.all(ratio[largest <= ordinary] == 1.0)
    assert np.all(largest / ratio <= max(ordinary, 1e-6) * 1.42)


def test_a_silent_activation_has_no_outlier() -> None:
    assert outlier_ratio(np.zeros(8, dtype=np.float32)) == pytest.approx(np.ones(8))
