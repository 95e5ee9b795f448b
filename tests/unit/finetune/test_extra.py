"""Labelled rows from production at a retraining."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.errors import DatasetError
from edgeloop.ledger import LabelledRow
from edgeloop.recipe import TaskName
from edgeloop.rows import Row
from finetune import extra
from finetune.dataset import Rows, normalised
from finetune.split import digest_ratio


def add_extra(rows: Rows, labelled_rows: list[LabelledRow]) -> Rows:
    return extra.add_extra(rows, labelled_rows, "text-classification")


OLD = Rows(
    splits={
        "train": [Row("1", "train text", ("a",)), Row("2", "other train text", ("b",))],
        "validation": [Row("3", "validation text", ("a",))],
        "reference": [Row("4", "reference text", ("a",))],
        "test": [Row("5", "test text", ("b",))],
    },
    reference_is_test=False,
    warnings=("old",),
)


def labelled(label: str, count: int) -> list[LabelledRow]:
    return [LabelledRow(f"{label}{i}", f"new {label} {i}", label) for i in range(count)]


def test_most_rows_are_trained_on_and_some_stay_fresh() -> None:
    splits = add_extra(OLD, labelled("a", 300) + labelled("new", 100)).splits
    added = {name: len(rows) - len(OLD.splits.get(name, [])) for name, rows in splits.items()}
    assert added["reference"] == added["fresh"]
    assert added["test"] == 0
    assert added["train"] + added["validation"] + added["fresh"] == 400
    assert 200 < added["train"] < 280
    assert 20 < added["validation"] < 60
    assert 90 < added["fresh"] < 150


def part_of(rows: Rows) -> dict[str, str]:
    return {row.id: name for name in ("train", "validation", "fresh") for row in rows.splits[name]}


@given(st.sets(st.text("ab1", min_size=1), min_size=8, max_size=40), st.data())
def test_more_labels_never_move_a_row(ids: set[str], data: st.DataObject) -> None:
    rows = [LabelledRow(f"x{i}", f"new {i}", "a") for i in sorted(ids)]
    before = part_of(add_extra(OLD, rows[: data.draw(st.integers(4, len(rows)))]))
    after = part_of(add_extra(OLD, data.draw(st.permutations(rows))))
    assert before.items() <= after.items()


def test_fresh_rows_are_in_the_reference_and_never_trained_on() -> None:
    splits = add_extra(OLD, labelled("a", 40)).splits
    assert {r.id for r in splits["reference"]} == {"4", *(r.id for r in splits["fresh"])}
    trained = {row.id for name in ("train", "validation", "test") for row in splits[name]}
    assert trained.isdisjoint(row.id for row in splits["fresh"])


def test_fresh_rows_lie_among_the_reference_rows_not_in_blocks_of_one_class() -> None:
    old = [Row(f"r{i}", f"reference {i}", ("a",)) for i in range(100)]
    rows = replace(OLD, splits={**OLD.splits, "reference": old})
    reference = add_extra(rows, labelled("a", 150) + labelled("new", 150)).splits["reference"]
    fresh = [row not in old for row in reference]
    for block in (fresh[: len(fresh) // 2], fresh[len(fresh) // 2 :]):
        assert 0.25 < sum(block) / len(block) < 0.75
    neighbours = sum(a.label == b.label for a, b in itertools.pairwise(reference))
    shares = [sum(r.label == name for r in reference) / len(reference) for name in ("a", "new")]
    assert neighbours / len(reference) < sum(share**2 for share in shares) + 0.15


def test_the_order_of_arrival_decides_nothing() -> None:
    rows = labelled("a", 40)
    there, back = add_extra(OLD, rows).splits, add_extra(OLD, rows[::-1]).splits
    assert {row.id for row in there["fresh"]} == {row.id for row in back["fresh"]}


def test_texts_that_a_split_has_are_left_out() -> None:
    leaks = [
        LabelledRow("x1", " TEST   text", "a"),
        LabelledRow("x2", "Reference Text", "a"),
        LabelledRow("x3", "train text", "a"),
        LabelledRow("x4", "New a 0", "a"),
    ]
    rows = add_extra(OLD, labelled("a", 8) + leaks)
    assert [w.partition(": ")[2] for w in rows.warnings[1:]] == [
        "its text is in test too",
        "its text is in reference too",
        "its text is in train too",
        "its text is in the labelled rows too",
    ]
    fresh = {normalised(row.text) for row in rows.splits["fresh"]}
    trained = {normalised(row.text) for n in ("train", "validation") for row in rows.splits[n]}
    assert fresh.isdisjoint(trained)


def test_a_label_with_too_few_rows_is_left_out() -> None:
    rows = add_extra(OLD, labelled("a", 8) + labelled("rare", 3))
    assert rows.warnings == (
        "old",
        "label 'rare' left out of the labelled rows: 3 rows, at least 4 are needed",
    )
    assert all(row.label != "rare" for split in rows.splits.values() for row in split)


def test_a_new_label_without_a_row_to_train_on_is_left_out() -> None:
    unseen = [i for i in range(100) if digest_ratio(f"n{i}") >= 0.6][:5]
    new = [LabelledRow(f"n{i}", f"new words {i}", "new") for i in unseen]
    rows = add_extra(OLD, new)
    assert rows.warnings[1:] == (
        "label 'new' left out of the labelled rows: none of its 5 rows falls to train; "
        "label more rows with it",
    )
    assert all(row.label != "new" for split in rows.splits.values() for row in split)
    known = [replace(row, label="b") for row in new]
    assert add_extra(OLD, known).warnings == ("old",)


def test_a_prefix_does_not_move_a_row() -> None:
    rows = [LabelledRow(str(i), f"new {i}", "a") for i in range(1, 40)]
    parts = part_of(add_extra(OLD, rows))
    clashing = {f"labelled-{i}": digest_ratio(str(i)) for i in range(1, 6)}
    assert {name: parts[name] for name in clashing} == {
        name: "train" if ratio < 0.6 else "validation" if ratio < 0.7 else "fresh"
        for name, ratio in clashing.items()
    }


def test_an_id_that_is_taken_gets_a_prefix() -> None:
    rows = [LabelledRow(str(i), f"new {i}", "a") for i in range(1, 9)]
    splits = add_extra(OLD, rows).splits
    ids = [row.id for n in ("train", "validation", "fresh", "test") for row in splits[n]]
    assert len(ids) == len(set(ids))
    assert "labelled-5" in ids


def several(labels: list[str], first: int = 0) -> list[LabelledRow]:
    """Labelled rows with several labels each, of which all parts get some."""
    return [
        LabelledRow(f"m{first + i}", f"words {first + i}", text) for i, text in enumerate(labels)
    ]


def test_several_labels_come_apart_at_the_bar() -> None:
    rows = extra.add_extra(OLD, several(["b|a"] * 20 + [""] * 20), "multi-label-classification")
    added = [
        row for n in ("train", "validation", "fresh") for row in rows.splits[n] if "m" in row.id
    ]
    assert len(added) == 40
    assert {row.labels for row in added} == {("a", "b"), ()}


def test_of_several_labels_one_that_is_rare_leaves_its_rows_out() -> None:
    rows = extra.add_extra(OLD, several(["a"] * 9 + ["a|rare"]), "multi-label-classification")
    assert rows.warnings[1:] == (
        "label 'rare' left out of the labelled rows: 1 rows, at least 4 are needed",
    )
    assert all("rare" not in row.labels for split in rows.splits.values() for row in split)


def test_one_label_with_a_bar_in_it_stays_one_label() -> None:
    new = [LabelledRow(f"x{i}", f"words {i}", "a|b") for i in range(20)]
    labels = {row.labels for row in add_extra(OLD, new).splits["train"]}
    assert ("a|b",) in labels


@pytest.mark.parametrize("task", ["token-classification", "text-embedding"])
def test_rows_of_other_tasks_cannot_come_from_production(task: TaskName) -> None:
    with pytest.raises(DatasetError, match=f"no row of {task}; add rows to data.files"):
        extra.add_extra(OLD, labelled("a", 8), task)


def test_one_text_does_not_join_pairs_of_texts() -> None:
    pairs = [replace(row, text_pair="context") for row in OLD.splits["train"]]
    old = replace(OLD, splits={**OLD.splits, "train": pairs})
    with pytest.raises(DatasetError, match="the recipe's rows are pairs of texts"):
        add_extra(old, labelled("a", 8))
