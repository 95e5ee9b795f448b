"""From a probe to an estimate."""

import json
from typing import Any

import pytest

from edgeloop import show_run
from edgeloop.recipe import Recipe
from edgeloop.records import Estimate, MethodEstimate, Probe
from finetune.estimate import estimate_method, estimate_search

PROBE = Probe(
    method="lora",
    train_rows=1000,
    validation_rows=100,
    start_seconds=10.0,
    train_row_seconds=0.01,
    validation_row_seconds=0.002,
    checkpoint_seconds=0.5,
    save_seconds=0.25,
    peak_bytes=600_000_000,
    trainable_parameters=250_000,
    total_parameters=10_000_000,
    dataset_bytes=1_000_000,
    adapter_bytes=1_000_000,
    checkpoint_bytes=4_000_000,
    tokenizer_bytes=500_000,
    is_mergeable=True,
)


def make_recipe(**keys: Any) -> Recipe:
    document = {"name": "x", "base": "x", "data": {"files": ["rows.csv"]}, **keys}
    return Recipe.model_validate_json(json.dumps(document))


def test_time_is_the_start_every_epoch_and_the_end() -> None:
    recipe = make_recipe(finetune={"training": {"num_train_epochs": 4}})
    assert estimate_method(recipe, PROBE).seconds == pytest.approx(10 + 4 * (10 + 0.2 + 0.5) + 0.25)


def test_disk_holds_merged_export_and_candidates_with_their_tokenizers() -> None:
    """The bundle is smaller than the fp32 export, which is gone when it is written."""
    found = estimate_method(make_recipe(compress={"candidates": ["onnx-int8"]}), PROBE)
    assert found.disk_bytes == 2_000_000 + 2 * 40_000_000 + 10_000_000 + 3 * 500_000
    assert found.trainable_ratio == 0.025


def test_disk_holds_every_student_that_auto_makes() -> None:
    one = estimate_method(make_recipe(compress={"candidates": ["student-half-int8"]}), PROBE)
    assert one.disk_bytes == 2_000_000 + 3 * 40_000_000 + 10_000_000 + 4 * 500_000
    auto = estimate_method(make_recipe(compress={"candidates": "auto"}), PROBE)
    assert auto.disk_bytes > one.disk_bytes + 5 * 40_000_000


def test_what_cannot_be_merged_ends_with_the_adapter() -> None:
    apart = PROBE.model_copy(update={"is_mergeable": False})
    assert estimate_method(make_recipe(), apart).disk_bytes == 2_000_000


def test_a_search_is_limited_by_whichever_budget_ends_first() -> None:
    training = {"num_train_epochs": 1}
    both = {"n_trials": 10, "timeout_minutes": 1.0, "n_jobs": 2}
    found = estimate_search(make_recipe(finetune={"search": both, "training": training}), PROBE)
    assert found is not None
    assert found.trial_seconds == pytest.approx(8 + 0.4 + 0.5)
    assert found.seconds == pytest.approx(60 + found.trial_seconds)
    assert found.memory_bytes == 2 * PROBE.peak_bytes
    few = {"n_trials": 2}
    found = estimate_search(make_recipe(finetune={"search": few, "training": training}), PROBE)
    assert found is not None
    assert found.seconds == pytest.approx(2 * found.trial_seconds)
    assert estimate_search(make_recipe(), PROBE) is None


def test_the_table_marks_the_recipes_method_and_says_what_has_no_figures() -> None:
    kinds = {"candidates": ["onnx-fp32", "onnx-int8"]}
    lora = estimate_method(make_recipe(compress=kinds), PROBE)
    missing = MethodEstimate(method="qlora", problem="bitsandbytes is not installed")
    found = Estimate(own="lora", epochs=6, methods=(lora, missing), search=None)
    lines = show_run.estimate(found.model_dump(mode="json")).splitlines()
    assert lines[0].split() == ["method", "memory", "MB", "time", "s", "disk", "MB", "trained"]
    assert lines[1].split() == ["lora", "*", "600", "74", "134", "2.50%"]
    assert lines[2] == "qlora: no figures: bitsandbytes is not installed"
