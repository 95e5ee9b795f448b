"""The kernels that a file really runs on, and QDQ islands, as onnxruntime itself optimises it."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.lint import lint_kernels
from compress.quantize.dynamic import dynamic_int8
from compress.source import Source
from edgeloop.bundle import MODEL, TOKENIZER
from edgeloop.errors import EngineError
from edgeloop.records_compress import KernelLint
from tests import tiny
from tests.tiny_graphs import as_model

SIZE = 16


def save(path: Path, nodes: list[onnx.NodeProto], arrays: dict[str, np.ndarray]) -> Path:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "seq", SIZE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    onnx.save(as_model(graph), path)
    return path


def quantization() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "w": rng.normal(size=(SIZE, SIZE)).astype(np.float32),
        "w8": rng.integers(-127, 127, (SIZE, SIZE), dtype=np.int8),
        "scale": np.array(0.05, dtype=np.float32),
        "zero": np.array(128, dtype=np.uint8),
        "zero8": np.array(0, dtype=np.int8),
    }


def quantize(name: str, to: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("QuantizeLinear", [name, "scale", "zero"], [f"{to}_levels"]),
        helper.make_node("DequantizeLinear", [f"{to}_levels", "scale", "zero"], [to]),
    ]


def test_a_float_model_has_float_matmuls_and_nothing_to_say(tmp_path: Path) -> None:
    tiny.make_model(tmp_path)
    assert lint_kernels(tmp_path / MODEL) == KernelLint(
        integer_matmuls=0, float_matmuls=1, float_products=0, qdq_islands=0, warnings=()
    )


def test_a_dynamically_quantized_one_has_integer_kernels(tmp_path: Path) -> None:
    tiny.make_model(tmp_path / "tiny")
    texts = [text for text, _ in tiny.sentences(8)]
    source = Source(tmp_path / "tiny" / MODEL, tmp_path / "tiny" / TOKENIZER, texts, 16)
    (tmp_path / "made").mkdir()
    dynamic_int8(source, tmp_path / "made")
    found = lint_kernels(tmp_path / "made" / MODEL)
    assert (found.integer_matmuls, found.float_matmuls, found.warnings) == (1, 0, ())


def test_products_of_activations_are_counted_apart(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("Sigmoid", ["turned"], ["squashed"]),
        helper.make_node("MatMul", ["x", "squashed"], ["y"]),
    ]
    found = lint_kernels(save(tmp_path / "m.onnx", nodes, {}))
    assert (found.float_matmuls, found.float_products) == (0, 1)


def test_a_known_pattern_becomes_an_integer_kernel(tmp_path: Path) -> None:
    nodes = [
        *quantize("x", "x_back"),
        helper.make_node("DequantizeLinear", ["w8", "scale", "zero8"], ["w_back"]),
        helper.make_node("MatMul", ["x_back", "w_back"], ["y"]),
    ]
    found = lint_kernels(save(tmp_path / "m.onnx", nodes, quantization()))
    assert (found.integer_matmuls, found.float_matmuls, found.warnings) == (1, 0, ())


def test_an_island_of_float_between_quantized_values_is_told(tmp_path: Path) -> None:
    nodes = [
        *quantize("x", "x_back"),
        helper.make_node("Erf", ["x_back"], ["erf"]),
        *quantize("erf", "erf_back"),
        helper.make_node("DequantizeLinear", ["w8", "scale", "zero8"], ["w_back"]),
        helper.make_node("MatMul", ["erf_back", "w_back"], ["y"]),
    ]
    found = lint_kernels(save(tmp_path / "m.onnx", nodes, quantization()))
    assert found.qdq_islands == 1
    assert found.integer_matmuls == 1
    assert any("1 float operators (Erf) stand between" in said for said in found.warnings)


def test_weights_that_become_float_again_for_every_text_are_told(tmp_path: Path) -> None:
    arrays = quantization() | {"bias": np.ones(SIZE, dtype=np.float32), "first": np.array(0)}
    nodes = [
        helper.make_node("Gather", ["x", "first"], ["row"], axis=0),
        *quantize("row", "row_back"),
        helper.make_node("DequantizeLinear", ["w8", "scale", "zero8"], ["w_back"]),
        helper.make_node("Gemm", ["row_back", "w_back", "bias"], ["y"]),
    ]
    found = lint_kernels(save(tmp_path / "m.onnx", nodes, arrays))
    assert (found.integer_matmuls, found.float_matmuls) == (0, 1)
    few, turned = found.warnings
    assert "only 0 of 1 MatMuls" in few
    assert "1 MatMuls turn their int8 weights back" in turned


def test_a_file_that_does_not_load_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"not a model")
    with pytest.raises(EngineError, match=r"m\.onnx: does not load"):
        lint_kernels(tmp_path / "m.onnx")
