"""Proof that the merged model is the adapter on its base: both answer the same real rows."""

import torch

from edgeloop.errors import MergeError
from edgeloop.records import Parity
from finetune.batches import Encoded, in_order

# Largest difference of an output, by what the base's weights are rounded to.
TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 2e-2}
MIN_AGREEMENT_RATIO = 0.999


def prove(
    adapted: torch.nn.Module, merged: torch.nn.Module, rows: Encoded, tolerance: float
) -> Parity:
    """Both models, in fp32, on the same rows.

    Raises MergeError where an output differs by more than the tolerance, or too many answers do.
    """
    expected, found = answers(adapted, rows), answers(merged, rows)
    difference = max(float((a - b).abs().max()) for a, b in zip(expected, found, strict=True))
    same = [_choice(a, rows) == _choice(b, rows) for a, b in zip(expected, found, strict=True)]
    agreement = float(torch.cat(same).double().mean())
    # Written so that a difference that is not a number fails as well.
    if not (difference <= tolerance and agreement >= MIN_AGREEMENT_RATIO):
        raise MergeError(
            f"the merged model is not the adapter on its base: outputs differ by {difference:.3g} "
            f"(at most {tolerance:g}), {agreement:.4f} of the answers to {len(rows)} rows agree "
            f"(at least {MIN_AGREEMENT_RATIO}); nothing was kept. Fine-tune again, or take an fp32 "
            "base"
        )
    return Parity(
        rows=len(rows),
        max_abs_difference=difference,
        argmax_agreement_ratio=agreement,
        tolerance=tolerance,
    )


def answers(model: torch.nn.Module, rows: Encoded) -> list[torch.Tensor]:
    """The model's output per batch: (rows, ...), of a tagger (real tokens, tags)."""
    model.eval()
    outputs = []
    with torch.inference_mode():
        for batch in in_order(rows):
            output = batch.output(model)
            is_tagger = output.ndim == 3
            outputs.append(output[batch.attention_mask == 1] if is_tagger else output)
    return outputs


def _choice(output: torch.Tensor, rows: Encoded) -> torch.Tensor:
    """What is decided by the output: the class or tag, the set of labels, the nearest text."""
    if rows.task == "multi-label-classification":
        return output > 0.0
    if rows.task == "text-embedding":
        return (output @ output.T).fill_diagonal_(-2.0).argmax(dim=-1)
    return output.argmax(dim=-1)
