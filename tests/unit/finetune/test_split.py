"""How rows are divided."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.errors import DatasetError
from edgeloop.recipe import Split
from edgeloop.rows import Row, Span
from finetune.data import Problems
from finetune.split import MAX_COMBINATIONS, allocate, digest_ratio, divide

SHARES = Split(train=0.6, validation=0.1, reference=0.2, test=0.1)
NAMES = {"train", "validation", "reference", "test"}


def row_of(row_id: str, label: str = "a", key: str = "") -> Row:
    return Row(row_id, f"text {row_id}", (label,), key=key, where=f"rows.csv:{row_id}")


def rows_of(counts: dict[str, int]) -> list[Row]:
    return [row_of(f"{label}-{i}", label) for label, n in counts.items() for i in range(n)]


def parted(rows: Sequence[Row], split: Split = SHARES) -> dict[str, list[Row]]:
    problems = Problems()
    splits = divide(rows, split, problems)
    problems.raise_if_any()
    return splits


def ids(split: Sequence[Row]) -> set[str]:
    return {row.id for row in split}


def places(splits: Mapping[str, Sequence[Row]]) -> dict[str, str]:
    return {row.id: name for name, rows in splits.items() for row in rows}


def labels_in(rows: Sequence[Row]) -> set[str]:
    return {row.label for row in rows}


ROWS = st.dictionaries(st.text("abc123", min_size=1, max_size=6), st.sampled_from("xyz")).map(
    lambda found: [row_of(row_id, label) for row_id, label in found.items()]
)


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


@given(text=st.text())
def test_digest_ratio_is_a_share(text: str) -> None:
    assert 0.0 <= digest_ratio(text) < 1.0


@given(rows=ROWS, data=st.data(), stratify=st.booleans())
def test_the_split_does_not_depend_on_the_order_of_rows(
    rows: list[Row], data: st.DataObject, stratify: bool
) -> None:
    split = SHARES.model_copy(update={"stratify": stratify})
    mixed = data.draw(st.permutations(rows))
    assert places(parted(rows, split)) == places(parted(mixed, split))


@given(rows=ROWS)
def test_every_row_is_in_one_split_and_keeps_its_order(rows: list[Row]) -> None:
    position = {row.id: i for i, row in enumerate(rows)}
    splits = parted(rows)
    assert sorted(row.id for split in splits.values() for row in split) == sorted(position)
    for split in splits.values():
        order = [position[row.id] for row in split]
        assert order == sorted(order)


@given(rows=ROWS, added=ROWS, data=st.data())
def test_without_stratify_added_rows_move_nothing(
    rows: list[Row], added: list[Row], data: st.DataObject
) -> None:
    split = SHARES.model_copy(update={"stratify": False})
    new = [row for row in added if row.id not in ids(rows)]
    mixed = data.draw(st.permutations(rows + new))
    assert places(parted(rows, split)).items() <= places(parted(mixed, split)).items()


@given(old=st.integers(0, 60), added=st.integers(0, 60), first=st.integers(0, 10**6))
def test_added_rows_move_no_row_of_a_class_that_is_in_all_splits(
    old: int, added: int, first: int
) -> None:
    plain = SHARES.model_copy(update={"stratify": False})
    rows = [row_of(f"{i}", "xyz"[i % 3]) for i in range(first, first + old)]
    digests = parted(rows, plain)
    everywhere = set.intersection(*(labels_in(split) for split in digests.values()))
    more = [row_of(f"new {i}", "vxyz"[i % 4]) for i in range(added)]
    before, after = places(parted(rows)), places(parted([*more, *rows]))
    for row in rows:
        if row.label in everywhere:
            assert before[row.id] == after[row.id] == places(digests)[row.id]


@given(rows=ROWS)
def test_a_class_with_enough_rows_is_in_every_split_and_any_is_in_train(rows: list[Row]) -> None:
    splits = parted(rows)
    for label, count in Counter(row.label for row in rows).items():
        assert label in labels_in(splits["train"])
        if count >= len(splits):
            assert all(label in labels_in(split) for split in splits.values())


@given(rows=ROWS)
def test_stratify_moves_no_more_rows_than_a_class_lacks(rows: list[Row]) -> None:
    digests = parted(rows, SHARES.model_copy(update={"stratify": False}))
    before, after = places(digests), places(parted(rows))
    for label in labels_in(rows):
        lacking = sum(label not in labels_in(split) for split in digests.values())
        moved = [row for row in rows if row.label == label and before[row.id] != after[row.id]]
        assert len(moved) <= lacking


def test_the_nearest_row_is_the_one_that_moves() -> None:
    ratios = {f"r{i}": digest_ratio(f"r{i}") for i in range(400)}
    in_train = sorted((r for r in ratios if ratios[r] < 0.6), key=lambda r: ratios[r])[-5:]
    assert places(parted([row_of(r) for r in in_train])) == {
        in_train[0]: "train",
        in_train[1]: "train",
        in_train[2]: "test",
        in_train[3]: "reference",
        in_train[4]: "validation",
    }


@pytest.mark.parametrize("stratify", [True, False])
def test_shares_hold(stratify: bool) -> None:
    """Each count is binomial; five standard deviations are left once in a million."""
    rows = rows_of({"a": 3000, "b": 1000})
    splits = parted(rows, SHARES.model_copy(update={"stratify": stratify}))
    for name, share in SHARES.shares().items():
        deviation = math.sqrt(len(rows) * share * (1 - share))
        assert abs(len(splits[name]) - len(rows) * share) < 5 * deviation


def test_rows_made_of_the_same_text_stay_together() -> None:
    rows = [row_of(f"d{i % 30}-{i}", key=f"d{i % 30}") for i in range(300)]
    splits = parted(rows)
    keys = [{row.key for row in split} for split in splits.values()]
    assert sum(map(len, keys)) == 30


@given(groups=st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=40))
def test_rows_of_a_group_stay_together(groups: list[str]) -> None:
    rows = [row_of(str(i), "ab"[i % 2], key=group) for i, group in enumerate(groups)]
    splits = parted(rows, SHARES.model_copy(update={"group": "customer"}))
    found = [{row.key for row in split} for split in splits.values()]
    assert sum(map(len, found)) == len(set(groups))


def test_groups_land_in_every_split() -> None:
    rows = [row_of(str(i), key=f"customer {i % 40}") for i in range(400)]
    assert all(parted(rows, SHARES.model_copy(update={"group": "customer"})).values())


def with_labels(row_id: int, *labels: str) -> Row:
    return Row(f"r{row_id}", "text", tuple(sorted(labels)))


def test_few_combinations_of_labels_are_classes() -> None:
    rows = [with_labels(i, "a") for i in range(90)] + [
        with_labels(i, "a", "b") for i in range(90, 95)
    ]
    for split in parted(rows).values():
        assert "a|b" in labels_in(split)


def test_with_many_combinations_every_label_is_in_train() -> None:
    names = [f"label {i:02d}" for i in range(60)]
    rows = [with_labels(i, name, names[i - 1]) for i, name in enumerate(names)]
    assert len(labels_in(rows)) > MAX_COMBINATIONS
    splits = parted(rows)
    assert {label for row in splits["train"] for label in row.labels} == set(names)
    assert all(splits.values())


def test_every_type_of_entity_is_in_train() -> None:
    rows = [
        Row(f"r{i}", "some text", spans=(Span(0, 4, f"rare {i // 2}"),) if i < 20 else ())
        for i in range(200)
    ]
    splits = parted(rows)
    assert {s.label for row in splits["train"] for s in row.spans} == {
        f"rare {i}" for i in range(10)
    }
    assert all(splits.values())


def test_rows_without_labels_are_divided_by_their_digests() -> None:
    rows = [Row(f"r{i}", "anchor", text_pair="positive") for i in range(200)]
    for name, split in parted(rows).items():
        low, high = {"train": (0, 0.6), "validation": (0.6, 0.7), "reference": (0.7, 0.9)}.get(
            name, (0.9, 1.0)
        )
        assert split
        assert all(low <= digest_ratio(row.id) + 1e-9 and digest_ratio(row.id) < high + 1e-9
                   for row in split)  # fmt: skip


def test_by_time_the_oldest_train_and_the_newest_test() -> None:
    stamps = ["2026-02-01T00:00:00+02:00", "2026-01-31T23:30:00Z", "2026-01-01", "2026-03-01"]
    rows = [row_of(str(i), key=stamp) for i, stamp in enumerate(stamps)]
    splits = parted(rows, Split(train=0.5, validation=0.25, test=0.25, time="at"))
    assert {n: [row.id for row in s] for n, s in splits.items()} == {
        "train": ["2", "0"],
        "validation": ["1"],
        "test": ["3"],
    }


def test_a_time_that_is_none_is_named() -> None:
    rows = [row_of("2", key="last tuesday")]
    with pytest.raises(DatasetError, match=r"rows.csv:2: at is 'last tuesday'; write it like 2026"):
        parted(rows, SHARES.model_copy(update={"time": "at"}))
