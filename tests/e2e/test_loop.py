"""The loop through the command line: the example with a smaller recipe, drift, alarm, retraining
and swap included. Real weights, real rows, a real server on loopback.
"""

import csv
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "support_tickets"
RECIPE = str(EXAMPLE / "recipe.yaml")
SMALLER = [
    "--set",
    "finetune.training.num_train_epochs=4",
    "--set",
    "finetune.lora.r=8",
    "--set",
    "finetune.retention.max_drop=0.05",  # as retrain.golden_margin
    "--set",
    "compress.budget.latency_p95_ms=1000",  # the machine that runs the tests may be busy
]
NAME = "support-tickets"


def edgeloop(*words: str, code: int = 0) -> str:
    """Run one command; fail with what it said where it ends otherwise."""
    done = subprocess.run(
        [sys.executable, "-m", "edgeloop", *words], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def edgeloop_json(*words: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(edgeloop(*words, "--json"))
    return document


@contextmanager
def serving(log: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "edgeloop", "serve", "--follow", NAME, "--port", str(port)]
    with log.open("w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, cwd=ROOT)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: answers(url), 60, log)
            yield url
        finally:
            process.terminate()
            assert process.wait(timeout=30) == 0, log.read_text()


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False


def wait_until(condition: Any, seconds: float, log: Path) -> None:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, log.read_text()
        time.sleep(0.1)


class Customer(threading.Thread):
    """Keeps asking; remembers every answer that was not one."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url, self.sent, self.failures = url, 0, []  # type: ignore[var-annotated]
        self.bundles: set[str] = set()
        self.stop = threading.Event()

    def run(self) -> None:
        with httpx.Client() as client:
            while not self.stop.wait(0.02):
                self.sent += 1
                try:
                    answer = client.post(
                        f"{self.url}/predict", json={"inputs": "where is my order"}
                    )
                except httpx.TransportError as problem:
                    self.failures.append(repr(problem))
                    continue
                self.bundles.add(answer.headers["x-edgeloop-bundle"])
                if answer.status_code != 200:
                    self.failures.append(answer.text)


def unseen_rows(given_away: set[str], out: Path) -> Path:
    """The shifted rows whose labels nobody gave away."""
    with (EXAMPLE / "data" / "shifted.csv").open(newline="", encoding="utf-8") as source:
        rows = list(csv.DictReader(source))
    with out.open("w", newline="", encoding="utf-8") as target:
        writer = csv.DictWriter(target, rows[0].keys())
        writer.writeheader()
        writer.writerows(row for row in rows if row["id"] not in given_away)
    return out


@pytest.mark.timeout(900)
def test_loop_closes_from_rows_to_a_promoted_model(tmp_path: Path) -> None:
    run = edgeloop_json("run", RECIPE, *SMALLER)
    first = run["deployed"]
    assert first == run["bundle"]["digest"]
    assert run["certificate"]["chosen"] == "onnx-int8"
    assert run["reference"]["armed"]
    assert run["merged"]["parity"]["max_abs_difference"] <= 1e-4

    again = edgeloop_json("run", RECIPE, *SMALLER)
    assert again["bundle"] == run["bundle"], "a complete run is not done twice"

    with serving(tmp_path / "server.log") as url:
        ordinary = edgeloop_json("monitor", "replay", f"{EXAMPLE}/data/test.csv", "--url", url)
        assert ordinary["failed"] == 0
        assert ordinary["accuracy"] > 0.8
        assert ordinary["verdict"] is None, "ordinary traffic must not alarm"

        waiting = edgeloop_json("retrain", RECIPE, *SMALLER)
        assert waiting["decision"]["action"] == "wait"

        shifted = edgeloop_json(
            "monitor", "replay", f"{EXAMPLE}/data/shifted.csv", "--url", url, "--stop-at-alarm"
        )
        assert shifted["verdict"] is not None
        assert shifted["requests_until_alarm"] <= 150

        asking = edgeloop_json("retrain", RECIPE, *SMALLER)
        assert asking["decision"]["action"] == "label"

        labelled = edgeloop_json(
            "label", RECIPE, *SMALLER, "--answers", f"{EXAMPLE}/data/shifted.csv"
        )
        assert labelled["added"] == 240
        explained = edgeloop_json("retrain", RECIPE, *SMALLER, "--explain")
        assert explained["decision"]["action"] == "retrain"

        customer = Customer(url)
        customer.start()
        retrained = edgeloop_json("retrain", RECIPE, *SMALLER)
        second = retrained["deployed"]
        history = edgeloop_json("history", NAME)
        retraining = Path(history["runs"][-1]["path"])
        record = json.loads((retraining / "reference" / "record.json").read_text())
        assert record["armed"], "the new model's drift alarm is on as well"
        wait_until(
            lambda: httpx.get(f"{url}/info").json()["bundle_digest"] == second,
            60,
            tmp_path / "server.log",
        )
        time.sleep(0.3)
        customer.stop.set()
        customer.join()
        assert customer.failures == []
        assert customer.bundles == {first, second}

        unseen = unseen_rows(set(labelled["ids"]), tmp_path / "unseen.csv")
        after = edgeloop_json("monitor", "replay", str(unseen), "--url", url)
        assert after["accuracy"] > 0.6, "the new model knows the new topics"

        done = edgeloop_json("retrain", RECIPE, *SMALLER)
        assert done["decision"]["action"] in ("wait", "label"), "the same labels never train twice"

        rolled = edgeloop_json("rollback", NAME)
        assert rolled["deployed"] == first
        wait_until(
            lambda: httpx.get(f"{url}/info").json()["bundle_digest"] == first,
            60,
            tmp_path / "server.log",
        )

    history = edgeloop_json("history", NAME)
    assert [d["bundle_digest"] for d in history["deployments"]] == [first, second, first]
    out = tmp_path / "report.html"
    edgeloop("report", NAME, "--out", str(out))
    page = out.read_text(encoding="utf-8")
    assert "onnx-int8" in page
    assert "Alarm at request" in page
    assert not re.search(r"""(src|href)=["']?https?:|url\(["']?https?:|@import""", page)


def test_infeasible_budget_ends_with_3_and_the_numbers(tmp_path: Path) -> None:
    out = edgeloop(
        "run",
        RECIPE,
        *SMALLER,
        "--set",
        "finetune.training.num_train_epochs=1",
        "--set",
        "compress.budget.size_mb=1",
        code=3,
    )
    assert "INFEASIBLE" in out
    assert "size_mb" in out
    home = Path(os.environ["EDGELOOP_HOME"])
    assert not list(home.glob("runs/*/bundle"))
