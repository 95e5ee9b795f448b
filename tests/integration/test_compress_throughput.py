"""Throughput in a process of its own, at every layout of threads."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from compress.energy import EnergyMeter
from compress.throughput import (
    BURSTS,
    Load,
    best_throughput,
    measure_layouts,
    open_sessions,
)
from edgeloop.errors import EngineError
from edgeloop.machine import layouts
from edgeloop.records_measured import Layout
from tests import tiny

TEXTS = [text for text, _ in tiny.sentences(50, seed=5)]
ALONE = Layout(workers=2, intra_op_threads=1)
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
SECONDS = 0.3


@pytest.fixture
def candidate(tmp_path: Path) -> Path:
    folder = tmp_path / "candidate"
    tiny.make_model(folder)
    return folder


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.json"
    path.write_text(json.dumps(TEXTS))
    return path


def test_every_layout_is_measured_and_the_best_is_the_fastest(candidate: Path, texts: Path) -> None:
    cores = min(2, CORES)
    found = measure_layouts(candidate, texts, 32, cores, SECONDS)
    assert tuple(one.layout for one in found) == layouts(cores)
    for one in found:
        assert one.texts_per_second > 0.0
        assert (one.joules_per_text is None) == bool(one.energy_reason)
    best = best_throughput(candidate, texts, 32, 1, SECONDS)
    assert best.layout == Layout(workers=1, intra_op_threads=1)


def test_pairs_are_answered_too(tmp_path: Path) -> None:
    tiny.make_model(tmp_path / "pairs", text_pair=True)
    texts = tmp_path / "texts.json"
    texts.write_text(json.dumps([["my invoice", "is late"], ["the pump", "is broken"]]))
    assert best_throughput(tmp_path / "pairs", texts, 32, 1, SECONDS).texts_per_second > 0.0


def test_the_measuring_process_never_imports_torch(candidate: Path, texts: Path) -> None:
    arguments = ["compress.throughput", "--folder", str(candidate), "--texts", str(texts)]
    arguments += ["--max-tokens", "32", "--cores", "1", "--seconds", "0.1"]
    arguments += ["--out", str(texts.with_name("out.json"))]
    code = (
        f"import runpy, sys; sys.argv = {arguments!r}\n"
        "runpy.run_module('compress.throughput', run_name='__main__')\n"
        "print(sorted({'torch', 'transformers', 'scipy', 'onnx'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == "[]\n"


def test_a_candidate_that_does_not_load_is_named(candidate: Path, texts: Path) -> None:
    (candidate / "model.onnx").write_bytes(b"no model")
    with pytest.raises(
        EngineError, match=r"candidate: measuring throughput ended with 1.*does not"
    ):
        best_throughput(candidate, texts, 32, 1, SECONDS)


def test_more_cores_than_there_are_is_an_error(candidate: Path, texts: Path) -> None:
    with pytest.raises(EngineError, match=f"this process may use {CORES}"):
        best_throughput(candidate, texts, 32, CORES + 1, SECONDS)


# -- a load in this process --------------------------------------------------------------------


class Rapl:
    """Stands for the machine's counters: an EnergyMeter over a tree whose counter grows by 2 J at
    every end of a block."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "intel-rapl:0"
        self.folder.mkdir(parents=True)
        (self.folder / "name").write_text("package-0")
        (self.folder / "max_energy_range_uj").write_text("1000000000")
        (self.folder / "energy_uj").write_text("0")
        self.root = root

    def meter(self) -> EnergyMeter:
        rapl = self

        class Meter(EnergyMeter):
            def __exit__(self, *_: object) -> None:
                path = rapl.folder / "energy_uj"
                path.write_text(str(int(path.read_text()) + 2_000_000))
                super().__exit__()

        return Meter(self.root)


def test_energy_is_summed_over_the_bursts_and_shared_by_the_texts(
    candidate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rapl = Rapl(tmp_path / "powercap")
    monkeypatch.setattr("compress.throughput.EnergyMeter", rapl.meter)
    load = Load(Layout(workers=2, intra_op_threads=1), open_sessions(candidate, 32, ALONE), TEXTS)
    for _ in range(BURSTS):
        load.burst(0.02)
    found = load.result()
    assert found.joules_per_text is not None
    texts = found.joules_per_text**-1 * 2.0 * BURSTS
    assert texts == pytest.approx(round(texts))
    assert texts >= 2 * BURSTS  # every worker answers at least one text in a burst
    assert found.energy_reason == ""


def test_one_burst_without_energy_leaves_none_for_all(
    candidate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rapl = Rapl(tmp_path / "powercap")
    monkeypatch.setattr("compress.throughput.EnergyMeter", rapl.meter)
    load = Load(Layout(workers=1, intra_op_threads=1), open_sessions(candidate, 32, ALONE), TEXTS)
    load.burst(0.01)
    (rapl.folder / "name").write_text("gone")
    load.burst(0.01)
    (rapl.folder / "name").write_text("package-0")
    load.burst(0.01)
    assert load.result().joules_per_text is None
    assert "no RAPL package" in load.result().energy_reason


def test_a_text_that_is_not_answered_stops_the_load(candidate: Path) -> None:
    sessions = open_sessions(candidate, 32, ALONE)
    load = Load(ALONE, sessions, [*TEXTS, 7])  # type: ignore[list-item]
    with pytest.raises(TypeError):
        load.burst(30.0)


def test_workers_that_run_alone_share_a_session_and_others_have_their_own(candidate: Path) -> None:
    assert len(open_sessions(candidate, 32, Layout(workers=4, intra_op_threads=1))) == 1
    assert len(open_sessions(candidate, 32, Layout(workers=1, intra_op_threads=4))) == 1
    sessions = open_sessions(candidate, 32, Layout(workers=2, intra_op_threads=2))
    assert len(sessions) == 2
    load = Load(Layout(workers=2, intra_op_threads=2), sessions, TEXTS)
    load.burst(0.02)
    assert load.result().texts_per_second > 0.0
