"""Labels on their way to the monitor, from /feedback and the ledger: late, twice, corrected."""

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from edgeloop.bundle import open_bundle
from edgeloop.ledger import FEEDBACK, LabelledRow, Ledger, open_ledger
from monitor.observer import DriftObserver
from serve.autotune import shared
from serve.labels import LabelTail, source_of
from serve.metrics import ServeMetrics
from serve.slot import Activator, Active, Slot
from tests import monitored, tiny
from tests.edge_server import serving
from tests.integration.test_serve_http import metric

WAIT_SECONDS = 20.0
AUDIT = "answers.csv"
MODEL = "tiny"


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return open_ledger(tmp_path / "home")


@pytest.fixture(scope="module")
def activator() -> Activator:
    metrics = ServeMetrics(CollectorRegistry(), MODEL)
    return Activator(DriftObserver, lambda _: None, metrics, shared(1), 64)


@pytest.fixture(scope="module")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return monitored.make_bundle(tmp_path_factory.mktemp("labelled"), rows=60).path


@pytest.fixture
def active(activator: Activator, bundle_folder: Path) -> Iterator[Active]:
    made = activator.activate(open_bundle(bundle_folder))
    yield made
    made.close()
    made.join(5.0)


def tail_of(active: Active, ledger: Ledger, feedback_counts: bool = True) -> LabelTail:
    metrics = ServeMetrics(CollectorRegistry(), MODEL)
    return LabelTail(Slot(active, metrics), ledger, metrics, feedback_counts)


def rows(count: int, first: int = 0, wrong: bool = False) -> list[LabelledRow]:
    """Texts that the tiny model answers rightly, with their labels or with others."""
    others = dict(zip(tiny.LABELS, (*tiny.LABELS[1:], tiny.LABELS[0]), strict=True))
    return [
        LabelledRow(f"r{first + i}", text, others[label] if wrong else label)
        for i, (text, label) in enumerate(tiny.sentences(count, seed=first))
    ]


def look(tail: LabelTail, active: Active) -> Any:
    """Look once, and wait for the monitor; what it says of the accuracy."""
    asyncio.run(tail.look())
    end = time.monotonic() + WAIT_SECONDS
    while active.feed.pending() and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.05)
    return active.feed.observer.status().accuracy


def test_labels_that_were_there_before_the_bundle_are_left_alone(
    active: Active, ledger: Ledger
) -> None:
    ledger.add_labels(MODEL, rows(5, wrong=True), AUDIT)
    tail = tail_of(active, ledger)
    assert look(tail, active).labels == 0
    ledger.add_labels(MODEL, rows(4, first=100), AUDIT)
    accuracy = look(tail, active)
    assert (accuracy.labels, accuracy.label_position, accuracy.audit_rows) == (4, 9, 4)
    assert accuracy.labelled.estimate == 1.0
    assert look(tail, active).labels == 4


def test_the_bundle_is_asked_what_it_says_of_the_row(active: Active, ledger: Ledger) -> None:
    tail = tail_of(active, ledger)
    look(tail, active)
    ledger.add_labels(MODEL, [*rows(6, 10), *rows(2, 50, wrong=True)], AUDIT)
    assert look(tail, active).labelled.estimate == 0.75
    ledger.add_labels(MODEL, [LabelledRow("new", "my gas bottle", "gas")], AUDIT)
    accuracy = look(tail, active)
    assert accuracy.labelled.estimate == pytest.approx(6 / 9), "an unknown class is a wrong answer"


def test_a_correction_counts_once_and_a_label_from_before_is_not_reopened(
    active: Active, ledger: Ledger
) -> None:
    ledger.add_labels(MODEL, rows(1, 90), AUDIT)
    tail = tail_of(active, ledger)
    look(tail, active)
    ledger.add_labels(MODEL, rows(3, 10), AUDIT)
    ledger.add_labels(MODEL, rows(3, 10), AUDIT)
    ledger.add_labels(MODEL, rows(1, 10, wrong=True), AUDIT)
    ledger.add_labels(MODEL, rows(1, 90, wrong=True), AUDIT)
    accuracy = look(tail, active)
    assert (accuracy.labels, accuracy.corrections, accuracy.late_corrections) == (3, 1, 1)
    assert accuracy.labelled.estimate == pytest.approx(2 / 3)


