"""What a report reads, and what it leaves out."""

import json
import re
from pathlib import Path

import pytest

from edgeloop import plots
from edgeloop.errors import EdgeloopError
from edgeloop.ledger import Ledger, RunResult, open_ledger
from edgeloop.report import Inputs, Replay, read_replay, read_summary, write_report

BAD_REPLAYS = [
    "",
    "null",
    "[]",
    '"text"',
    "{}",
    '{"evidence": null, "threshold": 9.0}',
    '{"evidence": {"0": 1}, "threshold": 9.0}',
    '{"evidence": [1, 2], "threshold": 9.0}',
    '{"evidence": [[1, "x"]], "threshold": 9.0}',
    '{"evidence": [[1]], "threshold": 9.0}',
    '{"evidence": [], "threshold": null}',
    '{"evidence": [], "threshold": Infinity}',
    "[" * 5000,
]


@pytest.mark.parametrize("text", BAD_REPLAYS, ids=range(len(BAD_REPLAYS)))
def test_what_is_no_replay_is_an_error_of_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "replay.json"
    path.write_text(text)
    with pytest.raises(EdgeloopError, match=r"^.*replay\.json: not a result of [^\n]*$"):
        read_replay(path)


def test_a_replay_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EdgeloopError, match="No such file"):
        read_replay(tmp_path / "none.json")


def test_a_replay_is_read_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "march.json"
    path.write_text(json.dumps({"evidence": [[0, 0.0], [10, 1]], "threshold": 9, "sent": 10}))
    assert read_replay(path) == ("march", Replay(evidence=((0, 0.0), (10, 1.0)), threshold=9.0))


@pytest.mark.parametrize("text", ["null", "[1]", "{", "[" * 100_000])
def test_a_summary_is_an_object(text: str, tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_text(text)
    with pytest.raises(EdgeloopError, match=r"summary\.json"):
        read_summary(path)


def test_every_replay_has_a_line_of_its_own() -> None:
    count = len(plots.LINE_COLORS) * len(plots.LINE_STYLES)
    series = [(f"replay-{i}", [(0, 0.0), (10, float(i))]) for i in range(count)]
    svg = plots.evidence(series, 9.0)
    assert all(re.search(rf">replay-{i}<", svg) for i in range(count))
    accent = set(re.findall(rf'style="(fill: none; [^"]*stroke: {plots.ACCENT}[^"]*)"', svg))
    assert len(accent) == len(plots.LINE_STYLES)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return open_ledger(tmp_path / "home")


@pytest.mark.parametrize("gate", [None, [], {"golden": {}}, {"reasons": ["old"], "promoted": True}])
def test_a_run_whose_gate_another_version_wrote_is_left_out(
    gate: object, ledger: Ledger, tmp_path: Path
) -> None:
    ledger.start_run("r1", "m", "edgeloop retrain", tmp_path / "gone", "0" * 64)
    ledger.finish_run(RunResult("r1", "rejected", {"gate": gate}))
    page = write_report(ledger, "m", Inputs([], {}), tmp_path / "report.html").read_text()
    assert "Run r1" in page
    assert "Champion against challenger" not in page
