"""Weights in 8 or 4 bits, in blocks with a scale each (MatMulNBits). Activations are quantized per
row and block at run time (accuracy level 4), so an answer hardly depends on the texts beside it.
"""

import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from compress.graph import drop_unused, name_nodes
from compress.quantize.blocks import quantize_blocks
from compress.quantize.graphs import (
    embedding_lookups,
    load,
    quantize_lookups,
    replace_node,
    split_gemms,
    weighted_matmuls,
    weights_of,
)
from compress.quantize.outliers import tame_outliers
from compress.source import Source
from edgeloop.bundle import MODEL, TOKENIZER

CONTRIB = "com.microsoft"
INT8_ACTIVATIONS = 4  # onnxruntime's accuracy level of that name
# Larger blocks are faster, smaller ones closer to fp32: facts of all-MiniLM-L6-v2.
BLOCK_VALUES = {8: 128, 4: 32}
TABLE_BLOCK_VALUES = 32


def weight_only_8(source: Source, folder: Path) -> None:
    """8-bit weights and int8 embedding rows."""
    model = load(source)
    split_gemms(model.graph)
    _quantize_matmuls(model, 8)
    quantize_lookups(model)
    _save(model, source, folder)


def weight_only_4(source: Source, folder: Path) -> None:
    """4-bit weights and 4-bit embedding rows. Channels that are outliers are tamed first, since the
    activations that meet 4-bit weights are int8."""
    model = load(source)
    split_gemms(model.graph)
    tame_outliers(model, source.feeds(model))
    _quantize_matmuls(model, 4)
    _quantize_tables(model, 4)
    quantize_lookups(model)  # tables whose rows are no whole number of blocks
    _save(model, source, folder)


def _save(model: onnx.ModelProto, source: Source, folder: Path) -> None:
    name_nodes(model.graph)
    drop_unused(model.graph)
    if CONTRIB not in {opset.domain for opset in model.opset_import}:
        model.opset_import.append(helper.make_opsetid(CONTRIB, 1))
    onnx.save(model, str(folder / MODEL))
    shutil.copyfile(source.tokenizer, folder / TOKENIZER)


def _quantize_matmuls(model: onnx.ModelProto, bits: int) -> None:
    graph, weights = model.graph, weights_of(model.graph)
    block = BLOCK_VALUES[bits]
    for node in weighted_matmuls(graph, weights):
        weight = node.input[1]
        names = [f"{weight}_{kind}" for kind in ("levels", "scales", "zeros")]
        if names[0] not in {known.name for known in graph.initializer}:
            blocks = quantize_blocks(np.ascontiguousarray(weights[weight].T), block, bits)
            levels, zeros = blocks.packed()
            for name, array in zip(names, (levels, blocks.scales, zeros), strict=True):
                graph.initializer.append(numpy_helper.from_array(array, name))
        inner, outer = weights[weight].shape
        sizes = {"K": inner, "N": outer, "bits": bits, "block_size": block}
        made = helper.make_node(
            "MatMulNBits",
            [node.input[0], *names],
            list(node.output),
            node.name,
            domain=CONTRIB,
            accuracy_level=INT8_ACTIVATIONS,
            **sizes,
        )
        replace_node(graph, node, [made])
    drop_unused(graph)


def _quantize_tables(model: onnx.ModelProto, bits: int) -> None:
    graph, weights = model.graph, weights_of(model.graph)
    for node in embedding_lookups(graph, weights):
        table = node.input[0]
        if weights[table].shape[1] % TABLE_BLOCK_VALUES:
            continue
        names = [f"{table}_{kind}" for kind in ("levels", "scales", "zeros")]
        if names[0] not in {known.name for known in graph.initializer}:
            blocks = quantize_blocks(weights[table], TABLE_BLOCK_VALUES, bits)
            levels, zeros = blocks.packed()
            flat = levels.reshape(len(levels), -1)
            for name, array in zip(names, (flat, blocks.scales, zeros), strict=True):
                graph.initializer.append(numpy_helper.from_array(array, name))
        made = helper.make_node(
            "GatherBlockQuantized",
            [names[0], node.input[1], names[1], names[2]],
            list(node.output),
            node.name,
            domain=CONTRIB,
            gather_axis=0,
            quantize_axis=1,
            block_size=TABLE_BLOCK_VALUES,
            bits=bits,
        )
        replace_node(graph, node, [made])
    drop_unused(graph)
