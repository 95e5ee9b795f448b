"""The capture as a whole: what is offered is on the disk, redacted, or counted as dropped."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from edgeloop.errors import RecipeError
from edgeloop.rows import TextInput
from edgeloop.runtime import RowOutput
from edgeloop.tasks import Answer
from serve.capture.config import CaptureConfig
from serve.capture.ring import MOST_ROWS
from serve.capture.row import CaptureRow
from serve.capture.store import all_rows, locked
from serve.capture.writer import CUT_CHARACTERS, MOST_CHARACTERS, Capture
from serve.jobs import Scored
from serve.metrics import CAPTURE_DROPS, ServeMetrics

SECRET = "jane@example.org"
DIGEST = "d" * 64


@pytest.fixture
def metrics() -> ServeMetrics:
    return ServeMetrics(CollectorRegistry(), "tiny")


def capture(folder: Path, metrics: ServeMetrics, **changes: Any) -> Capture:
    document = {"folder": str(folder), "share": 1.0, **changes}
    return Capture(CaptureConfig.model_validate_json(json.dumps(document)), metrics)


def scored(text: TextInput, score: float = 0.9) -> Scored:
    output = RowOutput(np.zeros(2, np.float32), np.zeros(3, np.float32))
    answer = Answer(labels=("a",), scores=(score,), spans=(), score=score)
    return Scored(text, 3, output, answer, np.array([score, 1 - score]), False, 0.0, 0.0)


def kept(folder: Path) -> list[CaptureRow]:
    return list(all_rows(folder))


def value(metrics: ServeMetrics, name: str, **labels: str) -> float:
    found = metrics.registry.get_sample_value(f"edgeloop_{name}", {"model": "tiny", **labels})
    assert found is not None
    return found


def dropped(metrics: ServeMetrics) -> dict[str, float]:
    counts = {r: value(metrics, "capture_dropped_total", reason=r) for r in CAPTURE_DROPS}
    return {reason: count for reason, count in counts.items() if count}


def test_what_is_offered_is_written_redacted(tmp_path: Path, metrics: ServeMetrics) -> None:
    made = capture(tmp_path, metrics, patterns={"order": r"AB-\d+"})
    made.offer(b"r1", DIGEST, [scored(f"mail {SECRET}"), scored(("AB-77", "fine"), 0.3)])
    made.close()
    first, second = kept(tmp_path)
    assert (first.id, first.index, first.bundle) == ("r1", 0, DIGEST)
    assert first.texts == ("mail <email>",)
    assert (first.labels, first.scores, first.score) == (("a",), (0.9,), 0.9)
    assert (first.inclusion_probability, first.rule) == (1.0, "uniform")
    assert abs(first.time - time.time()) < 60
    assert (second.index, second.texts) == (1, ("<order>", "fine"))
    assert value(metrics, "captured_rows_total") == 2
    assert dropped(metrics) == {}


def test_a_long_text_is_cut_and_no_number_is_left_at_the_cut(
    tmp_path: Path, metrics: ServeMetrics
) -> None:
    made = capture(tmp_path, metrics)
    for shift in range(0, CUT_CHARACTERS, 7):
        length = MOST_CHARACTERS + CUT_CHARACTERS - shift
        text = "x " * (length // 2) + "4111 1111 1111 1111 " + SECRET + " y" * 300
        made.offer(b"r", DIGEST, [scored(text)])
    made.close()
    rows = kept(tmp_path)
    assert len(rows) == len(range(0, CUT_CHARACTERS, 7))
    for row in rows:
        assert "11" not in row.texts[0]
        assert "jane" not in row.texts[0]
        assert len(row.texts[0]) <= MOST_CHARACTERS


@pytest.fixture
def hung(tmp_path: Path, metrics: ServeMetrics) -> Iterator[Capture]:
    """A capture whose disk does not answer: its folder's lock is held."""
    made = capture(tmp_path, metrics)
    with locked(tmp_path):
        yield made
    made.close(30.0)


def test_a_hung_disk_costs_rows_and_never_waits(
    hung: Capture, metrics: ServeMetrics, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3 * MOST_ROWS):
        hung.offer(b"r", DIGEST, [scored("text")])
    assert dropped(metrics)["ring_full"] >= MOST_ROWS
    hung.close(0.1)
    assert "capture_pending" in caplog.text


def test_what_waited_for_a_hung_disk_is_written_when_it_answers(
    tmp_path: Path, metrics: ServeMetrics
) -> None:
    made = capture(tmp_path, metrics)
    with locked(tmp_path):
        for i in range(10):
            made.offer(f"{i}".encode(), DIGEST, [scored("text")])
    made.close(30.0)
    assert [row.id for row in kept(tmp_path)] == [str(i) for i in range(10)]


def test_a_disk_that_fails_is_counted_and_logged_without_a_text(
    tmp_path: Path, metrics: ServeMetrics, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "rows"
    made = capture(folder, metrics)
    while not (folder / ".lock").exists():
        time.sleep(0.01)
    (folder / ".lock").unlink()
    folder.rmdir()
    folder.write_text("a file", encoding="utf-8")
    made.offer(b"r", DIGEST, [scored(f"mail {SECRET}")])
    made.close()
    assert dropped(metrics) == {"disk": 1.0}
    assert "capture_not_written" in caplog.text
    assert SECRET not in caplog.text


def test_a_text_that_a_pattern_hangs_on_is_not_written(
    tmp_path: Path, metrics: ServeMetrics, caplog: pytest.LogCaptureFixture
) -> None:
    made = capture(tmp_path, metrics, patterns={"evil": "(a+)+$"})
    made.offer(b"r", DIGEST, [scored("a" * 60 + "b")])
    made.close(30.0)
    assert dropped(metrics) == {"redaction": 1.0}
    assert kept(tmp_path) == []
    assert "aaa" not in caplog.text


def test_a_folder_that_cannot_be_made_is_told_at_the_start(
    tmp_path: Path, metrics: ServeMetrics
) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"capture\.folder"):
        capture(tmp_path / "file", metrics)
