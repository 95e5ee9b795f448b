"""The stage merged/ -> evaluation/, for every task, over run folders on disk."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from edgeloop.errors import DatasetError
from edgeloop.records_evaluation import Evaluation
from edgeloop.rows import TextInput, read_rows
from edgeloop.rundir import RECORD_NAME
from edgeloop.runtime import RowOutput
from edgeloop.tasks import TASKS
from finetune import evaluate
from finetune.evaluation import HEADLINE
from finetune.evaluation.errors import WORST
from tests.evaluated import Oracle, encode, make_run, recipe_of

ROWS = {"train": 30, "validation": 10, "test": 120}


class Scorer:
    """As finetune.scoring.score_merged: the oracle of the run's own test rows."""

    def __init__(self, root: Path, error_ratio: float) -> None:
        self.root, self.error_ratio, self.calls = root, error_ratio, 0

    def __call__(
        self,
        folder: Path,
        task: str,
        labels: Sequence[str],
        inputs: Sequence[TextInput],
        max_tokens: int,
    ) -> list[RowOutput]:
        assert folder == self.root / "merged"
        assert max_tokens == 32
        self.calls += 1
        rows = read_rows(self.root / "dataset", "test")
        return Oracle(task, rows, self.error_ratio)(inputs)


def run_stage(
    root: Path, task: str, error_ratio: float = 0.25
) -> tuple[Evaluation, Scorer, list[str]]:
    folder, dataset, _, merged = make_run(root, task, ROWS)
    scorer = Scorer(root, error_ratio)
    said: list[str] = []
    evaluation = evaluate.run(recipe_of(task), dataset, merged, folder, said.append, scorer)
    assert evaluate.run(recipe_of(task), dataset, merged, folder, said.append, scorer) == evaluation
    return evaluation, scorer, said


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_evaluated_once(task: str, tmp_path: Path) -> None:
    evaluation, scorer, said = run_stage(tmp_path / "run", task)
    assert scorer.calls == len(said) == 1
    assert evaluation.headline == HEADLINE[task][0]
    assert evaluation.rows == 120
    for figure in evaluation.figures.values():
        assert 0.0 <= figure.low <= figure.value <= figure.high <= 1.0
    assert 0.5 < evaluation.right_ratio < 1.0
    assert Evaluation.read(tmp_path / "run" / "evaluation" / RECORD_NAME) == evaluation


@pytest.mark.parametrize("task", TASKS)
def test_texts_are_in_the_local_file_and_nowhere_else(task: str, tmp_path: Path) -> None:
    evaluation, _, said = run_stage(tmp_path / "run", task)
    lines = (tmp_path / "run" / "evaluation" / "errors.jsonl").read_text().splitlines()
    mistakes = [json.loads(line) for line in lines]
    wrong = round(120 * (1 - evaluation.right_ratio))
    assert len(mistakes) == min(WORST, wrong)
    assert [m["score"] for m in mistakes] == sorted((m["score"] for m in mistakes), reverse=True)
    assert all(m["truth"] != m["answer"] for m in mistakes)
    record = (tmp_path / "run" / "evaluation" / RECORD_NAME).read_text()
    assert not any(m["text"] in record + " ".join(said) for m in mistakes)
    assert [entry.path for entry in evaluation.files] == ["errors.jsonl"]


@pytest.mark.parametrize(
    "task", ["text-classification", "multi-label-classification", "token-classification"]
)
def test_a_model_without_errors_has_an_interval_below_its_figure(task: str, tmp_path: Path) -> None:
    evaluation, _, _ = run_stage(tmp_path / "run", task, error_ratio=0.0)
    figure = evaluation.figures[evaluation.headline]
    assert (figure.value, figure.high, evaluation.right_ratio) == (1.0, 1.0, 1.0)
    assert 0.9 < figure.low < 1.0
    assert evaluation.confusion == ()
    assert (tmp_path / "run" / "evaluation" / "errors.jsonl").read_text() == ""


def test_classes_confusion_and_slices_are_counted(tmp_path: Path) -> None:
    evaluation, _, _ = run_stage(tmp_path / "run", "text-classification")
    assert sum(c.support for c in evaluation.classes) == 120
    wrong = round(120 * (1 - evaluation.right_ratio))
    assert sum(cell.rows for cell in evaluation.confusion) == wrong
    channels = [s for s in evaluation.slices if s.column == "channel"]
    assert [s.value for s in channels] == ["mail", "phone"]
    assert sum(s.rows for s in channels) == 120
    assert evaluation.calibration is not None
    assert evaluation.brier is not None


def test_another_model_is_evaluated_anew(tmp_path: Path) -> None:
    root = tmp_path / "run"
    folder, dataset, _, merged = make_run(root, "text-classification", ROWS)
    scorer = Scorer(root, 0.25)
    recipe = recipe_of("text-classification")
    evaluate.run(recipe, dataset, merged, folder, print, scorer)
    changed = merged.files[0].model_copy(update={"sha256": "f" * 64})
    other = merged.model_copy(update={"files": (changed,)})
    evaluate.run(recipe, dataset, other, folder, print, scorer)
    assert scorer.calls == 2


def test_without_test_rows_it_says_so(tmp_path: Path) -> None:
    counts = {"train": 5, "validation": 5, "test": 0}
    folder, dataset, _, merged = make_run(tmp_path / "run", "text-classification", counts)
    with pytest.raises(DatasetError, match=r"no test rows to evaluate on; see data\.split\.test"):
        evaluate.run(
            recipe_of("text-classification"),
            dataset,
            merged,
            folder,
            print,
            lambda *_: encode([]),
        )
    assert not (tmp_path / "run" / "evaluation").exists()
