"""A search on a tiny BERT: what it finds, that it goes on after a kill, alone and with workers."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from edgeloop.errors import TrainingError
from edgeloop.loop import run_loop
from edgeloop.recipe import Recipe
from edgeloop.records import SPLITS, SearchRecord
from edgeloop.rows import read_rows
from edgeloop.rundir import RunDir
from finetune import search, stage
from tests import tiny

# PEFT 0.21 still asks transformers 5 for a name that is on its way out.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

RATES = {"training.learning_rate": {"low": 1e-6, "high": 5e-2, "log": True}}
KILLED = """
import signal, sys
from pathlib import Path
from edgeloop.recipe import Recipe
from edgeloop.rundir import RunDir
from finetune import search, stage
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background
recipe = Recipe.model_validate_json(Path(sys.argv[1]).read_bytes())
run = RunDir(Path(sys.argv[2]))
dataset = stage.prepare(recipe, run)
print("begin", flush=True)
search.run(recipe, dataset, run, lambda line: print(line, flush=True))
"""


def make_recipe(base: Path, folder: Path, training: dict[str, Any], **keys: Any) -> Recipe:
    rows = folder / "rows.csv"
    if not rows.exists():
        tiny.write_rows(rows, tiny.sentences(240, seed=1))
    document = {
        "name": "tiny",
        "base": str(base),
        "data": {"files": [str(rows)]},
        "finetune": {
            "lora": {"r": 4, "lora_alpha": 8},
            "training": {"num_train_epochs": 2, "per_device_train_batch_size": 8, "seed": 3}
            | training,
            "search": {"space": RATES} | keys,
        },
        "serve": {"max_tokens": 32},
    }
    return Recipe.model_validate_json(json.dumps(document))


def find(recipe: Recipe, root: Path) -> SearchRecord:
    run = RunDir(root)
    return search.run(recipe, stage.prepare(recipe, run), run, print)


def tried(record: SearchRecord) -> list[dict[str, Any]]:
    return [dict(trial.parameters) for trial in record.trials if trial.state != "killed"]


def begun(process: subprocess.Popen[str], trials: int) -> None:
    """Wait until so many trials have begun, and the last of them trains."""
    assert process.stdout is not None
    numbers = set[str]()
    while len(numbers) < trials:
        line = process.stdout.readline()
        assert line, "the search ended before it was killed"
        if line.startswith("trial"):
            numbers.add(line.split()[1])
    time.sleep(0.3)


def start(recipe: Recipe, root: Path) -> subprocess.Popen[str]:
    file = root.parent / "recipe.json"
    file.write_bytes(recipe.to_bytes())
    return subprocess.Popen(
        [sys.executable, "-c", KILLED, str(file), str(root)], stdout=subprocess.PIPE, text=True
    )


def killed_and_resumed(recipe: Recipe, root: Path, how: int, trials: int) -> SearchRecord:
    with start(recipe, root) as process:
        begun(process, trials)
        os.kill(process.pid, how)
        assert process.wait() != 0
    assert not (root / "search").exists()
    return find(recipe, root)


@pytest.fixture(scope="session")
def whole(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, SearchRecord]:
    """An uninterrupted search of five trials with one worker, from a hopeless rate."""
    folder = tmp_path_factory.mktemp("search")
    training = {"learning_rate": 1e-6, "num_train_epochs": 5}
    recipe = make_recipe(tiny_bert, folder, training, n_trials=5)
    return recipe, find(recipe, folder / "run")


def test_a_clearly_better_learning_rate_is_found(whole: tuple[Recipe, SearchRecord]) -> None:
    recipe, record = whole
    own, best = record.trials[0], record.trials[record.best]
    assert own.parameters == {"training.learning_rate": 1e-6}  # the recipe's own come first
    assert own.figure is not None
    assert best.figure is not None
    assert best.figure > own.figure + 0.15
    assert search.with_found(recipe, record).finetune.learning_rate > 1e-3
    assert [trial.number for trial in record.trials] == [0, 1, 2, 3, 4]
    assert all(trial.seconds > 0 and trial.epochs for trial in record.trials)


def test_trials_are_judged_on_training_rows_alone(whole: tuple[Recipe, SearchRecord]) -> None:
    recipe, record = whole
    root = Path(str(recipe.data.files[0])).parent / "run"  # type: ignore[index]
    rows = {split: len(read_rows(root / "dataset", split)) for split in SPLITS}
    assert record.rows + record.holdout_rows == rows["train"]
    assert record.holdout_rows == pytest.approx(0.2 * rows["train"], abs=3)


def test_a_killed_search_ends_like_one_that_was_not(
    whole: tuple[Recipe, SearchRecord], tmp_path: Path
) -> None:
    recipe, expected = whole
    record = killed_and_resumed(recipe, tmp_path / "run", signal.SIGKILL, 3)
    assert [trial.state for trial in record.trials].count("killed") == 1
    assert tried(record) == tried(expected)
    assert record.parameters == expected.parameters
    figures = [trial.figure for trial in record.trials if trial.state != "killed"]
    assert figures == [trial.figure for trial in expected.trials]
    assert not list((tmp_path / "run" / "search").glob(".trial-*"))


def test_a_finished_search_is_not_done_again(whole: tuple[Recipe, SearchRecord]) -> None:
    recipe, record = whole
    root = Path(str(recipe.data.files[0])).parent / "run"  # type: ignore[index]
    assert find(recipe, root) == record


def test_workers_share_one_storage_and_survive_a_kill(tiny_bert: Path, tmp_path: Path) -> None:
    # Long enough that both workers are in the middle of one when the kill comes.
    training = {"learning_rate": 1e-2, "num_train_epochs": 12, "early_stopping_patience": 12}
    recipe = make_recipe(tiny_bert, tmp_path, training, n_trials=4, n_jobs=2)
    record = killed_and_resumed(recipe, tmp_path / "run", signal.SIGKILL, 2)
    done = [trial for trial in record.trials if trial.state != "killed"]
    killed = [trial for trial in record.trials if trial.state == "killed"]
    assert len(done) == 4
    assert 1 <= len(killed) <= 2
    counted = Counter(json.dumps(trial.parameters) for trial in done)
    assert max(counted.values()) == 1
    for trial in killed:
        assert not trial.parameters or counted[json.dumps(trial.parameters)] == 1


def test_an_interrupted_search_goes_on(tiny_bert: Path, tmp_path: Path) -> None:
    recipe = make_recipe(tiny_bert, tmp_path, {"learning_rate": 1e-2}, n_trials=2)
    record = killed_and_resumed(recipe, tmp_path / "run", signal.SIGINT, 1)
    assert [trial.state for trial in record.trials] == ["killed", "complete", "complete"]
    assert record.trials[0].parameters == record.trials[1].parameters


def test_a_trial_worse_than_the_median_is_pruned(tiny_bert: Path, tmp_path: Path) -> None:
    # One bad setting among good ones: the median is good, and chance finds the bad one in time.
    space = {"training.learning_rate": [2e-2, 2.1e-2, 1e-9], "lora.lora_alpha": [8, 16, 32]}
    training = {"learning_rate": 2e-2, "num_train_epochs": 3, "early_stopping_patience": 3}
    recipe = make_recipe(tiny_bert, tmp_path, training, n_trials=16, space=space)
    record = find(recipe, tmp_path / "run")
    pruned = [trial for trial in record.trials if trial.state == "pruned"]
    assert pruned
    assert all(trial.epochs == 2 for trial in pruned)
    assert record.trials[record.best].state == "complete"


def test_the_minutes_are_a_budget_too(tiny_bert: Path, tmp_path: Path) -> None:
    keys = {"n_trials": None, "timeout_minutes": 0.001}
    record = find(make_recipe(tiny_bert, tmp_path, {}, **keys), tmp_path / "run")
    assert len(record.trials) == 1


def test_what_cannot_be_trained_is_a_failed_trial(tiny_bert: Path, tmp_path: Path) -> None:
    space = {"training.learning_rate": [1e-2, 1e38]}
    recipe = make_recipe(tiny_bert, tmp_path, {"learning_rate": 1e38}, n_trials=4, space=space)
    record = find(recipe, tmp_path / "run")
    assert record.trials[0].state == "failed"
    assert "diverged" in record.trials[0].problem
    assert record.parameters == {"training.learning_rate": 1e-2}


def test_a_search_without_a_good_trial_says_why(tiny_bert: Path, tmp_path: Path) -> None:
    space = {"training.learning_rate": [1e37, 1e38]}
    recipe = make_recipe(tiny_bert, tmp_path, {}, n_trials=2, space=space)
    with pytest.raises(TrainingError, match=r"none of 2 trials .* diverged"):
        find(recipe, tmp_path / "run")


def test_a_damaged_storage_is_named(tiny_bert: Path, tmp_path: Path) -> None:
    recipe = make_recipe(tiny_bert, tmp_path, {}, n_trials=1)
    root = tmp_path / "run"
    with start(recipe, root) as process:
        begun(process, 1)
        process.kill()
    storage = root / ".work-search" / "study.db"
    storage.write_bytes(b"no database at all" * 1000)
    with pytest.raises(TrainingError, match=r"study\.db: the search's storage fails"):
        find(recipe, root)


def test_the_adapter_is_trained_with_what_was_found(tiny_bert: Path, tmp_path: Path) -> None:
    space = {"lora.r": [2, 3], "training.learning_rate": [1e-2, 2e-2]}
    recipe = make_recipe(tiny_bert, tmp_path, {}, n_trials=2, space=space)
    run = run_loop(recipe, tmp_path / "home", print, "merged")
    assert run.search is not None
    config = json.loads((run.folder.folder("adapter") / "adapter_config.json").read_text())
    assert config["r"] == run.search.parameters["lora.r"]
    assert run.recipe.finetune.search is None
    again = run_loop(recipe, tmp_path / "home", print, "merged")
    assert again.adapter == run.adapter
    assert again.search == run.search
