"""What the exported fp32 model is turned into, by the recipe's candidate kind."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from compress.outliers import Feed, tame_outliers
from edgeloop.runtime import Encoded

FLOAT = int(onnx.TensorProto.FLOAT)


@dataclass(frozen=True)
class Source:
    """The exported model, and encoded training rows to calibrate on, each a batch of its own."""

    model: Path
    calibration: Sequence[Encoded]

    def feeds(self, model: onnx.ModelProto) -> list[Feed]:
        """The calibration rows as the model's inputs, one at a time."""
        names = {value.name for value in model.graph.input}
        return [
            {name: values for name, values in encoded.feed().items() if name in names}
            for encoded in self.calibration
        ]


def _keep_fp32(source: Source, target: Path) -> None:
    shutil.copyfile(source.model, target)


def _dynamic_int8(source: Source, target: Path) -> None:
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
        str(target),
        op_types_to_quantize=["MatMul", "Gather"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        # Values whose type shape inference does not find are activations (onnxruntime's own
        # quantizer stops on them otherwise).
        extra_options={"DefaultTensorType": FLOAT},
    )


CANDIDATES: dict[str, Callable[[Source, Path], None]] = {
    "onnx-fp32": _keep_fp32,
    "onnx-int8": _dynamic_int8,
}
