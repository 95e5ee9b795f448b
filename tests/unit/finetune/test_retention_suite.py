"""What is measured, what may be replayed, and that no row is both."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.bundle import Bundle, GoldenRow
from edgeloop.errors import DatasetError, RecipeError
from edgeloop.recipe import Recipe
from edgeloop.rows import Row, Span
from edgeloop.runtime import RowOutput
from edgeloop.tasks import TASKS
from finetune.dataset import Rows
from finetune.retention.previous import check_retention, comparable, used_digest
from finetune.retention.replay import add_replay, draw, replay_count
from finetune.retention.suite import (
    classes_of,
    content,
    divided_files,
    golden_row,
    has_suite,
    measured_suite,
)
from tests import tiny
from tests.retained import make_recipe


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    path = tmp_path / "known.csv"
    tiny.write_rows(path, tiny.sentences(60, seed=5))
    return [str(path)]


def splits(train: list[Row], **others: list[Row]) -> Rows:
    named: dict[str, list[Row]] = {"validation": [], "reference": [], "test": [], **others}
    return Rows({"train": train, **named}, False, ())


def rows(count: int, seed: int) -> list[Row]:
    return [
        Row(f"r{i}", text, (label,)) for i, (text, label) in enumerate(tiny.sentences(count, seed))
    ]


# -- golden rows --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "label", "expected"),
    [
        ("text-classification", "a|b", Row("1", "x", ("a|b",))),
        ("multi-label-classification", "a|b", Row("1", "x", ("a", "b"))),
        ("multi-label-classification", "", Row("1", "x")),
        ("token-classification", "", Row("1", "x")),
        (
            "token-classification",
            "0:4:date|6:9:a|b:c",
            Row("1", "x", spans=(Span(0, 4, "date"), Span(6, 9, "a|b:c"))),
        ),
    ],
)
def test_a_golden_row_is_the_row_that_it_was_made_of(task: str, label: str, expected: Row) -> None:
    golden = GoldenRow(id="1", text="x", label=label, expected="", score=1.0, text_pair="y")
    assert golden_row(golden, task) == replace(expected, text_pair="y")


def test_a_row_counts_for_each_of_its_classes() -> None:
    assert classes_of(Row("1", "x", ("b", "a"))) == ("a", "b")
    assert classes_of(Row("1", "x", spans=(Span(0, 1, "d"), Span(2, 3, "d")))) == ("d",)
    assert classes_of(Row("1", "x")) == ("O",)


# -- the suite ----------------------------------------------------------------------------------


def test_the_suite_is_golden_rows_and_files_without_what_was_trained_on(
    tiny_bundle: Bundle, files: list[str]
) -> None:
    recipe = make_recipe(files=files)
    whole = measured_suite(recipe, tiny_bundle, [])
    assert (whole.golden, len(whole.rows), whole.left_out) == (12, 72, 0)
    trained = [Row("x", f"  {whole.rows[0].text.upper()} "), Row("y", whole.rows[20].text)]
    without = measured_suite(recipe, tiny_bundle, trained)
    assert (without.golden, len(without.rows), without.left_out) == (11, 70, 2)


def test_there_is_no_suite_without_files_and_previous(tiny_bundle: Bundle) -> None:
    assert not has_suite(make_recipe(), None)
    assert has_suite(make_recipe(), tiny_bundle)
    other_task = make_recipe(task="token-classification")
    assert not has_suite(other_task, tiny_bundle), "another task's answers compare with nothing"


def test_all_rows_of_files_are_measured_until_some_are_replayed(files: list[str]) -> None:
    replayed, measured = divided_files(make_recipe(files=files))
    assert (len(replayed), len(measured)) == (0, 60)
    replayed, measured = divided_files(make_recipe(files=files, replay_ratio=0.5))
    assert len(replayed) + len(measured) == 60
    assert min(len(replayed), len(measured)) >= 15
    assert not {content(r) for r in replayed} & {content(r) for r in measured}


def test_a_bad_file_is_told_like_any_other(tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("id,text,label\n1,,a\n")
    with pytest.raises(DatasetError, match="bad.csv:2: text is empty"):
        measured_suite(make_recipe(files=[str(bad)]), None, [])


def test_a_label_that_the_model_does_not_know_is_wrong() -> None:
    output = RowOutput(np.array([5.0, 0.0], dtype=np.float32), np.zeros(2, dtype=np.float32))
    known, gone = Row("1", "x", ("a",)), Row("2", "x", ("gone",))
    task = TASKS["text-classification"]
    found = task.right([output, output], [known, gone], ("a", "b"))
    assert found.tolist() == [True, False]


# -- replay -------------------------------------------------------------------------------------


@given(new=st.integers(1, 5000), ratio=st.floats(0.01, 0.95))
def test_the_replayed_rows_are_the_ratio_of_the_whole(new: int, ratio: float) -> None:
    count = replay_count(new, ratio)
    assert count >= 1
    assert abs(count - ratio * (new + count)) <= 1.0


@given(
    labels=st.lists(st.sampled_from("abc"), max_size=40),
    count=st.integers(0, 40),
    seed=st.integers(0, 99),
)
def test_a_draw_is_balanced_and_does_not_depend_on_the_order(
    labels: list[str], count: int, seed: int
) -> None:
    pool = [Row(str(i), f"text {i}", (label,)) for i, label in enumerate(labels)]
    drawn = draw(pool, count)
    assert len({row.id for row in drawn}) == len(drawn) == min(count, len(pool))
    found = {label: sum(row.label == label for row in drawn) for label in set(labels)}
    for label, number in found.items():
        if number < labels.count(label):
            assert number >= max(found.values()) - 1, "only a class that ran out has fewer"
    order = np.random.default_rng(seed).permutation(len(pool))
    assert draw([pool[i] for i in order], count) == drawn


def test_replayed_rows_join_train_alone_and_are_none_that_is_measured_or_tested(
    files: list[str],
) -> None:
    recipe = make_recipe(files=files, replay_ratio=0.25)
    may_be, measured = divided_files(recipe)
    before = splits(rows(30, seed=8), test=may_be[:3])
    after = add_replay(before, recipe, None)
    replayed = after.splits["train"][30:]
    assert len(replayed) == 10
    assert after.splits["train"][:30] == before.splits["train"]
    assert after.splits["test"] == before.splits["test"]
    texts = {content(row) for row in replayed}
    assert texts <= {content(row) for row in may_be[3:]}
    assert not texts & {content(row) for row in measured}
    taken = {row.id for row in (*before.splits["train"], *before.splits["test"])}
    ids = {row.id for row in replayed}
    assert len(ids) == 10
    assert not ids & taken, "two files may number their rows alike"
    assert after.warnings == ()


def test_too_few_rows_to_replay_are_a_warning(files: list[str]) -> None:
    recipe = make_recipe(files=files, replay_ratio=0.9)
    found = add_replay(splits(rows(30, seed=8)), recipe, None)
    (warning,) = found.warnings
    assert "of 270 rows" in warning


def test_nothing_to_replay_is_an_error_that_says_so(tiny_bundle: Bundle) -> None:
    recipe = make_recipe(replay_ratio=0.5)
    with pytest.raises(RecipeError, match="files is empty, so there is nothing to replay"):
        check_retention(recipe, None)
    check_retention(recipe, tiny_bundle)
    with pytest.raises(RecipeError, match="the run that trained the deployed model is gone"):
        add_replay(splits(rows(3, seed=8)), recipe, tiny_bundle)


# -- what the recipe asks for -------------------------------------------------------------------


def test_distillation_needs_a_model_and_a_task_for_it(tiny_bundle: Bundle) -> None:
    recipe = make_recipe(distillation_weight=0.5)
    with pytest.raises(RecipeError, match="no model of task text-classification is deployed"):
        check_retention(recipe, None)
    check_retention(recipe, tiny_bundle)
    tagger = make_recipe(task="token-classification", distillation_weight=0.5)
    with pytest.raises(RecipeError, match="task token-classification cannot be distilled"):
        check_retention(tagger, tiny_bundle)


@pytest.mark.parametrize(
    ("retention", "used"),
    [({}, False), ({"replay_ratio": 0.1}, True), ({"distillation_weight": 0.1}, True)],
)
def test_a_run_depends_on_a_previous_model_only_where_its_training_does(
    tiny_bundle: Bundle, retention: dict[str, Any], used: bool
) -> None:
    recipe: Recipe = make_recipe(**retention)
    assert used_digest(recipe, tiny_bundle) == (tiny_bundle.digest if used else None)
    assert used_digest(recipe, None) is None
    assert comparable(recipe, tiny_bundle) is tiny_bundle
