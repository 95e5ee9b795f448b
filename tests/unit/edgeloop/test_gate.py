"""The gate on real artefacts: a challenger keeps what the champion can and mends what it cannot."""

from pathlib import Path

import pytest

from edgeloop.bundle import Bundle
from edgeloop.errors import BundleError
from edgeloop.gate import compare, correct
from edgeloop.recipe import Recipe, load_recipe
from edgeloop.rows import Row
from tests import tiny

WITHOUT_REPAIR = ("billing", "delivery", "chat")


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    path = tmp_path / "recipe.yaml"
    path.write_text("name: tiny\nbase: some/model\ndata: {files: [rows.csv]}\n", encoding="utf-8")
    return load_recipe(path)


@pytest.fixture
def ignorant(tmp_path: Path) -> Bundle:
    """Answers everything but repairs."""
    return tiny.make_bundle(tmp_path / "ignorant", labels=WITHOUT_REPAIR)


def rows(count: int, seed: int, only: tuple[str, ...] = tiny.LABELS) -> list[Row]:
    found = [pair for pair in tiny.sentences(6 * count, seed) if pair[1] in only][:count]
    return [Row(str(i), text, (label,)) for i, (text, label) in enumerate(found)]


def test_a_label_that_the_bundle_does_not_know_is_answered_wrongly(
    tiny_bundle: Bundle, ignorant: Bundle
) -> None:
    asked = rows(60, seed=3)
    assert correct(tiny_bundle, asked).all()
    right = correct(ignorant, asked)
    assert right.tolist() == [row.label != "repair" for row in asked]


def test_a_better_challenger_is_promoted_with_its_figures(
    recipe: Recipe, tiny_bundle: Bundle, ignorant: Bundle
) -> None:
    fresh = rows(40, seed=4)
    gate = compare(recipe, ignorant, tiny_bundle, golden=rows(100, seed=5), fresh=fresh)
    repairs = sum(row.label == "repair" for row in fresh)
    assert gate.promoted
    assert (gate.fresh.gained, gate.fresh.lost) == (repairs, 0)
    assert gate.fresh_p_value == pytest.approx(0.5**repairs)
    assert all(reason.startswith("passed") for reason in gate.reasons)


def test_an_equal_challenger_is_refused(recipe: Recipe, tiny_bundle: Bundle) -> None:
    gate = compare(
        recipe, tiny_bundle, tiny_bundle, golden=rows(100, seed=5), fresh=rows(40, seed=4)
    )
    assert not gate.promoted
    assert [reason.split(":")[0] for reason in gate.reasons] == ["passed", "FAILED"]


def test_a_challenger_that_forgets_is_refused_however_well_it_does_on_fresh_rows(
    recipe: Recipe, tiny_bundle: Bundle, ignorant: Bundle
) -> None:
    fresh = [Row(str(i), "why is it again", ("chat",)) for i in range(30)]
    gate = compare(recipe, tiny_bundle, ignorant, golden=rows(100, seed=5), fresh=fresh)
    assert not gate.promoted
    assert gate.reasons[0].startswith("FAILED")


@pytest.mark.parametrize(("golden", "fresh"), [(0, 5), (5, 0)])
def test_without_rows_there_is_no_comparison(
    recipe: Recipe, tiny_bundle: Bundle, golden: int, fresh: int
) -> None:
    with pytest.raises(BundleError, match=f"there are {golden} and {fresh}; label more"):
        compare(recipe, tiny_bundle, tiny_bundle, rows(golden, seed=1), rows(fresh, seed=2))
