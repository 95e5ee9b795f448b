"""A real Prometheus scrapes a real server, evaluates our rules, and a real Alertmanager tells a
webhook. The tests run in their order: boards before the drift, the drift before the swap.
"""

import math
import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_text

from edgeloop.bundle import Bundle
from edgeloop.ledger import LabelledRow, Ledger, open_ledger
from tests import monitored, tiny
from tests.altered import rewrite_manifest
from tests.deployed import board_expressions, expressions, recorded, rules
from tests.monitoring_stack import ALERTMANAGER, PROMETHEUS, Stack, running, wait_for

pytestmark = pytest.mark.skipif(
    PROMETHEUS is None or ALERTMANAGER is None,
    reason="Prometheus or Alertmanager is not installed (Debian: prometheus, "
    "prometheus-alertmanager)",
)

MODEL = "tiny"
SHIFTED = ["gas cylinder my bottle please swap", "the gas bottle is empty", "swap my cylinder now"]
# Prometheus adds it to every series.
TARGET_LABELS = {"instance", "job"}
RULE_LABELS = {"alertname", "alertstate", "severity"}
TEXT_SECONDS = 0.25
LABELLED_ROWS = 120


@dataclass(frozen=True)
class Served:
    """The stack, and the ledger that its server follows."""

    stack: Stack
    ledger: Ledger
    second: Bundle


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("stack")
    first = monitored.make_bundle(folder)
    shutil.copytree(first.path, folder / "second")
    second = rewrite_manifest(Bundle(folder / "second", first.manifest, first.digest), name=MODEL)
    second = rewrite_manifest(second, candidate="another")
    ledger = open_ledger(folder / "home")
    ledger.promote(MODEL, first.digest, first.path, "test")
    with running(folder, MODEL, folder / "home") as stack, _ordinary_traffic(stack):
        # After the server's start: what was there before the bundle says nothing about it.
        ledger.add_labels(MODEL, _labelled(), "answers.csv")
        yield Served(stack, ledger, second)


def _labelled() -> list[LabelledRow]:
    """What people would say of texts like the reference's: the model is right."""
    found = enumerate(tiny.sentences(LABELLED_ROWS, seed=78))
    return [LabelledRow(f"label-{n}", text, label) for n, (text, label) in found]


class _ordinary_traffic:
    """Few texts, all the time: rates are rates, and no detector is tempted."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send)

    def _send(self) -> None:
        for text, _ in tiny.sentences(1_000, seed=77):
            self._stack.predict([text])
            if self._over.wait(TEXT_SECONDS):
                return

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def _filled(expr: str) -> str:
    """An expression as Grafana sends it."""
    return expr.replace("$__rate_interval", "15s").replace("$model", MODEL)


def _has_data(stack: Stack, expr: str) -> bool:
    values = [float(sample["value"][1]) for sample in stack.query(_filled(expr))]
    return any(not math.isnan(value) for value in values)


def _metrics(expr: str) -> set[str]:
    return set(re.findall(r"(?<![\w:])edgeloop_\w+(?![\w:])", expr))


@pytest.fixture(scope="module")
def exported(served: Served) -> dict[str, set[str]]:
    """Name -> labels of every series at the server's /metrics."""
    labels: dict[str, set[str]] = {}
    for family in parse_text(httpx.get(f"{served.stack.server}/metrics").text):
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    return labels


def test_every_metric_in_the_boards_and_rules_exists(exported: dict[str, set[str]]) -> None:
    used = {name for expr in expressions() for name in _metrics(expr)}
    assert used
    assert sorted(used - exported.keys()) == []


def test_expressions_select_and_group_by_labels_that_their_metrics_have(
    exported: dict[str, set[str]],
) -> None:
    for expr in expressions():
        for name, selector in re.findall(r"(?<![\w:])(edgeloop_\w+){([^}]*)}", expr):
            selected = set(re.findall(r"(\w+)!?=~?\"", selector))
            assert selected <= exported[name] | TARGET_LABELS, expr
        groups = re.findall(r"(?:by|on|ignoring|group_left) \(([^)]*)\)", expr)
        labels = {label.strip() for group in groups for label in group.split(",")} - {""}
        known = {label for name in _metrics(expr) for label in exported[name]}
        if any(record in expr for record in recorded()):
            known |= {"model", "feature", "bin", "class"}
        assert labels <= known | TARGET_LABELS | RULE_LABELS, expr


