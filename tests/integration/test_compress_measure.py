"""A candidate is measured in a process of its own, without torch, exactly as the server runs it."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from compress.answers import unpack
from compress.evaluate import TIMED_ROWS, Meter, measurement, timed
from edgeloop.runtime import OnnxModel, RowOutput
from edgeloop.tasks import TASKS
from tests import tiny

TEXTS = [text for text, _ in tiny.sentences(TIMED_ROWS + 44, seed=5)]


@pytest.fixture
def candidate(tmp_path: Path) -> Path:
    folder = tmp_path / "candidate"
    tiny.make_model(folder)
    return folder


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def meter(tmp_path: Path, lines: list[str]) -> Meter:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return Meter(32, scratch, lines.append)


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


def test_every_round_answers_its_texts_and_is_a_repeat_of_the_figures(
    candidate: Path, meter: Meter, lines: list[str]
) -> None:
    found, failures = meter.rounds({"tiny": candidate}, [TEXTS, TEXTS], "timing")
    rounds = found["tiny"]
    expected = OnnxModel(candidate / "model.onnx", candidate / "tokenizer.json", 32).score(TEXTS)
    for answered in rounds:
        assert_same(answered.outputs, expected)
    assert failures == {}
    assert lines == ["timing tiny: round 1 of 2", "timing tiny: round 2 of 2"]
    measured = measurement(candidate, rounds, 0.95)
    assert (measured.rows, measured.repeats) == (len(TEXTS), 2)
    files = [candidate / "model.onnx", candidate / "tokenizer.json"]
    assert measured.size_bytes == sum(path.stat().st_size for path in files)
    for interval in (measured.latency_p50_ms, measured.latency_p95_ms):
        assert 0.0 < interval.low <= interval.value <= interval.high
    assert measured.latency_p50_ms.value <= measured.latency_p95_ms.value
    assert measured.cold_start_seconds > 0.0


def test_an_even_sample_of_the_texts_is_timed() -> None:
    assert len(timed(TEXTS)) == TIMED_ROWS
    assert (timed(TEXTS)[0], timed(TEXTS)[-1]) == (TEXTS[0], TEXTS[-1])
    assert timed(TEXTS[:3]) == TEXTS[:3]


@pytest.mark.parametrize("name", [*TASKS, "pair"])
def test_answers_of_every_task_come_back_as_they_were_given(
    name: str, tmp_path: Path, meter: Meter
) -> None:
    text_pair = name == "pair"
    kind = "text-classification" if text_pair else name
    folder = tmp_path / "candidate"
    tiny.make_model(folder, task=kind, text_pair=text_pair)
    texts = TASKS[kind].inputs(tiny.rows(kind, 7, seed=2, text_pair=text_pair))
    found, failures = meter.rounds({"tiny": folder}, [texts], "judging")
    model = OnnxModel(folder / "model.onnx", folder / "tokenizer.json", 32)
    assert failures == {}
    assert_same(found["tiny"][0].outputs, model.score(texts))


def test_memory_is_the_candidates_own_and_not_its_parents(candidate: Path, meter: Meter) -> None:
    ballast = np.ones(600_000_000, dtype=np.uint8)
    found, _ = meter.rounds({"tiny": candidate}, [TEXTS[:3]], "judging")
    assert 20_000_000 < found["tiny"][0].rss_bytes < ballast.nbytes / 2


def test_a_candidate_that_does_not_load_is_told_and_the_others_go_on(
    candidate: Path, tmp_path: Path, meter: Meter
) -> None:
    broken = tmp_path / "broken"
    tiny.make_model(broken)
    (broken / "model.onnx").write_bytes(b"not a model")
    folders = {"broken": broken, "tiny": candidate}
    found, failures = meter.rounds(folders, [TEXTS[:3]], "judging")
    assert set(found) == {"tiny"}
    assert "does not load" in failures["broken"]
