"""What each task is trained on, and the one figure that training is stopped by: the higher, the
better."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    kl_div,
    log_softmax,
)

from edgeloop.tasks import entity_runs
from finetune.batches import IGNORED, Batch

# sentence-transformers' scale of a cosine in the contrastive loss: a temperature of 0.05.
COSINE_SCALE = 20.0
RETRIEVAL_BLOCK_ROWS = 1024


# Batches with the task's output for each.
Answered = Sequence[tuple[Batch, torch.Tensor]]


class Objective(Protocol):
    """`name` of the figure; loss is a mean over the batch."""

    name: str

    def loss(self, output: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The loss of a batch's output, a scalar."""
        ...

    def metric(self, answered: Answered) -> float:
        """The figure over all rows."""
        ...


class SingleLabel:
    """Cross-entropy; accuracy."""

    name = "accuracy"

    def loss(self, output: torch.Tensor, batch: Batch) -> torch.Tensor:
        return cross_entropy(output, batch.targets)

    def metric(self, answered: Answered) -> float:
        right = [output.argmax(dim=-1) == batch.targets for batch, output in answered]
        return float(torch.cat(right).double().mean().item())


class MultiLabel:
    """Binary cross-entropy, summed over the classes; micro-F1 at a probability of 1/2."""

    name = "micro F1"

    def loss(self, output: torch.Tensor, batch: Batch) -> torch.Tensor:
        each = binary_cross_entropy_with_logits(output, batch.targets, reduction="none")
        return each.sum(dim=-1).mean()

    def metric(self, answered: Answered) -> float:
        said = torch.cat([output >= 0.0 for _, output in answered])
        meant = torch.cat([batch.targets > 0.5 for batch, _ in answered])
        return f1(int((said & meant).sum()), int(said.sum()), int(meant.sum()))


class Tags:
    """Cross-entropy per token; micro-F1 on exact entities."""

    name = "entity F1"

    def loss(self, output: torch.Tensor, batch: Batch) -> torch.Tensor:
        return cross_entropy(output.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORED)

    def metric(self, answered: Answered) -> float:
        both = said = meant = 0
        for batch, output in answered:
            found = output.argmax(dim=-1).tolist()
            for tags, wanted in zip(found, batch.targets.tolist(), strict=True):
                # Token numbers stand for characters: equal ranges of tokens are equal spans.
                places = [(0, 0) if tag == IGNORED else (i, i + 1) for i, tag in enumerate(wanted)]
                mine, theirs = (set(entity_runs(row, places)) for row in (tags, wanted))
                both += len(mine & theirs)
                said += len(mine)
                meant += len(theirs)
        return f1(both, said, meant)


class InBatchNegatives:
    """The anchor's own document among all documents of the batch (multiple negatives ranking loss,
    arXiv 1705.00652); the share of anchors whose own document is the nearest of all."""

    name = "recall at 1"

    def loss(self, output: torch.Tensor, batch: Batch) -> torch.Tensor:
        anchors, documents = output[: batch.rows], output[batch.rows :]
        scores = anchors @ documents.T * COSINE_SCALE  # (rows, documents)
        own, others = batch.targets[batch.rows : 2 * batch.rows], batch.targets[batch.rows :]
        places = torch.arange(batch.rows)
        # The same text elsewhere in the batch is no negative; neither is the anchor itself.
        same = (own[:, None] == others[None]) | (batch.targets[: batch.rows, None] == others[None])
        same[places, places] = False
        return cross_entropy(scores.masked_fill(same, float("-inf")), places)

    def metric(self, answered: Answered) -> float:
        vectors = {
            int(document): vector
            for batch, output in answered
            for document, vector in zip(batch.targets, output, strict=True)
        }
        pairs = torch.cat(
            [batch.targets[: 2 * batch.rows].reshape(2, batch.rows) for batch, _ in answered], dim=1
        )
        documents = pairs[1].unique()
        candidates = torch.stack([vectors[int(d)] for d in documents])  # (documents, hidden)
        hits = 0
        for block in pairs.split(RETRIEVAL_BLOCK_ROWS, dim=1):
            anchors = torch.stack([vectors[int(a)] for a in block[0]])
            hits += int((documents[(anchors @ candidates.T).argmax(dim=-1)] == block[1]).sum())
        return hits / int(pairs.shape[1])


def f1(both: int, said: int, meant: int) -> float:
    """The harmonic mean of precision and recall; 1 where there was nothing to find or say."""
    return 1.0 if said + meant == 0 else 2.0 * both / (said + meant)


OBJECTIVES: dict[str, Objective] = {
    "text-classification": SingleLabel(),
    "multi-label-classification": MultiLabel(),
    "token-classification": Tags(),
    "text-embedding": InBatchNegatives(),
}


def blended_loss(task: str, output: torch.Tensor, batch: Batch, weight: float) -> torch.Tensor:
    """The mean over the batch of the task's loss, of which `weight` is the distillation's in the
    rows that have soft targets; a row of NaN has none and is learned from its label alone."""
    objective = OBJECTIVES[task]
    loss = objective.loss(output, batch)
    if batch.soft is None:
        return loss
    is_soft = ~batch.soft.isnan().any(dim=-1)
    if not is_soft.any():
        return loss
    logits, soft = output[is_soft], batch.soft[is_soft]
    part = replace(batch, targets=batch.targets[is_soft], rows=len(soft), soft=None)
    difference = DISTILLATIONS[task](logits, soft) - objective.loss(logits, part)
    return loss + weight * is_soft.double().mean().float() * difference


def distillation(output: torch.Tensor, soft: torch.Tensor) -> torch.Tensor:
    """Kullback-Leibler divergence from the teacher's probabilities, both (rows, classes)."""
    return kl_div(log_softmax(output, dim=-1), soft, reduction="batchmean")


def distillation_per_class(output: torch.Tensor, soft: torch.Tensor) -> torch.Tensor:
    """The same per class, each on or off, summed over the classes: binary cross-entropy less the
    teacher's own entropy."""
    each = binary_cross_entropy_with_logits(output, soft, reduction="none")
    entropy = -torch.special.xlogy(soft, soft) - torch.special.xlogy(1.0 - soft, 1.0 - soft)
    return (each - entropy).sum(dim=-1).mean()


DISTILLATIONS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "text-classification": distillation,
    "multi-label-classification": distillation_per_class,
}
