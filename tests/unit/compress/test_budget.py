"""A budget is met only by figures that show it; every key is read."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.budget import CHECKS, choose, limits, misses
from edgeloop.recipe import Budget
from edgeloop.records import Candidate, Interval, Measurement, PairedDrop, Parity
from edgeloop.statistics import drop_upper_bound


def measurement(**changes: Any) -> Measurement:
    figures: dict[str, Any] = {
        "rows": 200,
        "repeats": 3,
        "latency_p50_ms": Interval(value=2.0, low=1.9, high=2.1),
        "latency_p95_ms": Interval(value=4.0, low=3.8, high=4.5),
        "size_bytes": 23_000_000,
        "rss_bytes": 120_000_000,
        "cold_start_seconds": 0.4,
    }
    return Measurement(**figures | changes)


def drop(lost: int = 0, gained: int = 0, rows: int = 800, confidence: float = 0.95) -> PairedDrop:
    return PairedDrop(
        rows=rows,
        reference_accuracy=0.9,
        candidate_accuracy=0.9 - (lost - gained) / rows,
        lost=lost,
        gained=gained,
        drop_ratio=(lost - gained) / rows,
        upper_bound_ratio=drop_upper_bound(lost, gained, rows, confidence),
        confidence=confidence,
    )


def candidate(kind: str, size_bytes: int, missed: tuple[str, ...] = ()) -> Candidate:
    return Candidate(
        inputs_digest="0" * 64,
        files=(),
        kind=kind,
        exporter="dynamo",
        merged_digest="0" * 64,
        parity=Parity(rows=1, max_abs_difference=0.0, argmax_agreement_ratio=1.0, tolerance=1e-4),
        measurement=measurement(size_bytes=size_bytes),
        accuracy=drop(),
        test_accuracy=0.9,
        misses=missed,
    )


def test_every_key_of_the_budget_is_read() -> None:
    assert set(CHECKS) == set(Budget.model_fields) - {"confidence"}


def test_a_candidate_within_every_limit_misses_nothing() -> None:
    budget = Budget(latency_p95_ms=4.5, size_mb=23.0, rss_mb=120.0, max_accuracy_drop=0.02)
    assert misses(measurement(), drop(), budget) == ()


@pytest.mark.parametrize(
    ("budget", "key", "numbers"),
    [
        (Budget(latency_p95_ms=4.2), "latency_p95_ms", ["4.50", "95%", "4.00", "4.2"]),
        (Budget(size_mb=22.9), "size_mb", ["23.00", "22.9"]),
        (Budget(rss_mb=119.0), "rss_mb", ["120.0", "119"]),
    ],
)
def test_a_miss_names_the_key_and_the_numbers(budget: Budget, key: str, numbers: list[str]) -> None:
    (said,) = misses(measurement(), drop(), budget)
    assert said.startswith(f"{key} ")
    assert all(number in said for number in numbers)


def test_latency_is_judged_by_the_upper_end_of_its_interval() -> None:
    assert measurement().latency_p95_ms.value < 4.2
    assert misses(measurement(), drop(), Budget(latency_p95_ms=4.2)) != ()


def test_latency_of_too_few_texts_is_not_shown_whatever_it_measured() -> None:
    few = measurement(rows=71)
    (said,) = misses(few, drop(), Budget(latency_p95_ms=1000.0))
    assert "71 texts" in said
    assert "72" in said
    assert misses(measurement(rows=72), drop(), Budget(latency_p95_ms=1000.0)) == ()


def test_accuracy_is_judged_by_the_bound_and_the_rows_that_would_do_are_named() -> None:
    accuracy = drop(lost=3, gained=3, rows=240)
    (said,) = misses(measurement(), accuracy, Budget(max_accuracy_drop=0.015))
    assert accuracy.drop_ratio == 0.0
    assert "lost 3, gained 3 of 240 rows" in said
    needed = int(said.split("about ")[1].split(" rows")[0])
    scale = needed / 240
    assert needed > 240
    assert drop_upper_bound(round(3 * scale), round(3 * scale), needed, 0.95) <= 0.015


def test_no_number_of_rows_is_promised_where_the_measured_drop_is_over_the_limit() -> None:
    (said,) = misses(measurement(), drop(lost=40), Budget(max_accuracy_drop=0.02))
    assert "could show" not in said


def test_figures_of_another_confidence_are_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.95.*0\.99"):
        misses(measurement(), drop(), Budget(confidence=0.99))


def test_limits_are_the_keys_that_are_set() -> None:
    assert limits(Budget(size_mb=30)) == {"size_mb": 30.0, "max_accuracy_drop": 0.02}


@settings(deadline=None)
@given(st.floats(1.0, 100.0), st.floats(0.001, 0.2))
def test_a_wider_budget_is_never_missed_where_a_narrower_is_met(size: float, most: float) -> None:
    narrow = misses(measurement(), drop(2, 1), Budget(size_mb=size, max_accuracy_drop=most))
    wide = Budget(size_mb=size * 1.5, max_accuracy_drop=min(most * 1.5, 1.0))
    assert len(misses(measurement(), drop(2, 1), wide)) <= len(narrow)


def test_the_smallest_candidate_that_misses_nothing_is_chosen() -> None:
    small, middle, large = (
        candidate("small", 10, ("size_mb 3 > 2",)),
        candidate("middle", 20),
        candidate("large", 30),
    )
    assert choose([large, small, middle]) == middle


def test_nothing_is_chosen_where_every_candidate_misses_something() -> None:
    assert choose([candidate("small", 10, ("size_mb 3 > 2",))]) is None
