"""What a student is taught by: the labels, the teacher's answers softened by a temperature (Hinton
et al. 2015, arXiv 1503.02531), its hidden states and its embedding (as TinyBERT, arXiv 1909.10351,
but of the mean over the tokens, which is what the embedding is made of).
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    log_softmax,
    normalize,
)

from compress.students.lesson import Settings
from compress.students.material import IGNORED, Batch
from edgeloop.runtime import EMBEDDING, LOGITS

MULTI_LABEL = "multi-label-classification"


@dataclass(frozen=True)
class Match:
    """Which of the teacher's layers each of the student's has as its example, in the student's
    order, and what turns the teacher's hidden states into the student's: (hidden, student's
    hidden), None where they are as wide."""

    layers: tuple[int, ...]
    projection: torch.Tensor | None = None

    def project(self, states: torch.Tensor) -> torch.Tensor:
        """The teacher's states (..., hidden) as the student is to have them."""
        return states if self.projection is None else states @ self.projection


def lesson_loss(
    task: str,
    outputs: dict[str, torch.Tensor],
    states: list[torch.Tensor],
    batch: Batch,
    match: Match,
    settings: Settings,
) -> torch.Tensor:
    """The loss of a batch, a scalar; `states` are the student's layers' as Batch has them."""
    example = normalize(match.project(batch.embedding), dim=-1)
    loss = (1.0 - (outputs[EMBEDDING] * example).sum(dim=-1)).mean()
    if match.layers:
        examples = match.project(batch.states[:, list(match.layers)])
        loss = loss + relative_error(torch.stack(states, dim=1), examples)
    if LOGITS not in outputs:
        return loss
    return answer_loss(task, outputs[LOGITS], batch, settings) + settings.hidden_weight * loss


def relative_error(states: torch.Tensor, examples: torch.Tensor) -> torch.Tensor:
    """Squared error over squared length, (batch, layers, hidden) each, the mean over the layers."""
    error = (states - examples).square().sum(dim=(0, 2))
    return (error / examples.square().sum(dim=(0, 2)).clamp(min=1e-12)).mean()


def answer_loss(task: str, logits: torch.Tensor, batch: Batch, settings: Settings) -> torch.Tensor:
    """The mean over the rows, or over all tokens of the batch that a tagger is asked about:
    `label_weight` of the labels' loss and the rest of the teacher's; the teacher's alone where
    there is no label."""
    examples, targets = batch.logits, batch.targets
    if logits.ndim == 3:
        logits, examples = logits[batch.spoken], examples[batch.spoken]
        targets = targets[batch.spoken]
    if not len(logits):
        return logits.sum()
    losses = _per_class if task == MULTI_LABEL else _one_of_all
    hard, soft, is_labelled = losses(logits, examples, targets, settings.temperature)
    weight = settings.label_weight * is_labelled.float()
    return (weight * hard + (1.0 - weight) * soft).mean()


Losses = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def _one_of_all(
    logits: torch.Tensor, examples: torch.Tensor, targets: torch.Tensor, temperature: float
) -> Losses:
    """Cross-entropy, Kullback-Leibler divergence, is there a label; (rows,) each."""
    wanted = targets.long()
    hard = cross_entropy(logits, wanted, ignore_index=IGNORED, reduction="none")
    teacher = log_softmax(examples / temperature, dim=-1)
    student = log_softmax(logits / temperature, dim=-1)
    soft = (teacher.exp() * (teacher - student)).sum(dim=-1) * temperature**2
    return hard, soft, wanted != IGNORED


def _per_class(
    logits: torch.Tensor, examples: torch.Tensor, targets: torch.Tensor, temperature: float
) -> Losses:
    """The same where each class is on or off, summed over the classes."""
    is_labelled = ~targets.isnan().any(dim=-1)
    hard = binary_cross_entropy_with_logits(logits, targets.nan_to_num(), reduction="none")
    wanted = (examples / temperature).sigmoid()
    soft = binary_cross_entropy_with_logits(logits / temperature, wanted, reduction="none")
    least = binary_cross_entropy_with_logits(examples / temperature, wanted, reduction="none")
    return hard.sum(dim=-1), (soft - least).sum(dim=-1) * temperature**2, is_labelled
