"""The merged model as model.onnx: dynamic batch and sequence, outputs as its task has them.

A ladder of two exporters; which one ran, and why not the first, is part of the candidate's record.
"""

import io
import logging
from collections.abc import Callable
from pathlib import Path

import onnx
import torch
from torch.export import Dim

from compress.graph import tidy
from compress.merged import Merged, quiet
from compress.modules import PER_TOKEN, Axes, Classifier
from edgeloop.errors import ExportError

OPSET = 20
# Sizes 0 and 1 are specialised in silence (pytorch#150842), so the sample is larger in both.
SAMPLE_SHAPE = (2, 8)
LONGEST_REASON = 160

logger = logging.getLogger(__name__)

Sample = dict[str, torch.Tensor]
Exporter = Callable[[torch.nn.Module, Sample, Axes], onnx.ModelProto]


def export_merged(merged: Merged, target: Path) -> str:
    """Write the model and return which exporter made it; see `export_module`."""
    ids = torch.arange(SAMPLE_SHAPE[0] * SAMPLE_SHAPE[1]).reshape(SAMPLE_SHAPE) % merged.vocabulary
    every = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "token_type_ids": torch.zeros_like(ids),
    }
    return export_module(merged.module, merged.feed(every), target, merged.outputs)


def export_module(
    module: torch.nn.Module, sample: Sample, target: Path, outputs: Axes = Classifier.outputs
) -> str:
    """Write `module`, which returns `outputs` in their order, with inputs named as in `sample`.

    The same weights give the same bytes. Returns "dynamo", or "torchscript (dynamo: why not)".

    Raises ExportError with every exporter's reason where none of them can.
    """
    reasons: list[str] = []
    for name, exporter in EXPORTERS.items():
        try:
            with quiet():
                model = exporter(module, sample, outputs)
        except Exception as problem:  # exporters raise whatever the traced model makes them raise
            reasons.append(f"{name}: {_first_line(problem)}")
            logger.warning("exporter=%s failed reason=%r", name, reasons[-1])
            continue
        tidy(model, list(outputs))
        onnx.save(model, str(target))
        return f"{name} ({'; '.join(reasons)})" if reasons else name
    raise ExportError(
        f"{target.name}: no exporter can write this model ({'; '.join(reasons)}); "
        "choose a base model of another architecture"
    )


def _dynamo(module: torch.nn.Module, sample: Sample, _: Axes) -> onnx.ModelProto:
    batch, seq = Dim("batch"), Dim("seq")
    program = torch.onnx.export(
        module,
        kwargs=sample,
        dynamo=True,
        dynamic_shapes={name: {0: batch, 1: seq} for name in sample},
        input_names=list(sample),
        opset_version=OPSET,
        external_data=False,
        verbose=False,
    )
    model: onnx.ModelProto = program.model_proto
    return model


def _torchscript(module: torch.nn.Module, sample: Sample, outputs: Axes) -> onnx.ModelProto:
    buffer = io.BytesIO()
    axes = {name: PER_TOKEN for name in sample} | dict(outputs)
    torch.onnx.export(
        module,
        tuple(sample.values()),
        buffer,
        dynamo=False,
        dynamic_axes=axes,
        input_names=list(sample),
        output_names=list(outputs),
        opset_version=OPSET,
    )
    return onnx.load_from_string(buffer.getvalue())


EXPORTERS: dict[str, Exporter] = {"dynamo": _dynamo, "torchscript": _torchscript}


def _first_line(problem: Exception) -> str:
    """What went wrong in one line: exporters append pages of advice, and the cause comes first."""
    cause: BaseException = problem
    while cause.__cause__ is not None:
        cause = cause.__cause__
    text = next((line.strip() for line in str(cause).splitlines() if line.strip()), "")
    return f"{type(cause).__name__}: {text}"[:LONGEST_REASON]
