"""A candidate is measured in a process of its own, without torch, exactly as the server runs it."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from compress.answers import unpack
from compress.evaluate import REPEATS, TIMED_ROWS, Texts, evaluate
from edgeloop.rows import TextInput
from edgeloop.runtime import OnnxModel, RowOutput
from edgeloop.tasks import TASKS
from tests import tiny

TEXTS = [text for text, _ in tiny.sentences(TIMED_ROWS + 44, seed=5)]


@pytest.fixture
def candidate(tmp_path: Path) -> Path:
    folder = tmp_path / "candidate"
    tiny.make_model(folder)
    return folder


def task(tmp_path: Path, texts: Sequence[TextInput] = TEXTS) -> Texts:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return Texts(texts, max_tokens=32, confidence=0.95, scratch=scratch)


def assert_same(found: list[RowOutput], expected: list[RowOutput]) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.logits, other.logits)
        np.testing.assert_array_equal(one.embedding, other.embedding)
        assert one.offsets == other.offsets


def test_the_measuring_process_never_imports_torch(candidate: Path, tmp_path: Path) -> None:
    texts, out = tmp_path / "texts.json", tmp_path / "answers.npz"
    texts.write_text(json.dumps(TEXTS[:9]))
    arguments = ["compress.measure", "--folder", str(candidate), "--texts", str(texts)]
    arguments += ["--max-tokens", "32", "--started", str(time.monotonic_ns()), "--out", str(out)]
    code = (
        f"import runpy, sys; sys.argv = {arguments!r}\n"
        "runpy.run_module('compress.measure', run_name='__main__')\n"
        "print(sorted({'torch', 'transformers', 'scipy', 'onnx'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == "[]\n"
    with np.load(out) as saved:
        assert saved["latency_ms"].shape == (9,)
        assert saved["latency_ms"].min() > 0.0
        assert [output.logits.shape for output in unpack(saved)] == [(len(tiny.LABELS),)] * 9


def test_all_rows_are_answered_and_an_even_sample_is_timed(candidate: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    found, failures = evaluate({"tiny": candidate}, task(tmp_path), lines.append)
    measured = found["tiny"].measurement
    expected = OnnxModel(candidate / "model.onnx", candidate / "tokenizer.json", 32).score(TEXTS)
    assert_same(found["tiny"].outputs, expected)
    assert failures == {}
    assert (measured.rows, measured.repeats) == (TIMED_ROWS, REPEATS)
    files = [candidate / "model.onnx", candidate / "tokenizer.json"]
    assert measured.size_bytes == sum(path.stat().st_size for path in files)
    for interval in (measured.latency_p50_ms, measured.latency_p95_ms):
        assert 0.0 < interval.low <= interval.value <= interval.high
    assert measured.latency_p50_ms.value <= measured.latency_p95_ms.value
    assert measured.cold_start_seconds > 0.0
    assert len(lines) == 1 + REPEATS


@pytest.mark.parametrize("name", [*TASKS, "pair"])
def test_answers_of_every_task_come_back_as_they_were_given(name: str, tmp_path: Path) -> None:
    text_pair = name == "pair"
    kind = "text-classification" if text_pair else name
    folder = tmp_path / "candidate"
    tiny.make_model(folder, task=kind, text_pair=text_pair)
    texts = TASKS[kind].inputs(tiny.rows(kind, 7, seed=2, text_pair=text_pair))
    found, failures = evaluate({"tiny": folder}, task(tmp_path, texts), lambda line: None)
    model = OnnxModel(folder / "model.onnx", folder / "tokenizer.json", 32)
    assert failures == {}
    assert_same(found["tiny"].outputs, model.score(texts))


def test_memory_is_the_candidates_own_and_not_its_parents(candidate: Path, tmp_path: Path) -> None:
    ballast = np.ones(600_000_000, dtype=np.uint8)
    found, _ = evaluate({"tiny": candidate}, task(tmp_path, TEXTS[:3]), lambda line: None)
    assert 20_000_000 < found["tiny"].measurement.rss_bytes < ballast.nbytes / 2


def test_a_candidate_that_does_not_load_is_told_and_the_others_go_on(
    candidate: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    tiny.make_model(broken)
    (broken / "model.onnx").write_bytes(b"not a model")
    folders = {"broken": broken, "tiny": candidate}
    found, failures = evaluate(folders, task(tmp_path, TEXTS[:3]), lambda line: None)
    assert set(found) == {"tiny"}
    assert "does not load" in failures["broken"]
