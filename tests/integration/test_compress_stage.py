"""The stage on a tiny real BERT: candidates, certificate, resume, and what it refuses."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

import compress.stage
from compress.candidates import CANDIDATES, MERGED, Encoder
from compress.inspect import Inspected, inspect
from compress.job import Job
from edgeloop.errors import EngineError, ExportError
from edgeloop.recipe import Recipe
from edgeloop.records_compress import Candidate, Certificate
from edgeloop.rundir import RunDir
from edgeloop.runtime import OnnxModel
from tests.merged_run import MAX_TOKENS, MergedRun, make_recipe, make_run

GENEROUS = {"max_accuracy_drop": 0.5}
KINDS = ("onnx-fp32", "onnx-int8")


@pytest.fixture(scope="module")
def prepared(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> MergedRun:
    return make_run(tiny_bert, tmp_path_factory.mktemp("prepared") / "run")


@pytest.fixture
def fresh(prepared: MergedRun, tmp_path: Path) -> MergedRun:
    return copied(prepared, tmp_path / "run")


def copied(made: MergedRun, root: Path) -> MergedRun:
    shutil.copytree(made.folder.root, root)
    return replace(made, folder=RunDir(root))


def run(recipe: Recipe, made: MergedRun, lines: list[str] | None = None) -> Certificate:
    say = (lambda line: None) if lines is None else lines.append
    return compress.stage.run(recipe, made.dataset, made.merged, made.folder, say)


@pytest.fixture(scope="module")
def done(
    prepared: MergedRun, tmp_path_factory: pytest.TempPathFactory
) -> tuple[MergedRun, Certificate]:
    made = copied(prepared, tmp_path_factory.mktemp("done") / "run")
    return made, run(make_recipe(candidates=KINDS, budget=GENEROUS), made)


def by_kind(certificate: Certificate) -> dict[str, Candidate]:
    return {candidate.kind: candidate for candidate in certificate.candidates}


def test_the_smallest_candidate_within_the_budget_is_chosen(
    done: tuple[MergedRun, Certificate],
) -> None:
    made, certificate = done
    candidates = by_kind(certificate)
    assert set(candidates) == set(KINDS)
    sizes = {kind: c.measurement.size_bytes for kind, c in candidates.items()}
    assert sizes["onnx-int8"] < sizes["onnx-fp32"]
    assert certificate.chosen == "onnx-int8"
    assert certificate.budget == GENEROUS
    assert not any(candidate.misses for candidate in certificate.candidates)
    assert Certificate.read(made.folder.folder("candidates") / "record.json") == certificate


def test_every_candidate_is_a_folder_that_answers_and_says_what_it_is(
    done: tuple[MergedRun, Certificate],
) -> None:
    made, certificate = done
    merged_tokenizer = made.folder.folder("merged") / "tokenizer.json"
    for kind, candidate in by_kind(certificate).items():
        folder = made.folder.folder("candidates") / kind
        assert Candidate.read(folder / "record.json") == candidate
        assert {entry.path for entry in candidate.files} == {"model.onnx", "tokenizer.json"}
        assert (folder / "tokenizer.json").read_bytes() == merged_tokenizer.read_bytes()
        model = OnnxModel(folder / "model.onnx", folder / "tokenizer.json", MAX_TOKENS)
        assert model.score(["my invoice is late"])[0].logits.shape == (3,)
    listed = {entry.path for entry in certificate.files}
    assert listed == {
        f"{kind}/{name}"
        for kind in KINDS
        for name in ("model.onnx", "tokenizer.json", "record.json")
    }


def test_fp32_answers_as_the_merged_model_on_all_judging_rows(
    done: tuple[MergedRun, Certificate],
) -> None:
    fp32 = by_kind(done[1])["onnx-fp32"]
    assert (fp32.accuracy.lost, fp32.accuracy.gained) == (0, 0)
    assert (fp32.accuracy.rows, fp32.test_accuracy) == (300, 1.0)
    assert fp32.exporter == "dynamo"
    assert fp32.parity is not None
    assert fp32.parity.rows == 400
    assert fp32.parity.max_abs_difference <= 1e-4


def test_int8_weights_are_int8_and_its_losses_are_counted(
    done: tuple[MergedRun, Certificate],
) -> None:
    made, certificate = done
    int8 = by_kind(certificate)["onnx-int8"]
    folder = made.folder.folder("candidates") / "onnx-int8"
    model = OnnxModel(folder / "model.onnx", folder / "tokenizer.json", MAX_TOKENS)
    lines = (made.folder.folder("dataset") / "test.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    answers = [int(o.logits.argmax()) for o in model.score([row["text"] for row in rows])]
    labels = made.merged.labels
    right = np.mean([labels[a] == row["label"] for a, row in zip(answers, rows, strict=True)])
    assert int8.test_accuracy == pytest.approx(right)
    assert int8.accuracy.lost > 0
    assert int8.accuracy.upper_bound_ratio > int8.accuracy.drop_ratio


def test_a_finished_stage_is_skipped(done: tuple[MergedRun, Certificate]) -> None:
    made, certificate = done
    lines: list[str] = []
    assert run(make_recipe(candidates=KINDS, budget=GENEROUS), made, lines) == certificate
    assert lines == []


def test_another_budget_is_judged_anew_and_may_leave_only_fp32(
    done: tuple[MergedRun, Certificate], tmp_path: Path
) -> None:
    made = copied(done[0], tmp_path / "run")
    certificate = run(make_recipe(candidates=KINDS, budget={"max_accuracy_drop": 0.015}), made)
    candidates = by_kind(certificate)
    assert certificate.chosen == "onnx-fp32"
    assert candidates["onnx-fp32"].misses == ()
    assert candidates["onnx-int8"].misses[0].startswith("max_accuracy_drop ")


def test_an_infeasible_budget_is_a_result_with_every_miss(fresh: MergedRun) -> None:
    budget = {"latency_p95_ms": 1e-6, "size_mb": 1e-6, "rss_mb": 1e-6, "max_accuracy_drop": 1e-6}
    certificate = run(make_recipe(candidates=KINDS, budget=budget), fresh)
    assert certificate.chosen is None
    for candidate in certificate.candidates:
        assert {miss.split()[0] for miss in candidate.misses} == set(budget)


def test_a_candidate_that_cannot_be_built_is_told_and_the_others_go_on(
    fresh: MergedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CANDIDATES, "onnx-int8", Encoder(MERGED, ("no-such-step",)))
    lines: list[str] = []
    certificate = run(make_recipe(candidates=KINDS, budget=GENEROUS), fresh, lines)
    assert [candidate.kind for candidate in certificate.candidates] == ["onnx-fp32"]
    assert "no-such-step" in certificate.left_out["onnx-int8"]
    assert any("onnx-int8 left out" in line and "no-such-step" in line for line in lines)
    assert not (fresh.folder.folder("candidates") / "onnx-int8").exists()


def test_a_worker_that_is_killed_takes_no_other_candidate_with_it(fresh: MergedRun) -> None:
    stop = threading.Event()
    killed: list[int] = []

    def hunt() -> None:
        while not stop.is_set() and not killed:
            for child in psutil.Process().children():
                with contextlib.suppress(psutil.Error):
                    words = child.cmdline()
                    if "compress.build" in words and words[-1] == "int8":
                        child.kill()
                        killed.append(child.pid)
            time.sleep(0.005)

    hunter = threading.Thread(target=hunt)
    hunter.start()
    try:
        certificate = run(make_recipe(candidates=KINDS, budget=GENEROUS), fresh)
    finally:
        stop.set()
        hunter.join()
    assert killed
    assert [candidate.kind for candidate in certificate.candidates] == ["onnx-fp32"]
    assert "its process was stopped by SIGKILL" in certificate.left_out["onnx-int8"]


def test_where_no_candidate_is_built_it_is_an_error_with_every_reason(
    fresh: MergedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CANDIDATES, "onnx-fp32", Encoder(MERGED, ("no-such-step",)))
    with pytest.raises(ExportError, match=r"no candidate could be built .*onnx-fp32.*no-such-step"):
        run(make_recipe(candidates=["onnx-fp32"], budget=GENEROUS), fresh)
    assert not fresh.folder.folder("candidates").exists()


def test_more_tokens_than_the_model_reads_are_refused(fresh: MergedRun) -> None:
    with pytest.raises(ExportError, match=r"max_tokens is 65, this model reads at most 64"):
        run(make_recipe(max_tokens=65), fresh)


def test_a_merged_folder_without_weights_is_refused(fresh: MergedRun) -> None:
    (fresh.folder.folder("merged") / "model.safetensors").unlink()
    with pytest.raises(ExportError, match=r"model\.safetensors"):
        run(make_recipe(), fresh)


def test_killed_while_measuring_it_ends_with_the_same_models_as_a_run_elsewhere(
    done: tuple[MergedRun, Certificate], fresh: MergedRun
) -> None:
    recipe = make_recipe(candidates=KINDS, budget=GENEROUS)
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from compress.stage import run\n"
        "from edgeloop.recipe import Recipe\n"
        "from edgeloop.records import Dataset, MergedModel\n"
        "from edgeloop.rundir import RunDir\n"
        "recipe, dataset, merged = sys.argv[1:4]\n"
        "def die(line):\n"
        "    if line.startswith('timing onnx-int8: round 2'):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "run(Recipe.model_validate_json(recipe), Dataset.model_validate_json(dataset),\n"
        "    MergedModel.model_validate_json(merged), RunDir(Path(sys.argv[4])), die)\n"
    )
    documents = [d.model_dump_json() for d in (recipe, fresh.dataset, fresh.merged)]
    killed = subprocess.run(
        [sys.executable, "-c", code, *documents, str(fresh.folder.root)],
        capture_output=True,
        check=False,
        timeout=300,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not fresh.folder.folder("candidates").exists()
    lines: list[str] = []
    certificate = run(recipe, fresh, lines)
    assert not any("exporting" in line or "built" in line for line in lines), "all was complete"
    for kind, candidate in by_kind(done[1]).items():
        assert by_kind(certificate)[kind].files == candidate.files
        assert by_kind(certificate)[kind].accuracy == candidate.accuracy
    found = {path.name for path in fresh.folder.folder("candidates").iterdir()}
    assert found == {*KINDS, "record.json"}


def test_a_finalist_that_fails_when_it_is_inspected_is_told_and_the_others_go_on(
    fresh: MergedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def inspect_or_fail(job: Job, folder: Path) -> Inspected:
        if folder.name == "onnx-int8":
            raise EngineError("its threads do not start")
        return inspect(job, folder)

    monkeypatch.setattr("compress.judge.inspect", inspect_or_fail)
    certificate = run(make_recipe(candidates=KINDS, budget=GENEROUS), fresh)
    assert certificate.chosen == "onnx-fp32"
    assert certificate.left_out == {"onnx-int8": "its threads do not start"}
