"""Retraining through the command line with a tiny model: decided, gated, promoted exactly once,
also when the job is killed on the way.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeloop.ledger import LabelledRow, Ledger, open_ledger, utc_now
from edgeloop.records import Verdict
from tests import tiny

OPTIONS = [
    *("--set", "retrain.labels_per_round=100"),
    *("--set", "retrain.golden_margin=0.3"),
    *("--set", "finetune.retention.max_drop=1.0"),  # here it is the other gate's turn
    *("--set", "finetune.training.num_train_epochs=25"),
    *("--set", "finetune.training.early_stopping_patience=25"),
]


def edgeloop(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgeloop", *words], capture_output=True, text=True, timeout=300
    )


def edgeloop_json(*words: str) -> dict[str, Any]:
    done = edgeloop(*words, "--json")
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def ledger() -> Ledger:
    return open_ledger(Path(os.environ["EDGELOOP_HOME"]))


def alarm(digest: str) -> Verdict:
    return Verdict(
        model="tiny",
        bundle_digest=digest,
        at=utc_now(),
        observation=40,
        detector="e-process-mixture",
        log_evidence=9.0,
        threshold=7.0,
        parts={"novelty": 9.0},
        target_run_length=20_000,
        words=(),
        classes=(),
    )


def labelled(count: int) -> list[LabelledRow]:
    """New traffic: half of it of a class that the first model does not know."""
    rng = np.random.default_rng(5)
    rows = []
    for i, (text, label) in enumerate(tiny.sentences(count // 2, seed=6)):
        rows.append(LabelledRow(f"old-{i}", f"now {text}", label))
        words = rng.choice(tiny.FILLER, size=7)
        rows.append(LabelledRow(f"new-{i}", " ".join(map(str, words)), "chat"))
    return rows


def drifted(recipe: Path) -> str:
    """Run, alarm, label: all that a retraining needs. Returns the champion's digest."""
    champion = str(edgeloop_json("run", str(recipe), *OPTIONS)["deployed"])
    book = ledger()
    book.add_verdict(alarm(champion))
    book.add_labels("tiny", labelled(140), "test")
    return champion


def test_decides_trains_gates_promotes_and_never_twice(recipe: Path) -> None:
    champion = drifted(recipe)
    done = edgeloop_json("retrain", str(recipe), *OPTIONS)
    assert done["decision"]["action"] == "retrain"
    assert done["gate"]["promoted"], done["gate"]["reasons"]
    again = edgeloop_json("retrain", str(recipe), *OPTIONS)
    assert again["decision"]["action"] == "wait"
    assert [d.bundle_digest for d in ledger().deployments("tiny")] == [champion, done["deployed"]]
    results = [(run.trigger, run.result) for run in ledger().runs("tiny")]
    assert results == [("edgeloop run", "built"), ("edgeloop retrain", "promoted")]


def test_a_refused_challenger_ends_with_3_and_its_rows_are_not_trained_again(
    recipe: Path,
) -> None:
    champion = drifted(recipe)
    strict = [*OPTIONS, "--set", "finetune.training.learning_rate=1e-12"]  # learns nothing
    refused = edgeloop("retrain", str(recipe), *strict, "--json")
    assert refused.returncode == 3, refused.stderr
    gate = json.loads(refused.stdout)["gate"]
    assert not gate["promoted"]
    assert any("FAILED" in reason and "golden" in reason for reason in gate["reasons"])
    deployed = ledger().deployed("tiny")
    assert deployed is not None
    assert deployed.bundle_digest == champion
    again = edgeloop_json("retrain", str(recipe), *strict)
    assert again["decision"]["action"] != "retrain"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("stage", ["adapter", "candidates", "bundle"])
def test_a_killed_retraining_is_promoted_once_by_the_next_one(recipe: Path, stage: str) -> None:
    champion = drifted(recipe)
    home = Path(os.environ["EDGELOOP_HOME"])
    before = set(home.glob("runs/*"))
    killed = subprocess.Popen(
        [sys.executable, "-m", "edgeloop", "retrain", str(recipe), *OPTIONS],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    started = time.monotonic()
    while not any(
        (run / name).exists()
        for run in set(home.glob("runs/*")) - before
        for name in (stage, f".work-{stage}")
    ):
        assert killed.poll() is None
        assert time.monotonic() - started < 120
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert len(ledger().deployments("tiny")) == 1, "nothing half-promoted"
    done = edgeloop_json("retrain", str(recipe), *OPTIONS)
    assert done["deployed"] != champion
    assert [d.bundle_digest for d in ledger().deployments("tiny")] == [champion, done["deployed"]]
