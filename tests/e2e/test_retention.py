"""A run that forgets what the deployed model knew ends with exit code 3 and says what was lost."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeloop.ledger import Ledger, open_ledger
from edgeloop.rows import Row
from tests import retained, tiny


def edgeloop(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgeloop", *words], capture_output=True, text=True, timeout=300
    )


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A ledger with a deployed model that knows all of tiny.LABELS."""
    golden = [Row(f"g{i}", t, (label,)) for i, (t, label) in enumerate(tiny.sentences(90, 31))]
    trained = [Row(f"t{i}", t, (label,)) for i, (t, label) in enumerate(tiny.sentences(240, 32))]
    bundle = retained.make_previous(tmp_path / "old-run", golden, trained)
    found = open_ledger(Path(os.environ["EDGELOOP_HOME"]))
    found.promote("tiny", bundle.digest, bundle.path, "test")
    return found


@pytest.fixture
def narrow(recipe: Path) -> Path:
    """The recipe over rows of one old class and a new one."""
    rng = np.random.default_rng(33)
    rows = [(tiny.sentence(rng, "billing"), "billing") for _ in range(80)]
    rows += [(f"{i} {' '.join(rng.choice(tiny.FILLER, 7))}", "chat") for i in range(80)]
    with (recipe.parent / "rows.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("text", "label"), *rows])
    return recipe


def test_a_run_that_forgets_ends_with_3_and_ships_nothing(narrow: Path, ledger: Ledger) -> None:
    done = edgeloop("run", str(narrow))
    assert done.returncode == 3, done.stderr
    assert "warning: retention: FAILED: on 90 rows the accuracy goes from 1.000" in done.stderr
    assert "retention  FORGOTTEN" in done.stdout
    assert "forgotten: delivery (1.00 to 0.00" in done.stdout
    assert "candidates" not in done.stderr
    (entry,) = ledger.runs("tiny")
    assert entry.result == "forgotten"
    assert not list(Path(entry.path).glob("bundle*"))
    again = edgeloop("run", str(narrow), "--json")
    assert again.returncode == 3
    document = json.loads(again.stdout)
    assert document["run"] == entry.id, "it goes on where it stopped"
    assert document["retention"]["verdict"] == "forgotten"
    assert "retention: complete already" in again.stderr
