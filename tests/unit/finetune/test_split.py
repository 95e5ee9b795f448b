"""How rows are divided."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.errors import DatasetError
from edgeloop.recipe import Split
from finetune.data import Problems, Row
from finetune.split import allocate, by_rank, digest_ratio, divide

SHARES = Split(train=0.6, validation=0.1, reference=0.2, test=0.1)


def rows_of(counts: dict[str, int], key: str = "") -> list[Row]:
    return [
        Row(f"{label}-{i}", f"text {i}", label, key, f"rows.csv:{i}")
        for label, count in counts.items()
        for i in range(count)
    ]


def ids(split: list[Row]) -> set[str]:
    return {row.id for row in split}


@given(
    count=st.integers(0, 500),
    shares=st.lists(st.floats(0.01, 1.0), min_size=1, max_size=5),
)
def test_allocation_gives_every_row_once_and_no_share_nothing(
    count: int, shares: list[float]
) -> None:
    named = {str(i): share for i, share in enumerate(shares)}
    counts = allocate(count, named)
    assert sum(counts.values()) == count
    assert all(counts[name] >= 1 for name in list(named)[:count])


@given(count=st.integers(50, 2000))
def test_allocation_keeps_to_the_shares(count: int) -> None:
    counts = allocate(count, SHARES.shares())
    assert all(abs(counts[n] - count * share) < 1 for n, share in SHARES.shares().items())


def test_a_class_of_two_trains_with_one() -> None:
    assert allocate(2, {"train": 0.8, "validation": 0.1, "test": 0.1}) == {
        "train": 1,
        "validation": 1,
        "test": 0,
    }


@given(text=st.text())
def test_digest_ratio_is_a_share(text: str) -> None:
    assert 0.0 <= digest_ratio(text) < 1.0


def test_stratified_classes_land_in_every_split() -> None:
    splits = divide(rows_of({"common": 400, "rare": 5}), SHARES, Problems())
    for split in splits.values():
        assert Counter(row.label for row in split)["rare"] >= 1
    assert {name: len(split) for name, split in splits.items()} == {
        "train": 242,
        "validation": 41,
        "reference": 81,
        "test": 41,
    }


@pytest.mark.parametrize("stratify", [True, False])
def test_the_split_does_not_depend_on_the_order_of_rows(stratify: bool) -> None:
    split = SHARES.model_copy(update={"stratify": stratify})
    rows = rows_of({"a": 60, "b": 40})
    there, back = divide(rows, split, Problems()), divide(rows[::-1], split, Problems())
    assert {n: ids(s) for n, s in there.items()} == {n: ids(s) for n, s in back.items()}


def test_rows_of_a_split_keep_the_order_of_the_file() -> None:
    rows = rows_of({"a": 30, "b": 30})
    position = {row.id: i for i, row in enumerate(rows)}
    for split in divide(rows, SHARES, Problems()).values():
        order = [position[row.id] for row in split]
        assert order == sorted(order)


def test_without_stratify_added_rows_move_nothing() -> None:
    split = SHARES.model_copy(update={"stratify": False})
    few, many = rows_of({"a": 100}), rows_of({"a": 150})
    before, after = divide(few, split, Problems()), divide(many, split, Problems())
    assert all(ids(before[name]) <= ids(after[name]) for name in before)


def test_rows_of_a_group_stay_together() -> None:
    rows = [Row(str(i), "text", "ab"[i % 2], key=f"customer {i % 40}") for i in range(400)]
    splits = divide(rows, SHARES.model_copy(update={"group": "customer"}), Problems())
    groups = [{row.key for row in split} for split in splits.values()]
    assert sum(len(group) for group in groups) == 40
    assert all(groups)


def test_by_time_the_oldest_train_and_the_newest_test() -> None:
    stamps = ["2026-02-01T00:00:00+02:00", "2026-01-31T23:30:00Z", "2026-01-01", "2026-03-01"]
    rows = [Row(str(i), "text", "a", key=stamp) for i, stamp in enumerate(stamps)]
    split = Split(train=0.5, validation=0.25, test=0.25, time="at")
    splits = divide(rows, split, Problems())
    assert {n: [row.id for row in s] for n, s in splits.items()} == {
        "train": ["2", "0"],
        "validation": ["1"],
        "test": ["3"],
    }


def test_a_time_that_is_none_is_named() -> None:
    problems = Problems()
    rows = [Row("1", "text", "a", key="last tuesday", where="rows.csv:2")]
    divide(rows, SHARES.model_copy(update={"time": "at"}), problems)
    with pytest.raises(DatasetError, match=r"rows.csv:2: at is 'last tuesday'; write it like 2026"):
        problems.raise_if_any()


def test_rank_decides_within_a_label() -> None:
    rows = rows_of({"a": 4})
    chosen = by_rank(rows, {"first": 0.5, "second": 0.5}, lambda row: row.id)
    assert ids(chosen["first"]) == {"a-0", "a-1"}
