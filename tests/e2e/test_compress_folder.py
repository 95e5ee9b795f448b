"""`edgeloop compress FOLDER`: any Hugging Face encoder, its own rows, a certificate; bad folders
and bad budgets end with one clear line and leave nothing.
"""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from edgeloop import cli
from edgeloop.models import open_model
from edgeloop.records_compress import Certificate
from edgeloop.rows import Row
from tests import tiny
from tests.merged_run import MAX_TOKENS, PLAIN, make_merged, own_answers

OPTIONS = ("--set", "compress.candidates=[onnx-fp32, onnx-int8]", "--set", "serve.max_tokens=32")


@pytest.fixture(scope="module")
def given(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that edgeloop did not train, and rows that it answers rightly."""
    root = tmp_path_factory.mktemp("given")
    make_merged(tiny_bert, root / "model")
    rows = own_answers(root / "model", tiny.rows(PLAIN, 400, 3), PLAIN)
    write(root / "rows.jsonl", rows)
    return root


def write(path: Path, rows: list[Row]) -> None:
    lines = [json.dumps({"id": row.id, "text": row.text, "label": row.label}) for row in rows]
    path.write_text("\n".join(lines) + "\n")


class Command:
    """`edgeloop compress`, in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys = capsys
        self._monkeypatch = monkeypatch

    def __call__(self, *words: str, code: int = 0) -> tuple[str, str]:
        """(stdout, stderr), after the exit code was checked."""
        self._monkeypatch.setattr(sys, "argv", ["edgeloop", "compress", *words, *OPTIONS])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = self._capsys.readouterr()
        assert (ended.value.code or 0) == code, err
        return out, err


@pytest.fixture
def compress(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(capsys, monkeypatch)


def test_a_folder_is_compressed_and_handed_out_with_its_certificate(
    given: Path, tmp_path: Path, compress: Command
) -> None:
    out = tmp_path / "out"
    words = [str(given / "model"), "--data", str(given / "rows.jsonl"), "--out", str(out)]
    words += ["--budget", "max_accuracy_drop=0.5"]
    document = json.loads(compress(*words, "--json")[0])
    assert document["chosen"] == "onnx-int8"
    assert document["out"] == str(out)
    certificate = Certificate.read(out / "certificate.json")
    assert certificate.labels == tiny.LABELS
    assert {path.name for path in out.iterdir()} == {
        "certificate.json",
        "model.onnx",
        "tokenizer.json",
    }
    assert open_model(out, MAX_TOKENS).score(["my invoice is late"])[0].logits.shape == (3,)
    said = compress(*words, code=2)[1]
    assert f"--out {out}: is there already" in said
    home = Path(os.environ["EDGELOOP_HOME"])
    assert not list(home.glob("runs/*/.work-*"))


def test_a_budget_that_nothing_keeps_to_ends_with_3_and_the_nearest(
    given: Path, tmp_path: Path, compress: Command
) -> None:
    out = tmp_path / "out"
    words = [str(given / "model"), "--data", str(given / "rows.jsonl"), "--out", str(out)]
    said = compress(*words, "--budget", "size_mb=0.001", code=3)[0]
    assert "outcome    INFEASIBLE" in said
    assert said.index("nearest    onnx-int8") < said.index("nearest    onnx-fp32")
    assert not out.exists()


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ("size_bm=3", "did you mean size_mb?"),
        ("size_mb=0", "compress.budget.size_mb"),
        ("size_mb", "write --set key.subkey=value"),
    ],
)
def test_a_bad_budget_ends_with_2(
    given: Path, tmp_path: Path, compress: Command, budget: str, said: str
) -> None:
    words = [str(given / "model"), "--data", str(given / "rows.jsonl"), "--budget", budget]
    assert said in compress(*words, "--out", str(tmp_path / "out"), code=2)[1]


def test_without_rows_nothing_can_be_claimed(
    given: Path, tmp_path: Path, compress: Command
) -> None:
    said = compress(str(given / "model"), "--out", str(tmp_path / "out"), code=2)[1]
    assert "name labelled rows with --data FILE" in said


def test_rows_belong_to_a_folder(recipe: Path, compress: Command) -> None:
    assert "--data goes with a FOLDER" in compress(str(recipe), "--data", "x.csv", code=2)[1]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ("weights", "has no weights in safetensors; pytorch_model.bin is not read"),
        ("config", "has no config.json"),
        ("labels", "id2label names no classes"),
    ],
)
def test_a_folder_that_is_no_model_is_named(
    given: Path, tmp_path: Path, compress: Command, spoil: str, said: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(given / "model", folder)
    if spoil == "weights":
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    elif spoil == "config":
        (folder / "config.json").unlink()
    else:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "id2label": {}}))
    words = [str(folder), "--data", str(given / "rows.jsonl"), "--out", str(tmp_path / "out")]
    assert said in compress(*words, code=1)[1]
    assert not (tmp_path / "out").exists()


def test_labels_that_the_model_does_not_know_are_named(
    given: Path, tmp_path: Path, compress: Command
) -> None:
    mixed = [
        Row(f"m{i}", text, (label if i % 2 else "unheard",))
        for i, (text, label) in enumerate(tiny.sentences(300, seed=9))
    ]
    write(tmp_path / "rows.jsonl", mixed)
    words = [str(given / "model"), "--data", str(tmp_path / "rows.jsonl")]
    said = compress(*words, "--out", str(tmp_path / "out"), code=2)[1]
    assert "1 labels that" in said
    assert "'unheard'" in said
