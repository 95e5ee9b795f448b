"""The bundle of a run: reused, written beside another, never deleted; what gets deployed."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeloop.bundle import (
    CARD,
    GOLDEN,
    MANIFEST,
    MODEL,
    TOKENIZER,
    Bundle,
    open_bundle,
)
from edgeloop.codebase import code_digest
from edgeloop.errors import BundleError
from edgeloop.golden import agrees
from edgeloop.ledger import Ledger, RunResult, open_ledger
from edgeloop.rows import read_rows, write_rows
from edgeloop.rundir import RunDir, digest_of
from edgeloop.runtime import OnnxModel
from edgeloop.ship import CODE, deploy, ship
from edgeloop.tasks import TASKS
from tests import tiny
from tests.altered import rewrite_manifest
from tests.shipped import KIND, ODD_TEXT, Made, adapter, certificate, dataset, make_run


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_run(tmp_path / "runs" / "tiny-1")


def names(run: RunDir, pattern: str) -> list[str]:
    return sorted(path.name for path in run.root.glob(pattern))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def damage_model(folder: Path) -> None:
    (folder / MODEL).write_bytes(b"not a model")


# -- where the bundle goes ---------------------------------------------------------------------


def inputs(bundle: Bundle) -> dict[str, str]:
    """The parents that say whether a bundle must be made again: all but the code."""
    return {name: digest for name, digest in bundle.manifest.parents.items() if name != CODE}


def test_the_bundle_is_written_once_and_then_reused(made: Made) -> None:
    first = made.ship()
    assert first.path == made.run.folder("bundle")
    assert made.ship() == first == open_bundle(first.path)
    assert names(made.run, "*bundle*") == ["bundle"]


def test_every_parent_is_named_by_its_sha256(made: Made) -> None:
    parents = made.ship().manifest.parents
    assert set(parents) == {
        *("base", "dataset", "adapter", "merged", "candidate", "reference", "recipe", "code")
    }
    assert parents[CODE] == code_digest()
    assert re.fullmatch("[0-9a-f]{64}", parents["candidate"])
    assert parents["recipe"] == made.recipe.digest()


def test_a_bundle_that_older_code_made_of_the_same_parents_stands(made: Made) -> None:
    first = made.ship()
    for parents in ({**first.manifest.parents, CODE: "0" * 64}, inputs(first)):
        older = rewrite_manifest(first, parents=parents)
        assert made.ship() == older
    assert names(made.run, "*bundle*") == ["bundle"]


def test_a_bundle_of_other_parents_is_kept_and_the_new_one_lies_beside_it(made: Made) -> None:
    first = made.ship(seed=0)
    before = contents(first.path)
    second = made.ship(seed=1)
    assert second.path.name == f"bundle-{digest_of(inputs(second))[:8]}"
    assert contents(first.path) == before
    assert made.ship(seed=1) == second
    assert made.ship(seed=0) == first
    assert names(made.run, "*bundle*") == ["bundle", second.path.name]


def _no_manifest_schema(folder: Path) -> None:
    (folder / MANIFEST).write_text("{}")


@pytest.mark.parametrize("damage", [damage_model, _no_manifest_schema])
def test_a_damaged_bundle_is_kept_and_the_new_one_lies_beside_it(
    made: Made, damage: Callable[[Path], None]
) -> None:
    first = made.ship()
    damage(first.path)
    before = contents(first.path)
    second = made.ship()
    assert second.path.name == f"bundle-{digest_of(inputs(first))[:8]}"
    assert second.manifest.parents == first.manifest.parents
    assert contents(first.path) == before
    assert made.ship() == second


def test_a_damaged_bundle_beside_another_is_moved_aside_and_made_again(made: Made) -> None:
    made.ship(seed=0)
    second = made.ship(seed=1)
    damage_model(second.path)
    before = contents(second.path)
    again = made.ship(seed=1)
    assert again.path == second.path
    assert open_bundle(again.path).manifest.parents == second.manifest.parents
    (aside,) = made.run.root.glob(".damaged-*")
    assert contents(aside / second.path.name) == before


def test_a_folder_without_a_manifest_is_moved_aside(made: Made) -> None:
    made.run.folder("bundle").mkdir()
    (made.run.folder("bundle") / MODEL).write_bytes(b"half removed")
    bundle = made.ship()
    assert bundle.path == made.run.folder("bundle")
    (aside,) = made.run.root.glob(".damaged-*")
    assert contents(aside) == {f"bundle/{MODEL}": b"half removed"}


def test_a_candidate_that_is_gone_is_named_and_nothing_is_moved(made: Made) -> None:
    chosen = certificate(made.run)
    made.run.folder("bundle").mkdir()
    (made.run.folder("candidates") / KIND / MODEL).unlink()
    with pytest.raises(BundleError, match=f"{KIND}: no whole model lies here"):
        ship(
            made.recipe,
            dataset(made.run),
            adapter(0),
            chosen,
            tiny.no_reference(),
            made.run,
        )
    assert names(made.run, "*bundle*") == ["bundle"]


# -- rows --------------------------------------------------------------------------------------


def test_a_text_with_line_separators_stays_one_row(made: Made) -> None:
    rows = read_rows(made.run.folder("dataset"), "test")
    assert len(rows) == 6
    assert rows[-1].text == ODD_TEXT
    assert read_rows(made.run.folder("dataset"), "fresh") == []


def test_golden_rows_are_the_test_rows_in_utf8(made: Made) -> None:
    bundle = made.ship()
    assert {row.text for row in bundle.golden()} == {
        row.text for row in read_rows(made.run.folder("dataset"), "test")
    }
    data = bundle.file(GOLDEN).read_bytes()
    assert "\u00e4".encode() in data
    assert b"\r" not in data
    assert bundle.file(TOKENIZER).is_file()


# -- tasks and the out-of-scope threshold ------------------------------------------------------


def remake(made: Made, task: str, reference_rows: int, text_pair: bool = False) -> Bundle:
    """Ship another task's model with rows of its own."""
    tiny.make_model(made.run.folder("candidates") / KIND, task=task, text_pair=text_pair)
    data = made.run.folder("dataset")
    write_rows(data / "test.jsonl", tiny.rows(task, 40, 1, text_pair))
    write_rows(data / "reference.jsonl", tiny.rows(task, reference_rows, 2, text_pair))
    labels = () if task == "text-embedding" else tiny.LABELS
    return ship(
        made.recipe.model_copy(update={"task": task}),
        dataset(made.run).model_copy(update={"labels": labels}),
        adapter(0),
        certificate(made.run),
        tiny.no_reference(),
        made.run,
    )


