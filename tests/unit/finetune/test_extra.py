"""Labelled rows from production at a retraining."""

from edgeloop.ledger import LabelledRow
from finetune.data import Row
from finetune.dataset import Rows, normalised
from finetune.extra import add_extra

OLD = Rows(
    splits={
        "train": [Row("1", "train text", "a"), Row("2", "other train text", "b")],
        "validation": [Row("3", "validation text", "a")],
        "reference": [Row("4", "reference text", "a")],
        "test": [Row("5", "test text", "b")],
    },
    reference_is_test=False,
    warnings=("old",),
)


def labelled(label: str, count: int) -> list[LabelledRow]:
    return [LabelledRow(f"{label}{i}", f"new {label} {i}", label) for i in range(count)]


def test_most_rows_are_trained_on_and_some_stay_fresh() -> None:
    splits = add_extra(OLD, labelled("a", 20) + labelled("new", 10)).splits
    added = {name: len(rows) - len(OLD.splits.get(name, [])) for name, rows in splits.items()}
    assert added == {"train": 18, "validation": 3, "reference": 9, "test": 0, "fresh": 9}
    assert sum(row.label == "new" for row in splits["train"]) == 6


def test_fresh_rows_are_in_the_reference_and_never_trained_on() -> None:
    splits = add_extra(OLD, labelled("a", 40)).splits
    assert splits["reference"] == OLD.splits["reference"] + splits["fresh"]
    trained = {row.id for name in ("train", "validation", "test") for row in splits[name]}
    assert trained.isdisjoint(row.id for row in splits["fresh"])


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


def test_four_rows_are_enough_for_every_part() -> None:
    splits = add_extra(OLD, labelled("new", 4)).splits
    assert [sum(r.label == "new" for r in splits[n]) for n in ("train", "validation", "fresh")] == [
        2,
        1,
        1,
    ]


def test_an_id_that_is_taken_gets_a_prefix() -> None:
    rows = [LabelledRow(str(i), f"new {i}", "a") for i in range(1, 9)]
    splits = add_extra(OLD, rows).splits
    ids = [row.id for n in ("train", "validation", "fresh", "test") for row in splits[n]]
    assert len(ids) == len(set(ids))
    assert "labelled-5" in ids
