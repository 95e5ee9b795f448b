"""The ledger's numbers as metrics of the server."""

import asyncio
import logging
import sqlite3
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from edgeloop.errors import LedgerError
from edgeloop.ledger import FEEDBACK, LabelledRow, Ledger, open_ledger
from edgeloop.naming import LABELS, NAMESPACE
from serve.ledger_metrics import LedgerMetrics


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def ledger(home: Path) -> Ledger:
    return open_ledger(home)


def label(ledger: Ledger, *names: str) -> None:
    ledger.add_labels("tiny", [LabelledRow(name, name, "billing") for name in names], FEEDBACK)


def registered(metrics: LedgerMetrics) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(metrics)
    return registry


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"edgeloop_{name}", {"model": "tiny", **labels})


def damage(home: Path) -> None:
    """What a hand in the database would do."""
    connection = sqlite3.connect(home / "ledger.db")
    with connection:
        connection.execute("ALTER TABLE labels RENAME TO gone")
    connection.close()


def test_names_and_labels_are_those_agreed_and_all_start_at_zero(ledger: Ledger) -> None:
    families = list(LedgerMetrics(ledger, "tiny").collect())
    assert len({family.name for family in families}) == len(families)
    for family in families:
        assert family.name.startswith(f"{NAMESPACE}_")
        assert family.samples, family.name
        for sample in family.samples:
            assert set(sample.labels) <= LABELS
            assert sample.labels["model"] == "tiny"
            assert sample.value == (1.0 if family.name == "edgeloop_ledger_readable" else 0.0)


def test_the_counts_of_the_ledger_are_there_before_the_first_scrape(ledger: Ledger) -> None:
    label(ledger, "a", "b")
    ledger.promote("tiny", "d" * 64, Path("x"), "test")
    registry = registered(LedgerMetrics(ledger, "tiny"))
    assert value(registry, "retrain_labels_total", source="feedback") == 2.0
    assert value(registry, "promotions_total") == 1.0
    assert (value(registry, "retrain_last_success_timestamp_seconds") or 0.0) > 1.7e9
    assert value(registry, "retrain_runs_total", trigger="run", result="promoted") == 0.0


def test_two_servers_of_one_ledger_show_the_same(ledger: Ledger) -> None:
    label(ledger, "a", "b", "c")
    one, other = (registered(LedgerMetrics(ledger, "tiny")) for _ in range(2))
    for registry in (one, other):
        assert value(registry, "retrain_labels_total", source="feedback") == 3.0


def test_what_is_scraped_changes_with_the_next_look_and_not_with_the_scrape(
    ledger: Ledger,
) -> None:
    metrics = LedgerMetrics(ledger, "tiny")
    registry = registered(metrics)
    label(ledger, "a")
    assert value(registry, "retrain_labels_total", source="feedback") == 0.0
    metrics.read()
    assert value(registry, "retrain_labels_total", source="feedback") == 1.0


def test_a_ledger_that_cannot_be_read_keeps_what_was_read_and_says_so_once(
    ledger: Ledger, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    label(ledger, "a")
    metrics = LedgerMetrics(ledger, "tiny")
    registry = registered(metrics)
    damage(home)
    with caplog.at_level(logging.ERROR):
        metrics.read()
        metrics.read()
    assert caplog.text.count("event=ledger_metrics_stale") == 1
    assert value(registry, "retrain_labels_total", source="feedback") == 1.0
    assert value(registry, "ledger_readable") == 0.0


def test_a_ledger_that_cannot_be_read_at_first_is_an_error(ledger: Ledger, home: Path) -> None:
    damage(home)
    with pytest.raises(LedgerError):
        LedgerMetrics(ledger, "tiny")


def test_it_looks_again_and_again_until_cancelled(ledger: Ledger) -> None:
    metrics = LedgerMetrics(ledger, "tiny")
    registry = registered(metrics)

    async def until_seen() -> None:
        task = asyncio.create_task(metrics.run(seconds=0.01))
        for name in ("a", "b"):
            label(ledger, name)
            seen = 1.0 if name == "a" else 2.0
            while value(registry, "retrain_labels_total", source="feedback") != seen:
                await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(asyncio.wait_for(until_seen(), 20))
