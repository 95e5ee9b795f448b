"""`edgeloop keys` and `edgeloop capture`, as a person types them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from serve.capture.row import CaptureRow, encode_row
from serve.capture.store import Store
from serve.keyfile import read_keys


def edgeloop(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgeloop", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_keys_life(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    made = edgeloop("keys", "add", "shop", "--file", file, "--scope", "predict", "--rate", "20")
    assert made.returncode == 0
    key = made.stdout.strip()
    assert key.startswith("el_")
    assert key not in file.read_text(encoding="utf-8")
    (entry,) = read_keys(file).keys
    assert (entry.requests_per_second, entry.burst, entry.expires_at) == (20.0, 20, None)
    listed = edgeloop("keys", "list", "--file", file)
    assert "shop" in listed.stdout
    assert key not in listed.stdout
    document = json.loads(edgeloop("keys", "list", "--file", file, "--json").stdout)
    assert "sha256" not in document["keys"][0]
    assert edgeloop("keys", "revoke", "shop", "--file", file).returncode == 0
    again = edgeloop("keys", "revoke", "shop", "--file", file)
    assert again.returncode == 2
    assert "there is no key shop" in again.stderr
    wrong = edgeloop("keys", "add", "x", "--file", file, "--scope", "all")
    assert wrong.returncode == 2
    assert "predict, feedback, metrics, admin" in wrong.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store = Store(tmp_path / "rows", 1_000_000, 86_400.0, lambda: 1_750_000_000.0)
    store.prepare()
    rows = [
        CaptureRow(name, 0, 0.0, "d", ("text",), ("a",), (0.9,), 0.9, False, 0.1, "uniform")
        for name in ("1", "2", "1")
    ]
    store.append([encode_row(row) for row in rows])
    return store.folder


def test_captured_rows_are_listed_exported_and_deleted(folder: Path, tmp_path: Path) -> None:
    listed = json.loads(edgeloop("capture", "list", "--folder", folder, "--json").stdout)
    assert [segment["rows"] for segment in listed["segments"]] == [3]
    assert "all" in edgeloop("capture", "list", "--folder", folder).stdout
    deleted = edgeloop("capture", "delete", "--folder", folder, "--request-id", "1")
    assert deleted.stdout == "deleted 2 rows\n"
    none = edgeloop("capture", "delete", "--folder", folder, "--request-id", "1")
    assert (none.returncode, none.stdout) == (0, "deleted 0 rows\n")
    assert "not captured" in none.stderr
    out = tmp_path / "rows.jsonl"
    edgeloop("capture", "export", "--folder", folder, "--out", out)
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == ["2"]
    assert out.stat().st_mode & 0o777 == 0o600
    assert edgeloop("capture", "list", "--folder", tmp_path / "none").returncode == 1
