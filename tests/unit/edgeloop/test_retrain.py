"""What a retraining is decided on, from a real ledger and a real bundle; nothing is trained."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from edgeloop.bundle import Bundle
from edgeloop.errors import LedgerError, RecipeError
from edgeloop.ledger import FEEDBACK, LabelledRow, Ledger, open_ledger, utc_now
from edgeloop.recipe import Recipe, load_recipe
from edgeloop.records import Verdict
from edgeloop.retrain import TRIGGER, explain, retrain
from tests import tiny

ROUND = 50


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """A recipe whose base is not there: training fails before it begins."""
    tiny.write_rows(tmp_path / "rows.csv", tiny.sentences(80, seed=1))
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "name: tiny\nbase: ./absent\ndata: {files: [rows.csv]}\n"
        f"retrain: {{labels_per_round: {ROUND}}}\n",
        encoding="utf-8",
    )
    return load_recipe(path)


@pytest.fixture
def ledger(tmp_path: Path, tiny_bundle: Bundle) -> Ledger:
    opened = open_ledger(tmp_path / "home")
    opened.promote("tiny", tiny_bundle.digest, tiny_bundle.path, "first")
    return opened


def alarm(ledger: Ledger, digest: str, at: str | None = None) -> None:
    ledger.add_verdict(
        Verdict(
            model="tiny",
            bundle_digest=digest,
            at=at or utc_now(),
            observation=40,
            detector="e-process-mixture",
            log_evidence=9.0,
            threshold=7.0,
            parts={"novelty": 9.0},
            target_run_length=20_000,
            words=(),
            classes=(),
        )
    )


def answered(count: int, seed: int, prefix: str) -> list[LabelledRow]:
    """Rows that the champion answers rightly."""
    return [
        LabelledRow(f"{prefix}{i}", text, label)
        for i, (text, label) in enumerate(tiny.sentences(count, seed))
    ]


def mistaken(rows: Sequence[LabelledRow]) -> list[LabelledRow]:
    """The same rows as somebody labels them who knows what the champion gets wrong."""
    following = dict(zip(tiny.LABELS, (*tiny.LABELS[1:], tiny.LABELS[0]), strict=True))
    return [replace(row, label=following[row.label]) for row in rows]


def test_nothing_deployed_is_said(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="nothing is deployed for tiny"):
        explain(recipe, open_ledger(tmp_path / "empty"))


def test_feedback_proves_no_harm(recipe: Recipe, ledger: Ledger, tiny_bundle: Bundle) -> None:
    alarm(ledger, tiny_bundle.digest)
    ledger.add_labels("tiny", mistaken(answered(2 * ROUND, 2, "f")), FEEDBACK)
    asked = explain(recipe, ledger)
    assert asked.action == "label"
    assert asked.figures["new_labels"] == 0.0
    ledger.add_labels("tiny", answered(ROUND, 3, "s"), "answers.csv")
    sampled = explain(recipe, ledger)
    assert sampled.action == "wait"
    assert sampled.figures["labelled_accuracy"] == 1.0


def test_a_sample_that_is_answered_wrongly_proves_harm(
    recipe: Recipe, ledger: Ledger, tiny_bundle: Bundle
) -> None:
    alarm(ledger, tiny_bundle.digest)
    ledger.add_labels("tiny", mistaken(answered(ROUND, 2, "s")), "answers.csv")
    ledger.add_labels("tiny", answered(ROUND, 3, "f"), FEEDBACK)
    decision = explain(recipe, ledger)
    assert decision.action == "retrain"
    assert decision.figures["labelled_accuracy"] == 0.0


@pytest.mark.parametrize(("count", "action"), [(1, "wait"), (3, "wait"), (4, "retrain")])
def test_a_class_is_new_from_four_rows_on(
    recipe: Recipe, ledger: Ledger, tiny_bundle: Bundle, count: int, action: str
) -> None:
    alarm(ledger, tiny_bundle.digest)
    ledger.add_labels("tiny", answered(ROUND, 2, "s"), "answers.csv")
    typed = [LabelledRow(f"t{i}", f"my card {i}", "biling") for i in range(count)]
    ledger.add_labels("tiny", typed, "answers.csv")
    assert explain(recipe, ledger).action == action


def test_only_alarms_since_the_deployment_count(
    recipe: Recipe, ledger: Ledger, tiny_bundle: Bundle
) -> None:
    alarm(ledger, "d" * 64)
    alarm(ledger, tiny_bundle.digest, at="2026-01-01T00:00:00.000000+00:00")
    assert explain(recipe, ledger).figures["alarms"] == 0.0
    alarm(ledger, tiny_bundle.digest)
    assert explain(recipe, ledger).figures["alarms"] == 1.0
    ledger.promote("tiny", tiny_bundle.digest, tiny_bundle.path, "deployed anew")
    assert explain(recipe, ledger).figures["alarms"] == 0.0


def test_a_retraining_that_fails_is_in_the_ledger_as_started(
    recipe: Recipe, ledger: Ledger, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    alarm(ledger, tiny_bundle.digest)
    ledger.add_labels("tiny", mistaken(answered(ROUND, 2, "s")), "answers.csv")
    with pytest.raises(RecipeError, match="absent"):
        retrain(recipe, tmp_path / "home", ledger, lambda _: None)
    (run,) = ledger.runs("tiny")
    assert (run.trigger, run.finished_at) == (TRIGGER, None)
    assert len(run.dataset_digest) == 64
    assert Path(run.path).is_dir()
    assert explain(recipe, ledger).action == "retrain", "it has not ended, so it is tried again"


@pytest.mark.parametrize("task", ["token-classification", "text-embedding"])
def test_tasks_without_single_labels_are_not_retrained_from_labels(
    recipe: Recipe, ledger: Ledger, tmp_path: Path, task: str
) -> None:
    other = recipe.model_copy(update={"task": task})
    with pytest.raises(RecipeError, match=f"task {task}: .* are for classification"):
        explain(other, ledger)
    with pytest.raises(RecipeError, match="add the new rows to data.files"):
        retrain(other, tmp_path / "home", ledger, lambda _: None)
    assert ledger.runs("tiny") == []
