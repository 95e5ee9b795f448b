"""Which training rows judge the trials of a search."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.errors import DatasetError
from edgeloop.recipe import Recipe
from edgeloop.rows import Row
from finetune.dataset import load
from finetune.holdout import hold_out


def make_recipe(file: str = "rows.csv", **split: Any) -> Recipe:
    document = {"name": "x", "base": "x", "data": {"files": [file], "split": split}}
    return Recipe.model_validate_json(json.dumps(document))


def some(counts: dict[str, int]) -> list[Row]:
    return [
        Row(id=f"{label}{i}", text=f"text {i}", labels=(label,))
        for label, count in counts.items()
        for i in range(count)
    ]


@given(
    counts=st.dictionaries(st.text("abc", min_size=1, max_size=2), st.integers(2, 40), min_size=2),
    ratio=st.floats(0.3, 0.7),
)
def test_every_row_is_in_one_part_and_every_class_in_the_trained_one(
    counts: dict[str, int], ratio: float
) -> None:
    rows = some(counts)
    try:
        trained, judged = hold_out(rows, make_recipe(), ratio)
    except DatasetError:  # so few rows that rounding left none apart
        assert max(counts.values()) * ratio < 1.0 or len(rows) < 8
        return
    assert sorted([*trained, *judged], key=lambda row: row.id) == sorted(
        rows, key=lambda row: row.id
    )
    assert {row.label for row in trained} == set(counts)
    apart = Counter(row.label for row in judged)
    assert all(abs(apart[label] - count * ratio) <= 1.0 for label, count in counts.items())


def test_the_parts_follow_from_the_rows_and_not_from_their_order() -> None:
    rows = some({"a": 30, "b": 50})
    forward, backward = (hold_out(order, make_recipe(), 0.2)[1] for order in (rows, rows[::-1]))
    assert {row.id for row in forward} == {row.id for row in backward}


def test_the_newest_rows_judge_where_the_split_is_by_time() -> None:
    rows = some({"a": 6, "b": 4})
    assert hold_out(rows, make_recipe(time="at"), 0.25)[1] == rows[-3:]


def test_no_group_is_on_both_sides(tmp_path: Path) -> None:
    lines = ["id,text,label,customer"]
    lines += [f"r{i},text {i},{'ab'[i % 2]},c{i // 6}" for i in range(600)]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    recipe = make_recipe(str(tmp_path / "rows.csv"), group="customer")
    rows = load(recipe).splits["train"]
    groups = {row.id: row.key for row in rows}
    trained, judged = hold_out(rows, recipe, 0.3)
    assert not {groups[row.id] for row in trained} & {groups[row.id] for row in judged}
    assert 0.15 * len(rows) < len(judged) < 0.45 * len(rows)


def test_a_part_without_rows_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"finetune\.search\.holdout: 0\.1 of 2"):
        hold_out(some({"a": 1, "b": 1}), make_recipe(), 0.1)
