"""Weights in 8 or 4 bits, in blocks with a scale each (MatMulNBits). Activations are quantized per
row at run time (accuracy level 4), so an answer hardly depends on the texts beside it.
"""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from compress.quantize.graphs import (
    load,
    quantize_lookups,
    weighted_matmuls,
    weights_of,
)
from compress.source import Source
from edgeloop.bundle import MODEL, TOKENIZER

INT8_ACTIVATIONS = 4  # onnxruntime's accuracy level of that name
# The larger blocks are faster, the smaller ones closer to fp32.
BLOCK_VALUES = {8: 128, 4: 32}


def weight_only_8(source: Source, folder: Path) -> None:
    """8-bit weights, int8 embedding rows."""
    _weight_only(source, folder, 8)


def weight_only_4(source: Source, folder: Path) -> None:
    """4-bit weights, int8 embedding rows."""
    _weight_only(source, folder, 4)


def _weight_only(source: Source, folder: Path, bits: int) -> None:
    model = load(source)
    wanted = {node.name for node in weighted_matmuls(model.graph, weights_of(model.graph))}
    others = [node.name for node in model.graph.node if node.name not in wanted]
    with _quiet():
        quantizer = MatMulNBitsQuantizer(
            model,
            bits=bits,
            block_size=BLOCK_VALUES[bits],
            is_symmetric=False,
            accuracy_level=INT8_ACTIVATIONS,
            nodes_to_exclude=others,
            op_types_to_quantize=("MatMul",),
        )
        quantizer.process()
    made: onnx.ModelProto = quantizer.model.model
    quantize_lookups(made)
    onnx.save(made, str(folder / MODEL))
    shutil.copyfile(source.tokenizer, folder / TOKENIZER)


@contextmanager
def _quiet() -> Iterator[None]:
    """No log line per node."""
    logger = logging.getLogger("onnxruntime.quantization.matmul_nbits_quantizer")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
