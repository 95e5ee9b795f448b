"""Continued training that forgets, the gate that catches it, and what repairs it: a tiny BERT
against a deployed bundle.
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeloop.bundle import Bundle
from edgeloop.errors import EdgeloopError
from edgeloop.records import Dataset, MergedModel
from edgeloop.records_retention import RetentionRecord
from edgeloop.rows import Row, read_rows
from edgeloop.rundir import RunDir, digest_entries
from finetune import stage
from finetune.retention.distill import soft_targets
from finetune.retention.previous import training_rows
from finetune.retention.stage import measure
from tests import altered, retained, tiny

# PEFT 0.21 still asks transformers 5 for a name that is on its way out.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

TRAINING = {"num_train_epochs": 12, "learning_rate": 2e-2, "early_stopping_patience": 12}


@dataclass
class Chain:
    """A run up to its merged model, and what it found out about forgetting."""

    dataset: Dataset
    merged: MergedModel
    retention: RetentionRecord | None
    run: RunDir


def as_rows(count: int, seed: int, prefix: str) -> list[Row]:
    found = tiny.sentences(count, seed)
    return [Row(f"{prefix}{i}", text, (label,)) for i, (text, label) in enumerate(found)]


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    root = tmp_path_factory.mktemp("previous") / "run"
    return retained.make_previous(root, as_rows(90, 21, "golden"), as_rows(240, 22, "old"))


def write(path: Path, rows: list[tuple[str, str]]) -> str:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("text", "label"), *rows])
    return str(path)


@pytest.fixture(scope="module")
def one_class(tmp_path_factory: pytest.TempPathFactory) -> str:
    """New rows of one of the old classes and of a class of their own."""
    rng = np.random.default_rng(23)
    old = [(tiny.sentence(rng, "billing"), "billing") for _ in range(80)]
    new = [(f"{i} " + " ".join(rng.choice(tiny.FILLER, 7)), "chat") for i in range(80)]
    return write(tmp_path_factory.mktemp("data") / "one.csv", old + new)


def chain(root: Path, base: Path, data: str, previous: Bundle | None, **retention: Any) -> Chain:
    recipe = retained.make_recipe(str(base), [data], training=TRAINING, **retention)
    run = RunDir(root)
    dataset = stage.prepare(recipe, run, (), previous)
    adapter = stage.train(recipe, dataset, run, lambda _: None, previous)
    merged = stage.merge(recipe, dataset, adapter, run)
    return Chain(dataset, merged, measure(recipe, dataset, merged, previous, run), run)


def test_training_on_one_class_forgets_the_others_and_the_gate_says_which(
    tmp_path: Path, tiny_bert: Path, one_class: str, previous: Bundle
) -> None:
    found = chain(tmp_path, tiny_bert, one_class, previous).retention
    assert found is not None
    assert (found.verdict, found.passed, found.previous) == ("forgotten", False, previous.digest)
    assert (found.rows, found.golden_rows, found.left_out) == (90, 90, 0)
    assert found.before == 1.0
    assert found.drop is not None
    assert found.drop.drop_ratio > 0.5
    assert {c.label for c in found.classes if c.forgotten} == {"delivery", "repair"}
    assert found.reasons[-1].startswith("forgotten: ")
    assert found.warnings() == found.reasons


def test_replay_repairs_it(
    tmp_path: Path, tiny_bert: Path, one_class: str, previous: Bundle
) -> None:
    done = chain(tmp_path, tiny_bert, one_class, previous, replay_ratio=0.6, max_drop=0.2)
    found = done.retention
    assert found is not None
    assert found.passed, found.reasons
    assert found.after is not None
    assert found.after > 0.8
    assert done.dataset.labels == ("billing", "chat", "delivery", "repair")
    train = read_rows(done.run.folder("dataset"), "train")
    old = {row.text for row in training_rows(previous)}
    assert sum(row.text in old for row in train) == pytest.approx(0.6 * len(train), abs=1)
    golden = {row.text for row in previous.golden()}
    assert not golden & {row.text for row in train}


def test_distillation_keeps_what_bad_labels_would_destroy(
    tmp_path: Path, tiny_bert: Path, previous: Bundle
) -> None:
    """Half of the new labels are wrong: the previous model knows better."""
    rng = np.random.default_rng(24)
    noisy = [
        (text, str(rng.choice(tiny.LABELS)) if rng.random() < 0.75 else label)
        for text, label in tiny.sentences(160, seed=25)
    ]
    data = write(tmp_path / "noisy.csv", noisy)
    plain = chain(tmp_path / "plain", tiny_bert, data, previous).retention
    kept = chain(tmp_path / "kept", tiny_bert, data, previous, distillation_weight=0.95).retention
    assert plain is not None
    assert kept is not None
    assert plain.verdict == "forgotten"
    assert plain.after is not None
    assert kept.after is not None
    assert kept.after > plain.after + 0.1


def test_without_anything_to_forget_there_is_no_record(
    tmp_path: Path, tiny_bert: Path, one_class: str, previous: Bundle
) -> None:
    done = chain(tmp_path, tiny_bert, one_class, None)
    assert done.retention is None
    assert not done.run.folder("retention").exists()
    recipe = retained.make_recipe(str(tiny_bert), [one_class], training=TRAINING)
    parents = {**previous.manifest.parents, "merged": digest_entries(done.merged.files)}
    manifest = previous.manifest.model_copy(update={"parents": parents})
    own = Bundle(previous.path, manifest, "own")
    assert measure(recipe, done.dataset, done.merged, own, done.run) is None
    files = [write(tmp_path / "known.csv", tiny.sentences(30, seed=26))]
    recipe = retained.make_recipe(str(tiny_bert), [one_class], training=TRAINING, files=files)
    first = measure(recipe, done.dataset, done.merged, own, done.run)
    assert first is not None
    assert (first.verdict, first.before, first.rows) == ("not compared", None, 30)
    assert first.after is not None
    assert "no model was deployed before" in first.reasons[0]
    again = measure(recipe, done.dataset, done.merged, previous, done.run)
    assert again is not None
    assert again.previous == previous.digest, "another deployment is measured anew"
    assert again.rows == 120


# -- what the previous model says -----------------------------------------------------------------


def test_soft_targets_are_in_the_new_order_and_new_classes_have_none(previous: Bundle) -> None:
    rows = [Row("1", "my invoice card", ("billing",)), Row("2", "why", ("chat",))]
    soft = soft_targets(previous, rows, ("repair", "chat", "billing", "delivery"))
    assert soft.dtype == np.float32
    assert soft[0].argmax() == 2
    assert soft[0, 1] == 0.0
    assert soft[0].sum() == pytest.approx(1.0)
    assert np.isnan(soft[1]).all()
    gone = soft_targets(
        previous, [Row("1", "my invoice card", ("repair",))], ("delivery", "repair")
    )
    assert np.isnan(gone).all(), "most of its probability is on a class that is gone"


def test_the_training_rows_are_those_of_the_bundles_own_run(previous: Bundle) -> None:
    assert len(training_rows(previous)) == 240
    manifest = previous.manifest.model_copy(update={"parents": {}})
    assert training_rows(Bundle(previous.path, manifest, "x")) == []
    assert training_rows(Bundle(previous.path / "elsewhere", previous.manifest, "x")) == []


def test_a_damaged_dataset_is_not_replayed(tmp_path: Path) -> None:
    bundle = retained.make_previous(tmp_path, as_rows(3, 1, "g"), as_rows(5, 2, "t"))
    altered.flip_byte(tmp_path / "dataset" / "train.jsonl")
    with pytest.raises(EdgeloopError, match="are not those that its record names"):
        training_rows(bundle)
