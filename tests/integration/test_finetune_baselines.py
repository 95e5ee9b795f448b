"""The stage merged/ -> baselines/, for every task, over run folders on disk."""

from pathlib import Path

import pytest

from edgeloop.errors import DatasetError
from edgeloop.records_evaluation import Baselines
from edgeloop.rows import read_rows
from edgeloop.rundir import RECORD_NAME
from edgeloop.tasks import TASKS
from finetune.baselines import BASELINES
from finetune.baselines import stage as baselines
from finetune.baselines.verdict import FINE_TUNED
from finetune.evaluation import HEADLINE
from tests.evaluated import Oracle, encode, make_run, recipe_of

ROWS = {"train": 150, "validation": 60, "test": 150}


class Loader:
    """Loads the word encoder as the frozen base, and the oracle as the fine-tuned model."""

    def __init__(self, root: Path, task: str, error_ratio: float) -> None:
        self.root, self.task, self.error_ratio, self.calls = root, task, error_ratio, 0

    def __call__(self) -> baselines.Models:
        self.calls += 1
        rows = read_rows(self.root / "dataset", "test")
        return baselines.Models(
            frozen=encode,
            tuned=Oracle(self.task, rows, self.error_ratio),
            base_bytes=1_000_000,
            tuned_bytes=1_001_000,
        )


def run_stage(
    root: Path, task: str, error_ratio: float = 0.0, max_drop: float = 0.1
) -> tuple[Baselines, Loader]:
    folder, dataset, adapter, merged = make_run(root, task, ROWS)
    loader, recipe = Loader(root, task, error_ratio), recipe_of(task, max_drop)
    found = baselines.run(recipe, dataset, adapter, merged, folder, loader, print)
    again = baselines.run(recipe, dataset, adapter, merged, folder, loader, print)
    assert again == found
    return found, loader


@pytest.mark.parametrize("task", TASKS)
def test_every_baseline_of_every_task_is_measured_once(task: str, tmp_path: Path) -> None:
    found, loader = run_stage(tmp_path / "run", task)
    assert loader.calls == 1
    assert [b.name for b in found.results] == [*BASELINES[task], FINE_TUNED]
    assert (found.train_rows, found.test_rows) == (150, 150)
    assert found.headline == HEADLINE[task][0]
    by_name = {b.name: b for b in found.results}
    tuned = by_name[FINE_TUNED]
    assert (tuned.loss, tuned.train_seconds, tuned.size_bytes) == (None, 12.5, 1_001_000)
    for baseline in found.results:
        assert baseline.figure.low <= baseline.figure.value <= baseline.figure.high
        assert baseline.latency_p50_ms >= 0.0
        if baseline.loss is not None:
            gap = tuned.figure.value - baseline.figure.value
            assert baseline.loss.value == pytest.approx(gap)
    assert by_name[found.best].drop_upper_bound_ratio == 0.0
    assert by_name[found.ship].drop_upper_bound_ratio <= 0.1
    assert Baselines.read(tmp_path / "run" / "baselines" / RECORD_NAME) == found


@pytest.mark.parametrize("task", TASKS)
def test_baselines_with_the_frozen_base_carry_its_size(task: str, tmp_path: Path) -> None:
    found, _ = run_stage(tmp_path / "run", task)
    for baseline in found.results[:-1]:
        carries = baseline.size_bytes >= 1_000_000
        assert carries == BASELINES[task][baseline.name].uses_encoder


def test_words_that_decide_are_learnt_by_the_linear_models(tmp_path: Path) -> None:
    found, _ = run_stage(tmp_path / "run", "text-classification", error_ratio=0.2)
    value = {b.name: b.figure.value for b in found.results}
    assert value["majority"] < 0.6
    assert min(value["tfidf-linear"], value["frozen-probe"]) > 0.95
    assert found.ship == "tfidf-linear"
    assert found.reason.startswith("fine-tuning is not worth it here: ship tfidf-linear")
    settings = {b.name: b.chosen_settings for b in found.results}
    assert settings["majority"] == {}
    assert settings["frozen-neighbours"].keys() == {"k"}


def test_several_labels_are_learnt_too(tmp_path: Path) -> None:
    found, _ = run_stage(tmp_path / "run", "multi-label-classification")
    value = {b.name: b.figure.value for b in found.results}
    assert min(value["tfidf-linear"], value["frozen-probe"]) > 0.95


def test_known_names_are_found_by_the_dictionary(tmp_path: Path) -> None:
    found, _ = run_stage(tmp_path / "run", "token-classification")
    value = {b.name: b.figure.value for b in found.results}
    assert value["majority"] == 0.0
    assert min(value["dictionary"], value["frozen-probe"]) > 0.95


def test_a_split_without_rows_is_named(tmp_path: Path) -> None:
    counts = {"train": 20, "validation": 0, "test": 20}
    task = "text-classification"
    folder, dataset, adapter, merged = make_run(tmp_path / "run", task, counts)
    loader = Loader(tmp_path / "run", task, 0.0)
    with pytest.raises(DatasetError, match="no validation rows to measure baselines on"):
        baselines.run(recipe_of(task), dataset, adapter, merged, folder, loader, print)
    assert loader.calls == 0
