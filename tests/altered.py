"""Bundles that are altered on purpose and have a fitting manifest again."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeloop.bundle import GOLDEN, MANIFEST, MODEL, NOT_LISTED, Bundle, open_bundle
from edgeloop.rundir import list_files

SLOW_SIZE = 1500
SLOW_PRODUCTS = 4


def rewrite_manifest(bundle: Bundle, **changes: Any) -> Bundle:
    """Make the manifest fit the files again, with other changes."""
    files = list_files(bundle.path, NOT_LISTED)
    manifest = bundle.manifest.model_copy(update={"files": files, **changes})
    manifest.write(bundle.path / MANIFEST)
    return open_bundle(bundle.path)


def make_slow(bundle: Bundle) -> Bundle:
    """Let every answer take some tenths of a second: products of large matrices of zeros."""
    path = bundle.file(MODEL)
    model = onnx.load(path)
    graph = model.graph
    for node in graph.node:
        if node.output[0] == "logits":
            node.output[0] = "fast_logits"
    add = _adder(graph)
    add("Mul", ["fast_logits", _constant(graph, "zero", np.float32(0))], "zeros")
    add("ReduceMax", ["zeros"], "scalar", keepdims=0)
    shape = _constant(graph, "big", np.array([SLOW_SIZE, SLOW_SIZE]))
    last = add("Expand", ["scalar", shape], "product0")
    for i in range(SLOW_PRODUCTS):
        last = add("MatMul", [last, last], f"product{i + 1}")
    add("ReduceMax", [last], "still_zero", keepdims=0)
    add("Add", ["fast_logits", "still_zero"], "logits")
    onnx.save(model, str(path))
    first = bundle.file(GOLDEN).read_text().splitlines()[0]
    bundle.file(GOLDEN).write_text(first + "\n")
    return rewrite_manifest(bundle, deadline_ms=30_000)


def _adder(graph: onnx.GraphProto) -> Any:
    def add(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        graph.node.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    return add


def _constant(graph: onnx.GraphProto, name: str, value: Any) -> str:
    graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return name


def make_nan(bundle: Bundle) -> Bundle:
    """Let the logits be NaN for texts with an unknown word: its embedding is not a number."""
    path = bundle.file(MODEL)
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name == "table":
            table = numpy_helper.to_array(tensor).copy()
            table[1] = np.nan
            tensor.CopyFrom(numpy_helper.from_array(table, "table"))
            assert tensor.data_type == TensorProto.FLOAT
    onnx.save(model, str(path))
    return rewrite_manifest(bundle)


def break_golden(bundle: Bundle) -> Bundle:
    """Let the golden rows expect answers that the model does not give."""
    rows = [json.loads(line) for line in bundle.file(GOLDEN).read_text().splitlines()]
    labels = bundle.manifest.labels
    for row in rows:
        row["expected"] = labels[(labels.index(row["expected"]) + 1) % len(labels)]
    bundle.file(GOLDEN).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rewrite_manifest(bundle)


def flip_byte(path: Path) -> None:
    """Change one byte in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