def test_every_rule_is_evaluated_without_an_error(served: Served) -> None:
    def groups() -> list[dict[str, Any]]:
        answer = httpx.get(f"{served.stack.prometheus}/api/v1/rules").json()
        found: list[dict[str, Any]] = answer["data"]["groups"]
        return found

    def evaluated() -> list[dict[str, Any]]:
        return [r for group in groups() for r in group["rules"] if r["health"] != "unknown"]

    expected = len(rules("rules.yml")) + len(rules("recording.yml"))
    wait_for("every rule is evaluated", lambda: len(evaluated()) == expected)
    assert [(r["name"], r.get("lastError")) for r in evaluated() if r["health"] != "ok"] == []


def test_every_expression_of_the_boards_returns_data(served: Served) -> None:
    stack = served.stack
    missing = sorted(set(board_expressions()))

    def is_complete() -> bool:
        missing[:] = [expr for expr in missing if not _has_data(stack, expr)]
        return not missing

    try:
        wait_for("every expression returns data", is_complete, seconds=15)
    except AssertionError:
        raise AssertionError("no data:\n" + "\n".join(missing)) from None


def test_the_ledger_is_shown_by_the_server_that_follows_it(served: Served) -> None:
    (sample,) = served.stack.query("edgeloop_promotions_total")
    assert float(sample["value"][1]) == 1.0


def test_ordinary_traffic_alerts_nobody(served: Served) -> None:
    assert served.stack.query('ALERTS{alertstate="firing"}') == []
    assert served.stack.webhook.alerts == []


def test_drift_reaches_the_webhook_and_is_over_after_the_swap(served: Served) -> None:
    stack, webhook = served.stack, served.stack.webhook

    def has_fired() -> bool:
        if not stack.query("edgeloop_drift_alarmed == 1"):
            stack.predict(SHIFTED * 10)
        return bool(webhook.got("DriftSuspected", "firing"))

    wait_for("the alert reaches the webhook", has_fired)
    assert set(webhook.got("DriftSuspected", "firing")) == {"tickets"}
    served.ledger.promote(MODEL, served.second.digest, served.second.path, "test")
    wait_for("the alert is over", lambda: webhook.got("DriftSuspected", "resolved"))
    assert set(webhook.got("DriftSuspected", "resolved")) == {"tickets"}
    # It fired, and was sent to nobody.
    assert stack.query('max_over_time(ALERTS{alertname="LoopAtWork", alertstate="firing"}[1m])')
    assert {name for _, alert in webhook.alerts for name in [alert["labels"]["alertname"]]} <= {
        "DriftSuspected",
        "PredictionMixShift",
    }
    (swaps,) = stack.query('edgeloop_swaps_total{reason="ok"}')
    assert float(swaps["value"][1]) == 1.0


def _post(stack: Stack, *alerts: tuple[str, str]) -> None:
    """Alerts as Prometheus would send them: (name, instance), "" for one without an instance."""
    now = datetime.now(UTC)
    body = [
        {
            "labels": {"alertname": name, "model": "other", "severity": "ticket"}
            | ({"instance": instance} if instance else {}),
            "startsAt": now.isoformat(),
            "endsAt": (now + timedelta(minutes=5)).isoformat(),
        }
        for name, instance in alerts
    ]
    answer = httpx.post(f"{stack.alertmanager}/api/v2/alerts", json=body)
    assert answer.status_code == 200, answer.text


def _suppressed(stack: Stack) -> set[tuple[str, str]]:
    found = httpx.get(f"{stack.alertmanager}/api/v2/alerts").json()
    return {
        (alert["labels"]["alertname"], alert["labels"].get("instance", ""))
        for alert in found
        if alert["labels"]["model"] == "other" and alert["status"]["inhibitedBy"]
    }


def test_one_cause_gives_one_message(served: Served) -> None:
    stack = served.stack
    _post(stack, ("RuntimeChanged", "box-1"), ("CalibrationDegraded", "box-1"))
    _post(stack, ("CalibrationDegraded", "box-2"), ("RequestErrors", ""))
    kept = {("CalibrationDegraded", "box-1")}
    wait_for("a changed machine explains its own drift", lambda: _suppressed(stack) == kept)
    _post(stack, ("DriftSuspected", "box-2"), ("PredictionMixShift", ""))
    kept |= {("PredictionMixShift", "")}
    wait_for("a suspicion says it already", lambda: _suppressed(stack) == kept)
    _post(stack, ("DriftHarmful", "box-3"))
    kept |= {("DriftSuspected", "box-2"), ("CalibrationDegraded", "box-2")}
    wait_for("harm says all of it, on every box", lambda: _suppressed(stack) == kept)
    _post(stack, ("LoopAtWork", ""), ("RetrainStale", ""), ("RetrainStuck", ""))
    kept |= {("RetrainStale", "")}
    wait_for("a training explains that none was decided", lambda: _suppressed(stack) == kept)
