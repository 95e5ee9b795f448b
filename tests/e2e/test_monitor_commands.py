"""`edgeloop monitor replay` and `report` at the command line: output, exit codes, bad input."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeloop import cli
from edgeloop.bundle import Bundle
from tests import monitored, tiny


def run_cli(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str
) -> tuple[int, str, str]:
    """The command line in this process: (exit code, stdout, stderr)."""
    monkeypatch.setattr(sys, "argv", ["edgeloop", "monitor", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capsys.readouterr()
    code = ended.value.code
    return (code if isinstance(code, int) else 0), out, err


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return monitored.make_bundle(tmp_path_factory.mktemp("commands"))


@pytest.fixture
def traffic(tmp_path: Path) -> Path:
    path = tmp_path / "traffic.csv"
    tiny.write_rows(path, [*tiny.sentences(60, 3), *[("swap my gas bottle", "billing")] * 60])
    return path


def test_a_replay_is_tried_kept_and_reported(
    bundle: Bundle,
    traffic: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ("--bundle", str(bundle.path), "--restart")
    kept = tmp_path / "scores.npz"
    code, out, err = run_cli(
        capsys, monkeypatch, "replay", str(traffic), *words, "--scores", str(kept)
    )
    assert (code, "replay: 120 of 120 rows" in err) == (0, True)
    assert "rows       120, 0 skipped" in out
    assert "one false alarm in 300 requests (the reference's own)" in out
    assert "ALARM      at row" in out
    assert f"scores     120 rows in {kept}" in out
    code, out, _ = run_cli(capsys, monkeypatch, "replay", str(kept), *words, "--json")
    document = json.loads(out)
    assert (code, document["sent"], document["failed"]) == (0, 120, 0)
    assert document["alarms"][0]["row"] == document["requests_until_alarm"]
    quiet = ("--bundle", str(bundle.path), "--target-run-length", "1000000000000")
    code, out, _ = run_cli(capsys, monkeypatch, "replay", str(traffic), *quiet)
    assert (code, "1,000,000,000,000 requests (extrapolated" in out) == (0, True)
    report = tmp_path / "drift.html"
    options = ("--baseline-rows", "100", "--window-rows", "50", "--out", str(report))
    code, out, _ = run_cli(
        capsys,
        monkeypatch,
        "report",
        "--bundle",
        str(bundle.path),
        "--traffic",
        str(kept),
        *options,
    )
    assert (code, out.splitlines()[0]) == (0, str(report))
    assert report.read_text().startswith("<!doctype html>")


def test_an_unarmed_bundle_says_why(
    traffic: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = monitored.make_bundle(tmp_path / "small", rows=40)
    code, out, _ = run_cli(capsys, monkeypatch, "replay", str(traffic), "--bundle", str(small.path))
    assert code == 0
    assert "not armed  " in out
    assert "--target-run-length tries an alarm that promises nothing" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("replay", "FILE"), "name either --url or --bundle"),
        (("replay", "FILE", "--bundle", "B", "--url", "U"), "name either --url or --bundle"),
        (("replay", "FILE", "--bundle", "B", "--restart", "--stop-at-alarm"), "--restart goes on"),
        (("replay", "FILE", "--url", "U", "--restart"), "go with --bundle"),
        (("replay", "none.csv", "--bundle", "B"), "none.csv: there is no such file"),
        (("replay", "none.npz", "--bundle", "B"), "not an .npz file that can be read"),
        (("replay", "FILE", "--bundle", "nowhere"), "no bundle here"),
        (("report",), "--traffic"),
        (("report", "--traffic", "FILE"), "without --bundle name --reference or"),
        (
            ("report", "--traffic", "FILE", "--reference", "FILE", "--baseline-rows", "100"),
            "name either --reference or --baseline-rows",
        ),
        (
            ("report", "--traffic", "FILE", "--reference", "FILE", "--out", "OUT"),
            "no column holds numbers (the columns: ",
        ),
        (
            ("report", "--traffic", "none.npz", "--reference", "FILE", "--out", "OUT"),
            "none.npz: there is no such file",
        ),
    ],
)
def test_bad_input_ends_with_2_and_says_what_to_do(
    words: tuple[str, ...],
    said: str,
    bundle: Bundle,
    traffic: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out_path = tmp_path / "out.html"
    real = {"FILE": str(traffic), "B": str(bundle.path), "OUT": str(out_path)}
    real["U"] = "http://127.0.0.1:9"
    code, out, err = run_cli(capsys, monkeypatch, *(real.get(word, word) for word in words))
    assert (code, out) == (2, "")
    assert said in " ".join(err.replace("│", " ").split())
    assert not out_path.exists()


def test_a_table_report_prints_its_findings_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        np.savez(tmp_path / f"{name}.npz", x=rng.normal(size=300), y=rng.normal(size=300))
    words = ("--traffic", str(tmp_path / "b.npz"), "--reference", str(tmp_path / "a.npz"))
    out_path = tmp_path / "o.html"
    code, out, _ = run_cli(capsys, monkeypatch, "report", *words, "--out", str(out_path), "--json")
    document = json.loads(out)
    assert (code, document["out"], document["alarms"]) == (0, str(out_path), None)
    assert [feature["name"] for feature in document["features"]] == ["x", "y"]
