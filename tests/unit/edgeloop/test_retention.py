"""Retention around the stages: which run it is, what is refused before it, and what is shown."""

import os
from pathlib import Path
from typing import Any

import pytest

from edgeloop import show
from edgeloop.bundle import Bundle
from edgeloop.errors import DatasetError, RecipeError
from edgeloop.ledger import RunResult, default_home, open_ledger
from edgeloop.loop import run_inputs, run_loop
from edgeloop.previous import deployed_bundle
from edgeloop.recipe import Recipe, load_recipe
from edgeloop.records import PairedDrop
from edgeloop.records_retention import ClassRetention, RetentionRecord, RetentionVerdict
from edgeloop.report import _retention
from tests import altered, retained, tiny


def record(verdict: RetentionVerdict, forgotten: bool) -> RetentionRecord:
    classes = (
        ClassRetention(
            label="a", rows=4, before=1.0, after=0.5, lost=2, gained=0, forgotten=forgotten
        ),
        ClassRetention(
            label="same", rows=4, before=1.0, after=1.0, lost=0, gained=0, forgotten=False
        ),
    )
    drop = PairedDrop(
        rows=8,
        reference_accuracy=1.0,
        candidate_accuracy=0.75,
        lost=2,
        gained=0,
        drop_ratio=0.25,
        upper_bound_ratio=0.6,
        confidence=0.95,
    )
    return RetentionRecord(
        inputs_digest="0" * 64,
        files=(),
        previous="1" * 64,
        verdict=verdict,
        passed=verdict != "forgotten",
        reasons=("because <it> fell",),
        rows=8,
        golden_rows=8,
        left_out=0,
        before=1.0,
        after=0.75,
        max_drop=0.02,
        drop=drop,
        rows_needed=None,
        classes=classes,
    )


@pytest.fixture
def recipe_path(tmp_path: Path) -> Path:
    tiny.write_rows(tmp_path / "rows.csv", tiny.sentences(60))
    tiny.write_rows(tmp_path / "known.csv", tiny.sentences(20, seed=3))
    path = tmp_path / "recipe.yaml"
    path.write_text(f"name: tiny\nbase: {tmp_path}/none\ndata:\n  files: [rows.csv]\n")
    return path


def recipe(path: Path, **retention: Any) -> Recipe:
    return load_recipe(path, [f"finetune.retention.{k}={v}" for k, v in retention.items()])


# -- which run it is ----------------------------------------------------------------------------


def test_a_model_that_is_only_compared_with_makes_no_other_run(
    recipe_path: Path, tiny_bundle: Bundle
) -> None:
    found = recipe(recipe_path)
    assert run_inputs(found, []) == run_inputs(found, [], tiny_bundle)
    for key in ("replay_ratio", "distillation_weight"):
        used = recipe(recipe_path, **{key: 0.5})
        assert run_inputs(used, [], tiny_bundle)["previous"] == tiny_bundle.digest


def test_a_run_depends_on_the_content_of_the_retention_files(recipe_path: Path) -> None:
    found = recipe(recipe_path, files="[known.csv]")
    known = recipe_path.parent / "known.csv"
    assert found.finetune.retention.files == (known,), "relative to the recipe's folder"
    before = run_inputs(found, [])
    known.write_text(known.read_text() + "r99,late parcel,delivery\n")
    assert run_inputs(found, []) != before
    known.unlink()
    with pytest.raises(DatasetError, match=r"known.csv: .* see finetune.retention.files"):
        run_inputs(found, [])


# -- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["replay_ratio", "distillation_weight"])
def test_what_cannot_be_done_is_refused_before_there_is_a_run(recipe_path: Path, key: str) -> None:
    with pytest.raises(RecipeError, match=f"finetune.retention.{key} is 0.5"):
        run_loop(recipe(recipe_path, **{key: 0.5}), default_home(), lambda _: None)
    assert not list(default_home().glob("runs/*"))


def test_a_replay_that_finds_nothing_leaves_no_folder(
    recipe_path: Path, tiny_bundle: Bundle
) -> None:
    found = recipe(recipe_path, replay_ratio=0.5)
    with pytest.raises(RecipeError, match="there is nothing to replay"):
        run_loop(found, default_home(), lambda _: None, previous=tiny_bundle)
    assert not list(default_home().glob("runs/*"))


# -- the deployed model -------------------------------------------------------------------------


def test_the_deployed_bundle_is_opened_or_counts_as_none(tmp_path: Path) -> None:
    ledger = open_ledger(Path(os.environ["EDGELOOP_HOME"]))
    said: list[str] = []
    assert deployed_bundle(ledger, "tiny", said.append) is None
    assert said == []
    bundle = retained.make_previous(tmp_path / "run", [], [])
    ledger.promote("tiny", bundle.digest, bundle.path, "test")
    assert deployed_bundle(ledger, "tiny", said.append) == bundle
    altered.rewrite_manifest(bundle, name="other")
    assert deployed_bundle(ledger, "tiny", said.append) is None
    altered.flip_byte(bundle.file("model.onnx"))
    assert deployed_bundle(ledger, "tiny", said.append) is None
    assert ["holds another bundle" in said[0], "is damaged" in said[1]] == [True, True]


def test_a_run_that_forgot_may_end_otherwise_later() -> None:
    ledger = open_ledger(Path(os.environ["EDGELOOP_HOME"]))
    ledger.start_run("r", "tiny", "test", Path("r"), "digest")
    for result in ("forgotten", "built", "forgotten"):
        ledger.finish_run(RunResult("r", result, {}))
    (entry,) = ledger.runs("tiny")
    assert entry.result == "built"


# -- what is shown ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdict", "forgotten", "warned"),
    [
        ("kept", False, False),
        ("kept", True, True),
        ("undecided", False, True),
        ("forgotten", False, True),
        ("not compared", False, False),
    ],
)
def test_a_person_is_warned_of_all_but_what_is_kept(
    verdict: RetentionVerdict, forgotten: bool, warned: bool
) -> None:
    assert bool(record(verdict, forgotten).warnings()) == warned


def test_the_table_shows_the_classes_that_changed() -> None:
    document = record("forgotten", True).model_dump(mode="json")
    text = show.run({"run": "r", "folder": "f", "retention": document})
    assert "retention  FORGOTTEN\nbecause    because <it> fell" in text
    assert "a      4     1.000   0.500  2     0       FORGOTTEN" in text
    assert "same" not in text


def test_the_report_has_the_classes_and_escapes_what_it_says(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    assert _retention(path) == ""
    path.write_bytes(record("forgotten", True).to_bytes())
    page = _retention(path)
    assert "Retention: forgotten. because &lt;it&gt; fell." in page
    assert "<td>same</td>" in page
