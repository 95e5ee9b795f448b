"""Ranges of activations: what each method keeps of a distribution."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from compress.quantize.calibrate import BINS, METHODS, PERCENTILE, Histogram, observe
from tests.tiny_graphs import as_model


def histogram(values: NDArray[np.float64]) -> Histogram:
    low, high = float(values.min()), float(values.max())
    return Histogram(low, high, np.histogram(values, BINS, (low, high))[0])


def test_minmax_keeps_everything() -> None:
    assert METHODS["minmax"](histogram(np.array([-3.0, 0.0, 8.0]))) == (-3.0, 8.0)


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1_000, 50_000))
def test_the_percentile_cuts_no_more_than_it_says(seed: int, count: int) -> None:
    values = np.random.default_rng(seed).standard_t(3, count)
    low, high = METHODS["percentile"](histogram(values))
    assert values.min() <= low < high <= values.max()
    beyond = np.mean((values < low) | (values > high))
    assert beyond <= (1.0 - PERCENTILE) + 1.0 / count


def test_entropy_cuts_a_lone_outlier_and_keeps_a_flat_distribution() -> None:
    rng = np.random.default_rng(0)
    low, high = METHODS["entropy"](histogram(np.append(rng.normal(size=100_000), 100.0)))
    assert -7.0 < low < -3.0
    assert 3.0 < high < 20.0
    low, high = METHODS["entropy"](histogram(rng.uniform(-1.0, 1.0, 100_000)))
    assert low < -0.95
    assert high > 0.95


def test_entropy_of_a_one_sided_activation_keeps_its_short_side() -> None:
    rng = np.random.default_rng(0)
    values = np.maximum(rng.normal(size=50_000), -0.17)
    low, high = METHODS["entropy"](histogram(values))
    assert low == pytest.approx(-0.17)
    assert high > 2.0


@pytest.mark.parametrize("method", METHODS)
def test_no_method_goes_beyond_what_was_seen(method: str) -> None:
    values = np.random.default_rng(1).laplace(size=10_000)
    low, high = METHODS[method](histogram(values))
    assert values.min() <= low < high <= values.max()


def doubled() -> onnx.ModelProto:
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["input_ids"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["float", "two"], ["doubled"]),
            helper.make_node("Mul", ["doubled", "two"], ["out"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "seq"])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array(2.0, dtype=np.float32), "two")],
    )
    return as_model(graph)


def test_activations_are_seen_on_texts_of_any_length_and_the_model_is_left_alone() -> None:
    model = doubled()
    before = model.SerializeToString()
    feeds = [{"input_ids": np.array([row], dtype=np.int64)} for row in ([1, 2, 3], [-5], [0, 7])]
    seen = observe(model, ["doubled", "out"], feeds)
    assert (seen["doubled"].low, seen["doubled"].high) == (-10.0, 14.0)
    assert (seen["out"].low, seen["out"].high) == (-20.0, 28.0)
    assert seen["doubled"].counts.sum() == 6
    assert model.SerializeToString() == before


def test_an_activation_that_never_changes_has_a_range_as_well() -> None:
    seen = observe(doubled(), ["doubled"], [{"input_ids": np.array([[3, 3]], dtype=np.int64)}])
    assert seen["doubled"].low == 6.0
    assert seen["doubled"].high > 6.0
