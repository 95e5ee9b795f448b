"""A budget is met only by figures that show it; every key is read."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.budget import CHECKS, Figures, excess_ratio, limits, misses
from edgeloop.recipe import Budget
from edgeloop.records import Measurement, PairedDrop
from edgeloop.records_compress import Change, Invariance
from edgeloop.records_measured import SliceQuality
from edgeloop.statistics import drop_upper_bound
from tests.certified import drop, measurement, quality


def said(measured: Measurement, accuracy: PairedDrop, budget: Budget) -> list[str]:
    """What is missed, in words."""
    return [miss.text for miss in misses(Figures(measured, accuracy, quality()), budget)]


def test_every_key_of_the_budget_is_read() -> None:
    assert set(CHECKS) == set(Budget.model_fields) - {"confidence"}


def test_a_candidate_within_every_limit_misses_nothing() -> None:
    budget = Budget(latency_p95_ms=4.5, size_mb=23.0, rss_mb=120.0, max_accuracy_drop=0.02)
    assert said(measurement(), drop(), budget) == []


@pytest.mark.parametrize(
    ("budget", "key", "numbers"),
    [
        (Budget(latency_p95_ms=4.2), "latency_p95_ms", ["4.50", "95%", "4.00", "4.2"]),
        (Budget(size_mb=22.9), "size_mb", ["23.00", "22.9"]),
        (Budget(rss_mb=119.0), "rss_mb", ["120.0", "119"]),
    ],
)
def test_a_miss_names_the_key_and_the_numbers(budget: Budget, key: str, numbers: list[str]) -> None:
    (text,) = said(measurement(), drop(), budget)
    assert text.startswith(f"{key} ")
    assert all(number in text for number in numbers)


def test_latency_is_judged_by_the_upper_end_of_its_interval() -> None:
    assert measurement().latency_p95_ms.value < 4.2
    assert said(measurement(), drop(), Budget(latency_p95_ms=4.2)) != []


def test_latency_of_too_few_texts_is_not_shown_whatever_it_measured() -> None:
    few = measurement(rows=71)
    (text,) = said(few, drop(), Budget(latency_p95_ms=1000.0))
    assert "71 texts" in text
    assert "72" in text
    assert said(measurement(rows=72), drop(), Budget(latency_p95_ms=1000.0)) == []


def test_accuracy_is_judged_by_the_bound_and_the_rows_that_would_do_are_named() -> None:
    accuracy = drop(lost=3, gained=3, rows=240)
    (text,) = said(measurement(), accuracy, Budget(max_accuracy_drop=0.015))
    assert accuracy.drop_ratio == 0.0
    assert "lost 3, gained 3 of 240 rows" in text
    needed = int(text.split("about ")[1].split(" rows")[0])
    scale = needed / 240
    assert needed > 240
    assert drop_upper_bound(round(3 * scale), round(3 * scale), needed, 0.95) <= 0.015


def test_no_number_of_rows_is_promised_where_the_measured_drop_is_over_the_limit() -> None:
    (text,) = said(measurement(), drop(lost=40), Budget(max_accuracy_drop=0.02))
    assert "could show" not in text


def test_limits_are_the_keys_that_are_set() -> None:
    assert limits(Budget(size_mb=30)) == {"size_mb": 30.0, "max_accuracy_drop": 0.02}


@settings(deadline=None)
@given(st.floats(1.0, 100.0), st.floats(0.001, 0.2))
def test_a_wider_budget_is_never_missed_where_a_narrower_is_met(size: float, most: float) -> None:
    narrow = said(measurement(), drop(2, 1), Budget(size_mb=size, max_accuracy_drop=most))
    wide = Budget(size_mb=size * 1.5, max_accuracy_drop=min(most * 1.5, 1.0))
    assert len(said(measurement(), drop(2, 1), wide)) <= len(narrow)


def test_the_excess_is_that_of_the_figure_over_its_limit() -> None:
    figures = Figures(measurement(size_bytes=30_000_000), drop(), quality())
    found = misses(figures, Budget(size_mb=20, rss_mb=100))
    assert [miss.excess_ratio for miss in found] == pytest.approx([0.5, 0.2])
    assert excess_ratio(found) == pytest.approx(0.7)
    assert excess_ratio(()) == 0.0


def test_what_cannot_be_bounded_is_further_from_the_budget_than_anything_measured() -> None:
    (miss,) = misses(Figures(measurement(rows=5), drop(), quality()), Budget(latency_p95_ms=9.0))
    lost = Figures(measurement(), drop(lost=800), quality())
    (far,) = misses(lost, Budget(max_accuracy_drop=0.001))
    assert miss.excess_ratio > far.excess_ratio


def test_the_class_that_loses_most_is_named_with_its_rows() -> None:
    classes = quality(("refund", 12, 0.75, 0.5), ("card", 40, 0.9, 0.95), ("none", 0, 0.0, 0.0))
    figures = Figures(measurement(), drop(), classes)
    (miss,) = misses(figures, Budget(max_class_drop=0.2))
    assert miss.text.startswith("max_class_drop 0.250 (refund: recall 0.500, was 0.750, 12 rows)")
    assert miss.excess_ratio == pytest.approx(0.25)
    assert misses(figures, Budget(max_class_drop=0.25)) == ()
    assert misses(Figures(measurement(), drop(), quality()), Budget(max_class_drop=0.01)) == ()


def test_the_slice_that_loses_most_is_named_with_its_rows() -> None:
    slices = (
        SliceQuality(name="shop: north", rows=60, accuracy=0.8, merged_accuracy=0.9),
        SliceQuality(name="shop: south", rows=90, accuracy=0.95, merged_accuracy=0.9),
    )
    figures = Figures(measurement(), drop(), quality(slices=slices))
    (miss,) = misses(figures, Budget(max_slice_drop=0.05))
    assert miss.text.startswith("max_slice_drop 0.100 (shop: north: accuracy 0.800, was 0.900, 60")
    assert misses(figures, Budget(max_slice_drop=0.11)) == ()


def invariance(batch: int = 0, padding: int = 0, threads: int = 0) -> Invariance:
    def change(flips: int) -> Change:
        return Change(max_change=0.1, flips=flips)

    return Invariance(
        rows=50, batch=change(batch), padding=change(padding), threads=change(threads)
    )


def test_the_worst_company_is_what_answers_must_not_depend_on() -> None:
    def flips(found: Invariance | None, limit: float) -> list[str]:
        figures = Figures(measurement(), drop(), quality(), invariance=found)
        return [miss.text for miss in misses(figures, Budget(max_flip_ratio=limit))]

    found = invariance(batch=1, padding=3, threads=2)
    (text,) = flips(found, 0.05)
    assert text == "max_flip_ratio 0.060 (3 of 50 texts with padding) > 0.05"
    assert flips(found, 0.06) == []
    assert flips(None, 0.0) == []
    assert flips(invariance(), 0.0) == []
    (text,) = flips(invariance(threads=1), 0.0)
    assert "1 of 50 texts with more threads" in text
