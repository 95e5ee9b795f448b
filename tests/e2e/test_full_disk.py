"""A file that cannot be written to its end, as on a full disk: one clear line, nothing half-written
that counts as done, and the same command goes on once there is room."""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModel, AutoTokenizer

# Rows of the embedding: a model that is larger than the ledger, which must still be written.
VOCABULARY = 12_000
STAGES = ("dataset", "adapter", "merged", "candidates")


@pytest.fixture
def larger(recipe: Path, tiny_bert: Path, tmp_path: Path) -> Path:
    """The recipe on a tiny BERT with a large vocabulary."""
    model = AutoModel.from_pretrained(tiny_bert)
    model.resize_token_embeddings(VOCABULARY, mean_resizing=False)
    model.save_pretrained(tmp_path / "larger")
    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(tmp_path / "larger")
    recipe.write_text(recipe.read_text().replace(str(tiny_bert), str(tmp_path / "larger")))
    return recipe


def run(
    recipe: Path, home: Path, limit_bytes: int | None = None
) -> subprocess.CompletedProcess[str]:
    """`limit_bytes`: the largest file that may be written."""

    def limit() -> None:
        if limit_bytes is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # write() fails instead, with EFBIG
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    return subprocess.run(
        [sys.executable, "-m", "edgeloop", "run", str(recipe), "--json"],
        capture_output=True,
        text=True,
        timeout=300,
        preexec_fn=limit,
        env={**os.environ, "EDGELOOP_HOME": str(home)},
    )


def complete(home: Path) -> list[str]:
    return [stage for stage in STAGES if list(home.glob(f"runs/*/{stage}/record.json"))]


def size_bytes(home: Path, pattern: str) -> int:
    (found,) = home.glob(pattern)
    return found.stat().st_size


@pytest.mark.timeout(600)
def test_a_disk_that_fills_up_costs_no_more_than_the_stage_that_it_hits(
    larger: Path, tmp_path: Path
) -> None:
    whole, home = tmp_path / "whole", tmp_path / "small"
    assert run(larger, whole).returncode == 0
    merged = size_bytes(whole, "runs/*/merged/model.safetensors")
    exported = size_bytes(whole, "runs/*/candidates/onnx-fp32/model.onnx")
    assert exported > merged
    for limit_bytes, stages in ((merged - 1, STAGES[:2]), (merged, STAGES[:3])):
        failed = run(larger, home, limit_bytes)
        assert (failed.returncode, failed.stdout) == (1, ""), failed.stderr
        assert "Traceback" not in failed.stderr
        (said,) = [line for line in failed.stderr.splitlines() if line.startswith("edgeloop: ")]
        assert "File too large" in said
        assert complete(home) == list(stages)
    ended = run(larger, home)
    assert ended.returncode == 0, ended.stderr
    assert Path(json.loads(ended.stdout)["bundle"]["path"]).is_dir()
    assert complete(home) == list(STAGES)
    assert not list(home.glob("runs/*/.work-*"))
