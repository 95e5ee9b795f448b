"""int8 by ONNX Runtime's dynamic quantization."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from compress.graph import name_nodes
from compress.quantize.graphs import FLOAT, quantize_lookups
from compress.quantize.outliers import tame_outliers
from compress.source import Source
from edgeloop.bundle import MODEL, TOKENIZER


def dynamic_int8(source: Source, folder: Path) -> None:
    """int8 weights per output channel, activations scaled at run time; embedding tables as well,
    which are half of a small encoder's file.
    """
    model = onnx.load(str(source.model))
    tame_outliers(model, source.feeds(model))
    quantize_lookups(model)
    write_dynamic(model, source, folder, ())


def write_dynamic(
    model: onnx.ModelProto, source: Source, folder: Path, kept: Sequence[str]
) -> None:
    """Write `model` with its MatMuls in int8, but for those named in `kept`, and the tokenizer."""
    name_nodes(model.graph)
    # Says that shapes need no further inference: without it onnxruntime logs advice to the root
    # logger, which also installs a handler there.
    add_pre_process_metadata(model)
    quantize_dynamic(
        model,
        str(folder / MODEL),
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=list(kept),
        # Values whose type shape inference does not find are activations (onnxruntime's own
        # quantizer stops on them otherwise).
        extra_options={"DefaultTensorType": FLOAT},
    )
    shutil.copyfile(source.tokenizer, folder / TOKENIZER)
