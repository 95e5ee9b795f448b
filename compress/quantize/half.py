"""fp16 for the CUDA provider: half the memory to read, and tensor cores. On a CPU onnxruntime casts
every operator back to fp32, so there it is only smaller.

There is no bf16 beside it: onnxruntime 1.32 has no bf16 kernels of MatMul, Gemm, Add, Softmax, Tanh
or Erf for its CPU provider, so such a file could not even be checked where it is made.
"""

import shutil
from pathlib import Path

import onnx

from compress.graph import name_nodes
from compress.source import Source
from edgeloop.bundle import MODEL, TOKENIZER
from edgeloop.errors import ExportError
from edgeloop.runtime import CUDA, providers


def half_precision_on_cuda(source: Source, folder: Path) -> None:
    """half_precision where it gains something. Raises ExportError where CUDA's provider is not."""
    if CUDA not in providers():
        raise ExportError(
            "fp16 gains only with CUDA, and this onnxruntime has no CUDA provider; on a machine "
            "with a GPU install edgeloop[gpu] in place of edgeloop[cpu]"
        )
    half_precision(source, folder)


def half_precision(source: Source, folder: Path) -> None:
    """Weights and activations in fp16, answers in fp32."""
    # Changes sys.path when it is imported, so only where it is needed.
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load(str(source.model))
    name_nodes(model.graph)
    onnx.save(convert_float_to_float16(model, keep_io_types=True), str(folder / MODEL))
    shutil.copyfile(source.tokenizer, folder / TOKENIZER)
