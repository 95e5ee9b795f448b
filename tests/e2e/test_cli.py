"""Bad input at the command line: a clear message, the stated exit code, nothing half-written."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeloop import cli
from edgeloop.bundle import Bundle
from edgeloop.ledger import open_ledger
from tests import tiny


def run_cli(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str
) -> tuple[int, str, str]:
    """The command line in this process: (exit code, stdout, stderr)."""
    monkeypatch.setattr(sys, "argv", ["edgeloop", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capsys.readouterr()
    code = ended.value.code
    return (code if isinstance(code, int) else 0), out, err


BAD_ROWS = {
    "missing column": ("id,body,label\n1,a,x\n2,b,y\n", "text"),
    "empty text": ("id,text,label\n1,,x\n2,b,y\n3,c,x\n", "empty"),
    "empty file": ("", "rows"),
    "header only": ("id,text,label\n", "rows"),
    "one class": ("id,text,label\n1,a,x\n2,b,x\n3,c,x\n4,d,x\n", "class"),
    "class with one row": (
        "id,text,label\n" + "".join(f"{i},t{i},x\n" for i in range(40)) + "99,z,rare\n",
        "rare",
    ),
    "duplicate ids": ("id,text,label\n1,a,x\n1,b,y\n2,c,x\n3,d,y\n", "'1'"),
    "2 MB cell": ('id,text,label\n1,"' + "a" * 2_000_000 + '",x\n2,b,y\n', "bytes"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
@pytest.mark.parametrize("command", ["check", "run"])
def test_bad_rows_end_with_2_and_write_no_stage(
    case: str,
    command: str,
    recipe: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text, said = BAD_ROWS[case]
    (recipe.parent / "rows.csv").write_text(text)
    code, out, err = run_cli(capsys, monkeypatch, command, str(recipe))
    assert code == 2
    assert out == ""
    assert said in err
    assert "rows.csv" in err
    assert "Traceback" not in err
    assert not list(Path(os.environ["EDGELOOP_HOME"]).glob("runs/*/dataset"))


def test_rows_that_are_not_utf8_are_refused_with_the_offset(
    recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (recipe.parent / "rows.csv").write_bytes(b"id,text,label\n1,na\xefve,x\n")
    code, _, err = run_cli(capsys, monkeypatch, "check", str(recipe))
    assert code == 2
    assert "offset 18" in err


BAD_RECIPES = {
    "unknown key": ("compress.budgt.size_mb=3", "did you mean budget?"),
    "wrong type": ("finetune.training.num_train_epochs=many", "number"),
    "quoted number": ('finetune.training.learning_rate="1e-3"', "remove the quotes"),
    "impossible split": ("data.split.train=0.9", "sum to 1.4"),
    "missing file": ("data.files=[nowhere.csv]", "nowhere.csv"),
}


@pytest.mark.parametrize("case", BAD_RECIPES)
def test_bad_recipe_ends_with_2(
    case: str,
    recipe: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    override, said = BAD_RECIPES[case]
    code, out, err = run_cli(capsys, monkeypatch, "run", str(recipe), "--set", override)
    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err


def test_exponent_without_a_dot_is_a_number(
    recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("check", str(recipe), "--set", "finetune.training.learning_rate=1e-3", "--json")
    code, out, _ = run_cli(capsys, monkeypatch, *words)
    assert code == 0
    assert json.loads(out)["recipe"]["finetune"]["training"]["learning_rate"] == 0.001


def test_base_without_weights_is_refused(
    recipe: Path,
    tmp_path: Path,
    tiny_bert: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    empty = tmp_path / "empty-base"
    empty.mkdir()
    (empty / "config.json").write_bytes((tiny_bert / "config.json").read_bytes())
    code, _, err = run_cli(capsys, monkeypatch, "run", str(recipe), "--set", f"base={empty}")
    assert code == 2
    assert "base '" in err
    assert "weights" in err
    assert str(empty) in err


def test_init_writes_a_recipe_that_checks_and_never_overwrites(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = run_cli(capsys, monkeypatch, "init", str(tmp_path / "new"))
    assert code == 0
    written = Path(out.strip())
    tiny.write_rows(written.parent / "rows.csv", tiny.sentences(120))
    code, out, _ = run_cli(capsys, monkeypatch, "check", str(written))
    assert code == 0
    assert "billing" in out
    code, _, err = run_cli(capsys, monkeypatch, "init", str(tmp_path / "new"))
    assert code == 2
    assert "exists already" in err


def test_bundle_verify_says_which_file_is_damaged(
    tiny_bundle: Bundle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code, out, _ = run_cli(capsys, monkeypatch, "bundle", "verify", str(tiny_bundle.path))
    assert (code, out[:2]) == (0, "OK")
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(tiny_bundle.path), str(copy)], check=True)
    data = bytearray((copy / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (copy / "model.onnx").write_bytes(data)
    code, out, err = run_cli(capsys, monkeypatch, "bundle", "verify", str(copy))
    assert (code, out) == (2, "")
    assert "model.onnx has another SHA-256" in err


def test_retrain_without_anything_deployed_says_what_to_run(
    recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = run_cli(capsys, monkeypatch, "retrain", str(recipe))
    assert code == 1
    assert "edgeloop run" in err


def test_serve_wants_a_bundle_or_a_name(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = run_cli(capsys, monkeypatch, "serve")
    assert code == 2
    assert "--follow" in err


def test_port_in_use_is_one_line(
    tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        words = ("serve", str(tiny_bundle.path), "--port", port)
        code, _, err = run_cli(capsys, monkeypatch, *words)
    assert code == 2
    assert port in err
    assert "Traceback" not in err


def test_a_bundle_that_is_missing_or_too_new_ends_with_2(
    tiny_bundle: Bundle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code, _, err = run_cli(capsys, monkeypatch, "bundle", "inspect", str(tmp_path / "none"))
    assert (code, str(tmp_path / "none") in err) == (2, True)
    copy = tmp_path / "newer"
    shutil.copytree(tiny_bundle.path, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "schema_version": 99}))
    code, _, err = run_cli(capsys, monkeypatch, "serve", str(copy), "--port", "0")
    assert code == 2
    assert "99" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "code"), [(("--help",), 0), (("no-such-command",), 2), (("serve", "--port", "x"), 2)]
)
def test_help_and_usage_errors_keep_their_codes(
    words: tuple[str, ...],
    code: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    got, out, err = run_cli(capsys, monkeypatch, *words)
    assert got == code
    assert "Usage" in (err if code else out)


@pytest.mark.parametrize(
    "words",
    [
        ("history", "nobody"),
        ("rollback", "nobody"),
        ("report", "nobody"),
        ("serve", "--follow", "nobody"),
    ],
)
def test_reading_an_empty_home_says_where_it_looked_and_makes_nothing(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Path(os.environ["EDGELOOP_HOME"])
    code, out, err = run_cli(capsys, monkeypatch, *words)
    assert (code, out) == (1, "")
    assert str(home) in err
    assert "EDGELOOP_HOME" in err
    assert not home.exists()


def test_history_of_a_name_that_the_ledger_does_not_know_is_an_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    open_ledger(Path(os.environ["EDGELOOP_HOME"]))
    code, out, err = run_cli(capsys, monkeypatch, "history", "nobody", "--json")
    assert (code, out) == (1, "")
    assert "knows nothing of nobody" in err


def test_replay_of_a_missing_file_or_to_no_url_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tmp_path / "traffic.csv"
    replay = ("monitor", "replay")
    code, _, err = run_cli(capsys, monkeypatch, *replay, str(rows), "--url", "http://127.0.0.1:1")
    assert (code, "no such file" in err) == (2, True)
    tiny.write_rows(rows, tiny.sentences(5))
    for url, expected in (("http://host:abc", 2), ("http://127.0.0.1:1", 1)):
        code, out, err = run_cli(capsys, monkeypatch, *replay, str(rows), "--url", url)
        assert (code, out) == (expected, "")
        assert err.count("\n") == 1
        assert err.startswith(f"edgeloop: {url}")


def test_an_interrupt_is_said_and_ends_with_130(tmp_path: Path) -> None:
    """A server that takes the connection and never answers holds the command until SIGINT."""
    rows = tmp_path / "traffic.csv"
    tiny.write_rows(rows, tiny.sentences(5))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = subprocess.Popen(
            [sys.executable, "-m", "edgeloop", "monitor", "replay", str(rows), "--url", url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        connection, _ = silent.accept()
        with connection:
            connection.recv(1)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err == "edgeloop: interrupted; the same command goes on where it stopped\n"


def start(recipe: Path, command: str = "run") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "edgeloop", command, str(recipe), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> dict[str, object]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    document: dict[str, object] = json.loads(out)
    return document


@pytest.mark.timeout(900)
def test_killed_in_any_stage_the_next_run_ends_with_the_same_result(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = finished(start(recipe))
    for stage, signal_number in (
        ("dataset", signal.SIGKILL),
        ("adapter", signal.SIGKILL),
        ("merged", signal.SIGINT),
        ("candidates", signal.SIGKILL),
        ("reference", signal.SIGINT),
        ("bundle", signal.SIGKILL),
    ):
        home = tmp_path / f"home-{stage}"
        monkeypatch.setenv("EDGELOOP_HOME", str(home))
        killed = start(recipe)
        wait_for_stage(home, stage, killed)
        killed.send_signal(signal_number)
        killed.communicate(timeout=60)
        # The last stage takes a moment only: the run may have ended before the signal came.
        assert killed.returncode != 0 or stage == "bundle"
        resumed = finished(start(recipe))
        for name in ("dataset", "merged"):
            assert resumed[name] == undisturbed[name], f"after a kill in {stage}"
        assert weights(resumed) == weights(undisturbed)
        assert not list(home.glob("runs/*/.work-*"))


def wait_for_stage(home: Path, stage: str, process: subprocess.Popen[str]) -> None:
    started = time.monotonic()
    while not list(home.glob(f"runs/*/.work-{stage}")) and not list(home.glob(f"runs/*/{stage}")):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() - started < 120
        time.sleep(0.002)


def weights(document: dict[str, object]) -> dict[str, str]:
    """SHA-256 of the adapter, the merged model and every candidate's model."""
    folder = Path(str(document["folder"]))
    found = {}
    for record in ("adapter/record.json", "merged/record.json", "candidates/record.json"):
        for entry in json.loads((folder / record).read_text())["files"]:
            if entry["path"].endswith((".safetensors", ".onnx")):
                found[f"{record}:{entry['path']}"] = entry["sha256"]
    assert found
    return found
