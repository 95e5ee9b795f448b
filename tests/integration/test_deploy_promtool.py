"""Prometheus' own tools read the rules, the configuration and the board's expressions.

Debian: apt-get install --no-install-recommends prometheus prometheus-alertmanager
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deployed import DEPLOY, expressions

PROMETHEUS = DEPLOY / "prometheus"
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
    _assert_ok(_run("promtool", "check", "rules", PROMETHEUS / "rules.yml"))
    _assert_ok(_run("promtool", "check", "config", PROMETHEUS / "prometheus.yml"))


@needs_promtool
def test_alerts_fire_and_stay_silent_as_their_tests_say() -> None:
    _assert_ok(_run("promtool", "test", "rules", PROMETHEUS / "rules_test.yml"))


@needs_promtool
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (">= 1\n", ">= 2\n"),
        (">= 1\n", ">= 0\n"),
        ("expr: max by (instance, model)", "expr: max by (model)"),
        ("or max by (instance, model) (edgeloop_drift_armed) == 0", ""),
        ("keep_firing_for: 30m", "keep_firing_for: 20m"),
        ("unless on (instance, model)", "unless on (model)"),
        ("or absent(edgeloop_drift_observations_total)", ""),
    ],
)
def test_the_rules_tests_notice_a_wrong_rule(right: str, wrong: str, tmp_path: Path) -> None:
    rules = (PROMETHEUS / "rules.yml").read_text(encoding="utf-8")
    assert right in rules
    (tmp_path / "rules.yml").write_text(rules.replace(right, wrong), encoding="utf-8")
    shutil.copy(PROMETHEUS / "rules_test.yml", tmp_path)
    _assert_ok(_run("promtool", "check", "rules", tmp_path / "rules.yml"))
    assert _run("promtool", "test", "rules", tmp_path / "rules_test.yml").returncode != 0


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
