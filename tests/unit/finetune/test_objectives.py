"""Losses and figures, checked against hand-made numbers."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from finetune.batches import IGNORED, Batch
from finetune.model import MODELS
from finetune.objectives import COSINE_SCALE, OBJECTIVES, distillation, f1


def batch(targets: torch.Tensor, rows: int | None = None) -> Batch:
    ids = torch.ones(2, 2, dtype=torch.int64)
    return Batch(ids, ids, None, targets, len(targets) if rows is None else rows)


def test_every_task_has_model_and_objective() -> None:
    assert OBJECTIVES.keys() == MODELS.keys()


def test_accuracy_counts_the_largest_logit() -> None:
    objective = OBJECTIVES["text-classification"]
    output = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    first, rest = batch(torch.tensor([0])), batch(torch.tensor([0, 1]))
    assert objective.metric([(first, output[:1]), (rest, output[1:])]) == pytest.approx(2 / 3)
    assert objective.loss(torch.zeros(1, 2), first).item() == pytest.approx(math.log(2))


def test_micro_f1_counts_labels_not_rows() -> None:
    objective = OBJECTIVES["multi-label-classification"]
    meant = batch(torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
    said = torch.tensor([[9.0, -9.0, 9.0], [-9.0, -9.0, 9.0]])
    assert objective.metric([(meant, said)]) == pytest.approx(f1(2, 3, 3))
    assert objective.loss(torch.zeros(2, 3), meant).item() == pytest.approx(3 * math.log(2))


def test_entity_f1_wants_the_whole_entity() -> None:
    objective = OBJECTIVES["token-classification"]
    meant = batch(torch.tensor([[IGNORED, 1, 2, 0, 3, IGNORED]]))
    wrong_end = torch.eye(5)[torch.tensor([0, 1, 0, 0, 3, 0])][None]
    assert objective.metric([(meant, wrong_end)]) == pytest.approx(f1(1, 2, 2))
    right = torch.eye(5)[torch.tensor([4, 1, 2, 0, 3, 4])][None]
    assert objective.metric([(meant, right)]) == 1.0


def test_ignored_tokens_are_not_learned() -> None:
    objective = OBJECTIVES["token-classification"]
    meant = batch(torch.tensor([[IGNORED, 1]]))
    output = torch.zeros(1, 2, 5)
    output[0, 0, 3] = 100.0
    assert objective.loss(output, meant).item() == pytest.approx(math.log(5))


def test_no_entity_meant_and_none_said_is_perfect() -> None:
    assert f1(0, 0, 0) == 1.0
    assert f1(0, 1, 0) == 0.0


def vectors(*angles: float) -> torch.Tensor:
    return normalize(torch.tensor([[math.cos(a), math.sin(a)] for a in angles]), dim=-1)


def test_recall_looks_among_all_documents() -> None:
    objective = OBJECTIVES["text-embedding"]
    pairs = batch(torch.tensor([0, 1, 2, 3]), rows=2)  # anchors 0, 1; positives 2, 3
    assert objective.metric([(pairs, vectors(0.0, 1.0, 0.1, 1.1))]) == 1.0
    assert objective.metric([(pairs, vectors(0.0, 1.0, 0.9, 0.1))]) == 0.0


def test_recall_takes_documents_of_other_batches_into_account() -> None:
    objective = OBJECTIVES["text-embedding"]
    one, two = batch(torch.tensor([0, 1]), rows=1), batch(torch.tensor([2, 3]), rows=1)
    near_the_other = [(one, vectors(0.0, 0.5)), (two, vectors(1.0, 0.01))]
    assert objective.metric(near_the_other) == 0.0


def test_the_same_document_elsewhere_is_no_negative() -> None:
    objective = OBJECTIVES["text-embedding"]
    shared = batch(torch.tensor([0, 1, 2, 2]), rows=2)
    output = vectors(0.0, 0.0, 0.0, 0.0)
    assert objective.loss(output, shared).item() == pytest.approx(0.0, abs=1e-6)
    apart = batch(torch.tensor([0, 1, 2, 3]), rows=2)
    assert objective.loss(output, apart).item() == pytest.approx(math.log(2), rel=1e-5)


def test_hard_negatives_raise_the_loss() -> None:
    objective = OBJECTIVES["text-embedding"]
    output = vectors(0.0, 0.2, 0.2)
    with_negative = objective.loss(output, batch(torch.tensor([0, 1, 2]), rows=1)).item()
    assert with_negative == pytest.approx(math.log(2), rel=1e-5)
    far = objective.loss(vectors(0.0, 0.2, 3.1), batch(torch.tensor([0, 1, 2]), rows=1)).item()
    assert far < math.exp(-COSINE_SCALE)


def test_distillation_is_nothing_where_the_models_agree() -> None:
    logits = torch.tensor([[1.0, 0.0, -1.0]])
    assert distillation(logits, logits.softmax(-1)).item() == pytest.approx(0.0, abs=1e-6)
    assert distillation(logits, torch.tensor([[0.0, 0.0, 1.0]])).item() > 1.0
