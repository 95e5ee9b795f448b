"""What a student is told: labels where there are some, the teacher everywhere."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from compress.students.lesson import MEASURED
from compress.students.losses import Match, answer_loss, lesson_loss, relative_error
from compress.students.material import IGNORED, Batch
from edgeloop.runtime import EMBEDDING, LOGITS

SINGLE, MULTI, TAGS = (
    "text-classification",
    "multi-label-classification",
    "token-classification",
)


def batch(logits: torch.Tensor, targets: torch.Tensor, spoken: torch.Tensor | None = None) -> Batch:
    rows = len(logits)
    return Batch(
        feed={},
        spoken=torch.ones(rows, 1, dtype=torch.bool) if spoken is None else spoken,
        targets=targets,
        logits=logits,
        embedding=normalize(torch.randn(rows, 4, generator=torch.manual_seed(2)), dim=-1),
        states=torch.randn(rows, 3, 4, generator=torch.manual_seed(3)),
    )


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.manual_seed(seed))


@pytest.mark.parametrize("task", [SINGLE, MULTI])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_teachers_own_answers_cost_nothing_without_labels(
    task: str, temperature: float
) -> None:
    logits = random(5, 3)
    targets = torch.full((5,), IGNORED) if task == SINGLE else torch.full((5, 3), torch.nan)
    settings = replace(MEASURED, temperature=temperature)
    assert answer_loss(task, logits, batch(logits, targets), settings).item() == pytest.approx(
        0.0, abs=1e-5
    )
    other = answer_loss(task, logits + random(5, 3, seed=1), batch(logits, targets), settings)
    assert other.item() > 0.01


def test_labels_alone_are_cross_entropy() -> None:
    logits, targets = random(5, 3), torch.tensor([0.0, 2.0, 1.0, 1.0, 0.0])
    found = answer_loss(
        SINGLE, logits, batch(random(5, 3, seed=1), targets), replace(MEASURED, label_weight=1.0)
    )
    assert found.item() == pytest.approx(cross_entropy(logits, targets.long()).item())


@pytest.mark.parametrize("task", [SINGLE, MULTI])
def test_a_batch_is_the_mean_of_its_rows_labelled_or_not(task: str) -> None:
    logits, teacher = random(4, 3), random(4, 3, seed=1)
    targets = torch.tensor([0.0, IGNORED, 2.0, IGNORED])
    if task == MULTI:
        targets = torch.tensor([[0.0, 1, 1], [torch.nan] * 3, [0.0, 0, 0], [torch.nan] * 3])
    whole = answer_loss(task, logits, batch(teacher, targets), MEASURED)
    rows = [
        answer_loss(
            task, logits[i : i + 1], batch(teacher[i : i + 1], targets[i : i + 1]), MEASURED
        )
        for i in range(4)
    ]
    assert whole.item() == pytest.approx(torch.stack(rows).mean().item(), rel=1e-5)
    assert whole.isfinite()


def test_a_tagger_is_asked_only_about_tokens_of_the_text() -> None:
    logits, teacher = random(2, 4, 3), random(2, 4, 3, seed=1)
    spoken = torch.tensor([[0, 1, 1, 0], [0, 1, 0, 0]]) == 1
    targets = torch.where(spoken, torch.ones(2, 4), torch.full((2, 4), float(IGNORED)))
    found = answer_loss(TAGS, logits, batch(teacher, targets, spoken), MEASURED)
    changed = torch.where(spoken[:, :, None], logits, logits + 100.0)
    again = answer_loss(TAGS, changed, batch(teacher, targets, spoken), MEASURED)
    assert found.item() == pytest.approx(again.item())
    nothing = answer_loss(TAGS, logits, batch(teacher, targets, spoken & False), MEASURED)
    assert nothing.item() == pytest.approx(logits[:0].sum().item())


def test_the_soft_loss_of_a_far_teacher_has_a_like_size_at_any_temperature() -> None:
    """That is what the square of the temperature is for: gradients stay comparable."""
    teacher, targets = random(64, 5), torch.full((64,), IGNORED)
    sizes = []
    for temperature in (2.0, 8.0):
        logits = torch.zeros(64, 5, requires_grad=True)
        settings = replace(MEASURED, temperature=temperature)
        answer_loss(SINGLE, logits, batch(teacher, targets), settings).backward()
        sizes.append(logits.grad.norm().item())
    assert 0.5 < sizes[0] / sizes[1] < 2.0


def test_the_relative_error_does_not_depend_on_scale() -> None:
    states, examples = random(6, 2, 4), random(6, 2, 4, seed=1)
    assert relative_error(examples, examples).item() == 0.0
    assert relative_error(torch.zeros_like(examples), examples).item() == pytest.approx(1.0)
    assert relative_error(states * 50, examples * 50).item() == pytest.approx(
        relative_error(states, examples).item(), rel=1e-5
    )


def test_vectors_are_matched_in_the_students_own_space() -> None:
    given = batch(torch.zeros(4, 0), torch.zeros(4, 0))
    projection = torch.eye(4)[:, [0, 2]]
    match = Match((2, 0), projection)
    right = normalize(given.embedding[:, [0, 2]], dim=-1)
    states = [given.states[:, layer][:, [0, 2]] for layer in (2, 0)]
    loss = lesson_loss("text-embedding", {EMBEDDING: right}, states, given, match, MEASURED)
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    wrong = lesson_loss("text-embedding", {EMBEDDING: -right}, states, given, match, MEASURED)
    assert wrong.item() == pytest.approx(2.0)


def test_the_hidden_weight_weighs_states_and_embedding() -> None:
    given = batch(random(4, 3), torch.full((4,), IGNORED))
    outputs = {LOGITS: given.logits, EMBEDDING: -given.embedding}
    for weight in (0.0, 0.5):
        settings = replace(MEASURED, hidden_weight=weight)
        loss = lesson_loss(SINGLE, outputs, [], given, Match(()), settings)
        assert loss.item() == pytest.approx(2.0 * weight, abs=1e-5)
