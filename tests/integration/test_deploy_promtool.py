"""Prometheus' own tools read the rules, the configuration and the board's expressions.

Debian: apt-get install --no-install-recommends prometheus prometheus-alertmanager
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deployed import DEPLOY, expressions, rules

PROMETHEUS = DEPLOY / "prometheus"
RULES = ("rules.yml", "recording.yml")
TESTS = sorted(path.name for path in PROMETHEUS.glob("*_test.yml"))
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)"
)
needs_amtool = pytest.mark.skipif(
    shutil.which("amtool") is None,
    reason="amtool is not installed (Debian: prometheus-alertmanager)",
)


def _run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


def _assert_ok(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_rules_and_scrape_configuration_are_valid() -> None:
    for name in RULES:
        _assert_ok(_run("promtool", "check", "rules", PROMETHEUS / name))
    _assert_ok(_run("promtool", "check", "config", PROMETHEUS / "prometheus.yml"))


@needs_promtool
@pytest.mark.parametrize("name", TESTS)
def test_rules_record_and_alert_as_their_tests_say(name: str) -> None:
    _assert_ok(_run("promtool", "test", "rules", PROMETHEUS / name))


def test_every_alert_fires_in_one_of_the_tests() -> None:
    told = "".join((PROMETHEUS / name).read_text(encoding="utf-8") for name in TESTS)
    for rule in rules("rules.yml"):
        name = rule["alert"]
        fires = rf'alertname="{name}", alertstate="firing", severity|alertname: {name}\n +exp_al'
        assert re.search(fires, told), name


@needs_promtool
@pytest.mark.parametrize(
    ("file", "test", "right", "wrong"),
    [
        (
            "rules.yml",
            "rules",
            "(edgeloop_drift_alarmed) >= 1\n",
            "(edgeloop_drift_alarmed) >= 2\n",
        ),
        (
            "rules.yml",
            "rules",
            "(edgeloop_drift_alarmed) >= 1\n",
            "(edgeloop_drift_alarmed) >= 0\n",
        ),
        ("rules.yml", "rules", "expr: max by (instance, model)", "expr: max by (model)"),
        ("rules.yml", "rules", "or max by (instance, model) (edgeloop_drift_armed) == 0", ""),
        ("rules.yml", "rules", "keep_firing_for: 30m", "keep_firing_for: 20m"),
        ("rules.yml", "rules", "unless on (instance, model)", "unless on (model)"),
        ("rules.yml", "rules", "or absent(edgeloop_drift_observations_total)", ""),
        ("rules.yml", "drift", '{method="anchored"} > 0', '{method="anchored"}'),
        ("rules.yml", "drift", '{bound="upper"} > 0', '{bound="lower"} > 0'),
        ("rules.yml", "drift", "threshold_ratio6h > 2", "threshold_ratio6h > 1"),
        ("rules.yml", "serving", 'reason!="asked"', 'reason!=""'),
        ("rules.yml", "retraining", "max by (model, result)", "sum by (model, result)"),
        ("recording.yml", "recording", "unless on (model)", "or on (model)"),
        ("recording.yml", "recording", "+ 0.5)\n          /", "+ 1)\n          /"),
        ("recording.yml", "recording", "1 / max by (model)", "2 / max by (model)"),
    ],
)
def test_the_rules_tests_notice_a_wrong_rule(
    file: str, test: str, right: str, wrong: str, tmp_path: Path
) -> None:
    for name in RULES:
        shutil.copy(PROMETHEUS / name, tmp_path)
    text = (PROMETHEUS / file).read_text(encoding="utf-8")
    assert right in text
    (tmp_path / file).write_text(text.replace(right, wrong), encoding="utf-8")
    shutil.copy(PROMETHEUS / f"{test}_test.yml", tmp_path)
    _assert_ok(_run("promtool", "check", "rules", tmp_path / file))
    assert _run("promtool", "test", "rules", tmp_path / f"{test}_test.yml").returncode != 0


@needs_promtool
def test_every_expression_of_the_board_and_the_rules_parses(tmp_path: Path) -> None:
    # Grafana fills its variables in before Prometheus sees the expression.
    exprs = [re.sub(r"\$__\w*interval", "5m", expr) for expr in expressions()]
    rules = [{"record": f"expression_{n}", "expr": expr} for n, expr in enumerate(exprs)]
    file = tmp_path / "expressions.json"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "board", "rules": rules}]}), encoding="utf-8")
    done = _run("promtool", "check", "rules", file)
    _assert_ok(done)
    assert f"{len(rules)} rules found" in done.stdout


@needs_amtool
def test_alertmanager_configuration_is_valid() -> None:
    _assert_ok(_run("amtool", "check-config", DEPLOY / "alertmanager" / "alertmanager.yml"))


@needs_amtool
@pytest.mark.parametrize(
    ("severity", "receiver"), [("page", "pager"), ("ticket", "tickets"), ("none", "nobody")]
)
def test_alertmanager_sends_each_severity_to_its_receiver(severity: str, receiver: str) -> None:
    file = DEPLOY / "alertmanager" / "alertmanager.yml"
    labels = ("alertname=X", "model=tickets", f"severity={severity}")
    done = _run("amtool", "config", "routes", "test", f"--config.file={file}", *labels)
    _assert_ok(done)
    assert done.stdout.strip() == receiver
