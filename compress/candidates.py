"""What the exported fp32 model is turned into, by the recipe's candidate kind."""

import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

FLOAT = int(onnx.TensorProto.FLOAT)


def _keep_fp32(exported: Path, target: Path) -> None:
    shutil.copyfile(exported, target)


def _dynamic_int8(exported: Path, target: Path) -> None:
    """int8 weights per output channel, activations scaled at run time; embedding tables as well,
    which are half of a small encoder's file.
    """
    model = onnx.load(str(exported))
    # Says that shapes need no further inference: without it onnxruntime logs advice to the root
    # logger, which also installs a handler there.
    add_pre_process_metadata(model)
    quantize_dynamic(
        model,
        str(target),
        op_types_to_quantize=["MatMul", "Gather"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        # Values whose type shape inference does not find are activations (onnxruntime's own
        # quantizer stops on them otherwise).
        extra_options={"DefaultTensorType": FLOAT},
    )


CANDIDATES: dict[str, Callable[[Path, Path], None]] = {
    "onnx-fp32": _keep_fp32,
    "onnx-int8": _dynamic_int8,
}