def test_a_restored_monitor_goes_on_behind_the_last_label_it_took(
    activator: Activator, active: Active, ledger: Ledger
) -> None:
    tail = tail_of(active, ledger)
    look(tail, active)
    ledger.add_labels(MODEL, rows(3, 10), AUDIT)
    look(tail, active)
    ledger.add_labels(MODEL, rows(2, 30), AUDIT)
    again = activator.activate(active.bundle)
    again.feed.observer.restore(active.feed.observer.state())
    assert look(tail_of(again, ledger), again).labels == 5
    again.close()
    again.join(5.0)


def test_feedback_does_not_count_where_people_send_corrections_only(
    active: Active, ledger: Ledger
) -> None:
    tail = tail_of(active, ledger, feedback_counts=False)
    look(tail, active)
    ledger.add_labels(MODEL, rows(3, 10, wrong=True), FEEDBACK)
    ledger.add_labels(MODEL, rows(2, 30), AUDIT)
    accuracy = look(tail, active)
    assert (accuracy.labels, accuracy.label_position) == (2, 5)


def test_a_ledger_that_is_away_costs_nothing_but_time(
    active: Active, ledger: Ledger, tmp_path: Path
) -> None:
    tail = tail_of(active, ledger)
    look(tail, active)
    ledger.add_labels(MODEL, rows(2, 10), AUDIT)
    database = tmp_path / "home" / "ledger.db"
    rename(database, "labels", "away")
    assert look(tail, active).labels == 0
    rename(database, "away", "labels")
    assert look(tail, active).labels == 2


def rename(database: Path, old: str, new: str) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(f"ALTER TABLE {old} RENAME TO {new}")


@pytest.mark.parametrize(
    ("row", "source"),
    [
        (LabelledRow("a", "t", "l", AUDIT), "audit"),
        (LabelledRow("a", "t", "l", FEEDBACK), "feedback"),
        (LabelledRow("a", "t", "l", FEEDBACK, 0.01, "uniform"), "captured"),
        (LabelledRow("a", "t", "l", FEEDBACK, 0.2, "both"), "captured"),
        (LabelledRow("a", "t", "l", FEEDBACK, 0.2), "captured"),
        (LabelledRow("a", "t", "l", FEEDBACK, 0.2, "low_confidence"), "captured_unsure"),
    ],
)
def test_how_a_row_came_to_be_labelled(row: LabelledRow, source: str) -> None:
    assert source_of(row) == source


@pytest.mark.parametrize(("feedback_counts", "counted"), [(True, 5), (False, 4)])
def test_a_running_server_counts_labels_of_both_ways(
    feedback_counts: bool, counted: int, tmp_path: Path
) -> None:
    bundle = tiny.make_bundle(tmp_path / "bundle")
    home = tmp_path / "home"
    with (
        serving(bundle=bundle.path, home=home, feedback_counts=feedback_counts) as server,
        httpx.Client(base_url=server.url, timeout=20) as http,
    ):
        wait_for_labels(http, 0)
        time.sleep(0.3)
        row = {"id": "f1", "text": "my pump is late", "label": "repair"}
        captured = {**row, "id": "f2", "inclusion_probability": 0.01, "rule": "uniform"}
        for body in (row, captured):
            assert http.post("/feedback", json=body).json() == {"stored": 1}
        open_ledger(home).add_labels(MODEL, rows(3, 10), AUDIT)
        wait_for_labels(http, counted)
        assert metric(http, "edgeloop_labels_total", source="feedback") == 2
        assert metric(http, "edgeloop_labels_total", source="audit") == 3
        assert http.get("/drift").json()["observations"] == 0
    (plain, drawn, *_), _ = open_ledger(home).labels(MODEL)
    assert (plain.inclusion_probability, plain.rule) == (None, None)
    assert (drawn.inclusion_probability, drawn.rule) == (0.01, "uniform")


def wait_for_labels(http: httpx.Client, count: int) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while http.get("/drift").json()["accuracy"]["labels"] < count:
        assert time.monotonic() < end
        time.sleep(0.05)
