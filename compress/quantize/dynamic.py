"""int8 by ONNX Runtime's dynamic quantization."""

import shutil
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from compress.quantize.outliers import tame_outliers
from compress.source import Source
from edgeloop.bundle import MODEL, TOKENIZER

FLOAT = int(onnx.TensorProto.FLOAT)


def dynamic_int8(source: Source, folder: Path) -> None:
    """int8 weights per output channel, activations scaled at run time; embedding tables as well,
    which are half of a small encoder's file.
    """
    model = onnx.load(str(source.model))
    tame_outliers(model, source.feeds(model))
    # Says that shapes need no further inference: without it onnxruntime logs advice to the root
    # logger, which also installs a handler there.
    add_pre_process_metadata(model)
    quantize_dynamic(
        model,
        str(folder / MODEL),
        op_types_to_quantize=["MatMul", "Gather"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        # Values whose type shape inference does not find are activations (onnxruntime's own
        # quantizer stops on them otherwise).
        extra_options={"DefaultTensorType": FLOAT},
    )
    shutil.copyfile(source.tokenizer, folder / TOKENIZER)
