from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from finetune.audit.folds import FOLDS, assign_folds, thinned
from tests import tiny
from tests.audited import findings, recipe, rows


def test_flipped_labels_come_first_with_the_right_suggestion() -> None:
    drawn = tiny.sentences(240, seed=5)
    train = rows([text for text, _ in drawn], [label for _, label in drawn])
    flipped = {}
    for position in range(0, 240, 20):
        right = train[position].label
        wrong = next(label for label in tiny.LABELS if label != right)
        train[position] = replace(train[position], labels=(wrong,))
        flipped[train[position].id] = right
    found = findings("label-errors", {"train": train[:200], "test": train[200:]})["label-errors"]
    assert len(found.rows) >= 10
    assert set(found.rows[:10]) <= set(flipped)
    assert all(d["suggested"] == flipped[d["row"]] for d in found.details[:10])
    given = [detail["given_probability"] for detail in found.details]
    assert given == sorted(given)
    assert found.fix == "review"


def test_clean_labels_raise_few_suspicions() -> None:
    drawn = tiny.sentences(240, seed=6)
    train = rows([text for text, _ in drawn], [label for _, label in drawn])
    found = findings("label-errors", {"train": train})
    assert "label-errors" not in found or len(found["label-errors"].rows) <= 5


def test_small_classes_are_left_out_with_a_note() -> None:
    drawn = [*tiny.sentences(120, seed=7), ("an odd one", "odd"), ("another odd one", "odd")]
    train = rows([text for text, _ in drawn], [label for _, label in drawn])
    found = findings("label-errors", {"train": train})["label-errors-skipped"]
    assert found.details == ({"class": "odd"},)


def test_nothing_to_learn_from_is_a_note_and_no_crash() -> None:
    unique = rows([f"x{i}y" for i in range(20)], ["a", "b"] * 10)
    assert set(findings("label-errors", {"train": unique})) <= {
        "label-errors",
        "label-errors-skipped",
    }
    marks = rows([chr(0x2600 + i) for i in range(20)], ["a", "b"] * 10)
    assert set(findings("label-errors", {"train": marks})) == {"label-errors-skipped"}
    assert set(findings("label-errors", {"train": rows(["a"])})) == {"label-errors-skipped"}


def test_the_recipe_and_other_tasks_leave_labels_alone() -> None:
    train = rows(["a", "b"], ["a", "b"])
    assert findings("label-errors", {"train": train}, recipe(audit={"label_errors": False})) == {}
    assert findings("label-errors", {"train": train}, recipe("multi-label-classification")) == {}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30)), max_size=120))
def test_folds_keep_groups_together_and_spread_every_class(pairs: list[tuple[int, int]]) -> None:
    labels = [label for label, _ in pairs]
    groups = [group for _, group in pairs]
    folds = assign_folds(labels, groups)
    assert set(folds.tolist()) <= set(range(FOLDS))
    for group in set(groups):
        assert len({int(fold) for fold, g in zip(folds, groups, strict=True) if g == group}) == 1


@given(st.lists(st.integers(0, 3), max_size=120))
def test_rows_without_company_are_spread_to_within_one(labels: list[int]) -> None:
    folds = assign_folds(labels, range(len(labels)))
    for label in set(labels):
        counts = np.bincount(folds[np.array(labels) == label], minlength=FOLDS)
        assert counts.max() - counts.min() <= 1


def test_many_rows_are_thinned_per_class_and_few_are_all_kept() -> None:
    labels = np.array([0] * 50_000 + [1] * 30 + [2] * 15_000)
    rows_to_fit = np.arange(0, len(labels), 1)
    chosen = thinned(rows_to_fit, labels)
    assert np.bincount(labels[chosen]).tolist() == [6666, 30, 6666]
    assert len(set(chosen.tolist())) == len(chosen)
    few = np.array([3, 5, 8])
    assert thinned(few, np.array([0, 1] * 5)).tolist() == few.tolist()