@pytest.mark.parametrize("task", TASKS)
def test_every_task_ships_with_rows_that_its_own_model_answers(made: Made, task: str) -> None:
    bundle = remake(made, task, reference_rows=99)
    manifest = bundle.manifest
    model = OnnxModel(bundle.file(MODEL), bundle.file(TOKENIZER), manifest.max_tokens)
    outputs = model.score([row.input for row in bundle.golden()])
    for row, output in zip(bundle.golden(), outputs, strict=True):
        assert agrees(row, output, TASKS[task], manifest.labels)
    assert len(bundle.golden()) == (32 if task == "text-embedding" else 40)
    assert (manifest.task, manifest.text_pair) == (task, False)
    assert manifest.max_abstain_ratio == made.recipe.serve.max_abstain_ratio
    assert (manifest.abstain_below is None) == (task == "text-embedding")
    assert manifest.abstain_rows == (0 if task == "text-embedding" else 99)


def test_rows_with_second_texts_make_a_model_of_pairs(made: Made) -> None:
    bundle = remake(made, "text-classification", 60, text_pair=True)
    assert bundle.manifest.text_pair
    assert all(row.text_pair for row in bundle.golden())


def test_too_few_reference_rows_mark_nothing_and_the_card_says_why(made: Made) -> None:
    bundle = remake(made, "text-classification", reference_rows=48)
    assert bundle.manifest.abstain_below is None
    assert bundle.manifest.abstain_rows == 48
    assert "48 reference rows are too few" in bundle.file(CARD).read_text(encoding="utf-8")


def test_new_requests_are_marked_about_as_often_as_the_recipe_allows(made: Made) -> None:
    bundle = remake(made, "text-classification", reference_rows=999)
    below = bundle.manifest.abstain_below
    assert below is not None
    model = OnnxModel(bundle.file(MODEL), bundle.file(TOKENIZER), bundle.manifest.max_tokens)
    task = TASKS["text-classification"]
    asked = model.score([text for text, _ in tiny.sentences(1000, seed=77)])
    marked = sum(task.answer(output, tiny.LABELS).score < below for output in asked)
    assert 0 < marked < 40  # 2% of 1000 and three deviations of both samples


# -- deploying ---------------------------------------------------------------------------------


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    opened = open_ledger(tmp_path / "home")
    for run_id in ("one", "two"):
        opened.start_run(run_id, "tiny", "edgeloop run", tmp_path, "")
    return opened


def result(run_id: str) -> RunResult:
    return RunResult(run_id, "built", {})


def test_the_first_bundle_is_deployed_and_a_good_one_stays(
    tmp_path: Path, ledger: Ledger, tiny_bundle: Bundle
) -> None:
    first = deploy(ledger, "tiny", tiny_bundle, result("one"))
    assert (first.bundle_digest, first.reason) == (tiny_bundle.digest, "first bundle")
    other = tiny.make_bundle(tmp_path / "other", seed=1)
    assert deploy(ledger, "tiny", other, result("two")) == first
    assert ledger.deployments("tiny") == [first]
    assert [entry.result for entry in ledger.runs("tiny")] == ["built", "built"]


def _replace_manifest(folder: Path) -> None:
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text.replace("2026-01-01", "2026-01-02"))


@pytest.mark.parametrize(
    "damage", [damage_model, _replace_manifest, lambda folder: folder.rename(folder / "../gone")]
)
def test_a_deployed_bundle_that_is_gone_or_another_is_replaced(
    tmp_path: Path, ledger: Ledger, damage: Callable[[Path], None]
) -> None:
    old, new = (tiny.make_bundle(tmp_path / str(seed), seed=seed) for seed in (0, 1))
    deploy(ledger, "tiny", old, result("one"))
    damage(old.path)
    now = deploy(ledger, "tiny", new, result("two"))
    assert now.reason == "the deployed bundle is gone or damaged"
    assert ledger.deployed("tiny") == now
    assert now.bundle_digest == new.digest
