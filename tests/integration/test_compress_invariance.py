"""Answers against batch mates, padding and threads: exact in fp32, not so in dynamic int8."""

import subprocess
import sys
from pathlib import Path

import pytest

from compress.invariance import measure_invariance
from compress.quantize.dynamic import dynamic_int8
from compress.source import Source
from edgeloop.bundle import MODEL, TOKENIZER
from edgeloop.errors import EngineError
from edgeloop.records_compress import Change, Invariance
from edgeloop.tasks import TASKS
from tests import tiny

TEXTS = [text for text, _ in tiny.sentences(19)]


def measure(folder: Path, task: str, max_tokens: int = 64) -> Invariance:
    labels = () if task == "text-embedding" else tiny.LABELS
    return measure_invariance(
        folder / MODEL, folder / TOKENIZER, TEXTS, TASKS[task], labels, max_tokens
    )


@pytest.mark.parametrize("max_tokens", [5, 64])
@pytest.mark.parametrize(
    "task",
    [
        "text-classification",
        "multi-label-classification",
        "token-classification",
        "text-embedding",
    ],
)
def test_fp32_answers_depend_on_the_text_alone(tmp_path: Path, task: str, max_tokens: int) -> None:
    tiny.make_model(tmp_path, task=task)
    found = measure(tmp_path, task, max_tokens)
    assert found.rows == len(TEXTS)
    for change in (found.batch, found.padding, found.threads):
        assert change.max_change < 1e-5
        assert change.flips == 0


def test_dynamic_int8_depends_on_its_batch_mates(tmp_path: Path) -> None:
    tiny.make_model(tmp_path / "tiny")
    source = Source(tmp_path / "tiny" / MODEL, tmp_path / "tiny" / TOKENIZER, TEXTS, 64)
    (tmp_path / "made").mkdir()
    dynamic_int8(source, tmp_path / "made")
    found = measure(tmp_path / "made", "text-classification")
    assert found.batch.max_change > 1e-4
    assert found.threads == Change(max_change=0.0, flips=0)
    assert found == measure(tmp_path / "made", "text-classification")


def test_no_text_changes_nothing(tmp_path: Path) -> None:
    tiny.make_model(tmp_path)
    still = Change(max_change=0.0, flips=0)
    found = measure_invariance(
        tmp_path / MODEL,
        tmp_path / TOKENIZER,
        [],
        TASKS["text-classification"],
        tiny.LABELS,
        64,
    )
    assert found == Invariance(rows=0, batch=still, padding=still, threads=still)


def test_a_candidate_that_does_not_load_is_refused(tmp_path: Path) -> None:
    tiny.make_model(tmp_path)
    (tmp_path / MODEL).write_bytes(b"")
    with pytest.raises(EngineError, match="does not load"):
        measure(tmp_path, "text-classification")


def test_neither_invariance_nor_lint_needs_torch() -> None:
    code = (
        "import sys, compress.invariance, compress.lint, compress.trim, compress.quantize.mixed, "
        "compress.quantize.nbits, compress.quantize.static; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
