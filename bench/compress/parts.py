"""The parts of the benchmark. Each returns plain values, which __main__ keeps and prints."""

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import compress.stage
from bench.compress.peers import side_by_side
from bench.finetune import data
from compress.cascade import CascadeSettings
from compress.evaluate import Meter, Round, timed
from edgeloop.kinds import CASCADE, model_bytes
from edgeloop.loop import run_loop
from edgeloop.models import open_model
from edgeloop.recipe import Compress, Recipe
from edgeloop.records import Dataset, MergedModel
from edgeloop.records_compress import Certificate
from edgeloop.rows import Row, read_rows
from edgeloop.rundir import RECORD_NAME, RunDir
from edgeloop.statistics import drop_upper_bound, paired_drop, quantile_interval
from edgeloop.tasks import TASKS

TASK = "text-classification"
# Another seed than the one that the defaults were found with.
EPOCHS, SEED = 5, 1
CONFIDENCE = 0.95
# Thresholds and finalists are chosen on these rows, which take no part in the training.
VALIDATION_RATIO = 0.1
AUTO_BUDGET = {"max_accuracy_drop": 0.01}
CASCADE_BUDGET = {"max_accuracy_drop": 0.005}
CASCADES = ("cascade-linear-int8",)
ROUNDS = 5
THROUGHPUT_ROUNDS = 3


@dataclass(frozen=True)
class Setting:
    """Where the data lies, what is kept, and how much of it is used."""

    data: Path
    home: Path
    quick: bool

    @property
    def recipe(self) -> Recipe:
        """banking77 with LoRA on MiniLM-L6."""
        rows = (1500, 600) if self.quick else (None, None)
        folder = data.banking77(self.data, self.home / "data", *rows, VALIDATION_RATIO)
        document = data.recipe(
            folder, TASK, {"training": {"num_train_epochs": EPOCHS, "seed": SEED}}
        )
        return Recipe.model_validate_json(json.dumps(document))

    def teacher(self) -> RunDir:
        """The merged model's run; trained where it is not there."""
        return run_loop(self.recipe, self.home, _say, until="merged").folder

    def compressed(self, name: str, **settings: Any) -> tuple[RunDir, Certificate, float]:
        """The stage on the teacher, in a run folder of its own, and the seconds that it took."""
        teacher, run = self.teacher(), RunDir(self.home / name)
        for stage in ("dataset", "merged"):
            shutil.rmtree(run.folder(stage), ignore_errors=True)
            shutil.copytree(teacher.folder(stage), run.folder(stage))
        dataset = Dataset.read(run.folder("dataset") / RECORD_NAME)
        merged = MergedModel.read(run.folder("merged") / RECORD_NAME)
        chosen = Compress.model_validate_json(json.dumps(settings))
        recipe = self.recipe.model_copy(update={"compress": chosen})
        started = time.monotonic()
        certificate = compress.stage.run(recipe, dataset, merged, run, _say)
        return run, certificate, time.monotonic() - started


def _say(line: str) -> None:
    print(f"  {line}", file=sys.stderr, flush=True)


def auto(setting: Setting) -> dict[str, Any]:
    """`auto` under a budget of one point of accuracy: the certificate, and how long it took."""
    budget = {**AUTO_BUDGET, "confidence": CONFIDENCE}
    shutil.rmtree(setting.home / "auto" / "candidates", ignore_errors=True)
    _, certificate, seconds = setting.compressed("auto", budget=budget)
    return {
        "seconds": seconds,
        "certificate": certificate.model_dump(mode="json", exclude={"files", "inputs_digest"}),
    }


def kinds(setting: Setting) -> dict[str, Any]:
    """The kinds that the goals speak of, on the same test rows and timed in turns."""
    run = setting.home / "auto" / "candidates"
    folders = {path.name: path for path in sorted(run.iterdir()) if path.is_dir()}
    rows = read_rows(setting.home / "auto" / "dataset", "test")
    labels = Dataset.read(setting.home / "auto" / "dataset" / RECORD_NAME).labels
    with tempfile.TemporaryDirectory() as scratch:
        meter = Meter(setting.recipe.serve.max_tokens, Path(scratch), _say)
        texts = TASKS[TASK].inputs(rows)
        answered, _ = meter.rounds(folders, [texts], "answering")
        rounds, _ = meter.rounds(folders, [timed(texts)] * ROUNDS, "timing")
    right = {
        kind: TASKS[TASK].right(found[0].outputs, rows, labels) for kind, found in answered.items()
    }
    return {
        kind: _figures(folders[kind], right[kind], right["onnx-fp32"], rounds[kind])
        for kind in right
    }


def _figures(folder: Path, right: Any, reference: Any, rounds: list[Round]) -> dict[str, Any]:
    latency_ms = np.stack([found.latency_ms for found in rounds], axis=1)
    drop = paired_drop(reference, right, CONFIDENCE)
    return {
        "accuracy": drop.candidate_accuracy,
        "drop": drop.drop_ratio,
        "drop_bound": drop.upper_bound_ratio,
        "p50_ms": quantile_interval(latency_ms, 0.5, CONFIDENCE).value,
        "p95_ms": quantile_interval(latency_ms, 0.95, CONFIDENCE).value,
        "size_bytes": model_bytes(folder),
        "rss_bytes": max(found.rss_bytes for found in rounds),
        "cold_start_seconds": float(np.median([found.cold_start_seconds for found in rounds])),
    }


def cascade(setting: Setting) -> dict[str, Any]:
    """A cascade certified at half a point of accuracy, its prediction against what was seen, and
    its throughput on one core against its second stage alone: tokens and n-grams included."""
    budget = {**CASCADE_BUDGET, "confidence": CONFIDENCE}
    kinds = [*CASCADES, "onnx-int8"]
    settings = {"candidates": kinds, "budget": budget, "prefer": "latency"}
    run, certificate, _ = setting.compressed("cascade", **settings)
    made = [kind for kind in CASCADES if (run.folder("candidates") / kind).exists()]
    if not made:
        return {"offered": False, "reason": certificate.left_out.get(CASCADES[0], "")}
    kind = certificate.chosen if certificate.chosen in made else made[0]
    folder = run.folder("candidates") / str(kind)
    rows = read_rows(run.folder("dataset"), "test")
    found = next(c for c in certificate.candidates if c.kind == kind)
    drop = found.accuracy
    seen = _one_core(setting, folder, run.folder("candidates") / "onnx-int8", rows)
    settings_of = CascadeSettings.open(folder / CASCADE)
    return {
        "offered": True,
        "kind": kind,
        "bounds": {c.kind: c.accuracy.upper_bound_ratio for c in certificate.candidates},
        "chosen": certificate.chosen,
        "finalists": certificate.finalists,
        "finalist_confidence": certificate.finalist_confidence,
        "drop_bound": drop.upper_bound_ratio,
        "drop_bound_alone": drop_upper_bound(drop.lost, drop.gained, drop.rows, CONFIDENCE),
        "drop": drop.drop_ratio,
        "accuracy": drop.candidate_accuracy,
        "reference_accuracy": drop.reference_accuracy,
        "predicted": settings_of.predicted.model_dump(),
        "threshold": settings_of.threshold,
        **seen,
    }


def _one_core(setting: Setting, cascade: Path, second: Path, rows: list[Row]) -> dict[str, Any]:
    """Texts per second of both, in turns, and how many the first stage answered."""
    texts = [row.input for row in rows]
    with tempfile.TemporaryDirectory() as scratch:
        meter = Meter(setting.recipe.serve.max_tokens, Path(scratch), _say)
        folders = {"cascade": cascade, "second": second}
        rounds, _ = meter.rounds(folders, [texts] * THROUGHPUT_ROUNDS, "one core")
    mean_ms = {
        kind: float(np.median([found.latency_ms.mean() for found in rounds[kind]]))
        for kind in rounds
    }
    model = open_model(cascade, setting.recipe.serve.max_tokens)
    first = sum(model.answer(text).stage == "first" for text in texts)
    return {
        "hit_ratio": first / len(texts),
        "cost_ms": mean_ms["cascade"],
        "second_ms": mean_ms["second"],
        "speedup": mean_ms["second"] / mean_ms["cascade"],
    }


def peers(setting: Setting) -> dict[str, Any]:
    """Olive's and optimum's own quantization of the same model, where they are installed."""
    run = setting.home / "auto"
    return side_by_side(run / "merged", run / "dataset", run / "candidates" / "onnx-int8")


PARTS: dict[str, Callable[[Setting], dict[str, Any]]] = {
    "auto": auto,
    "kinds": kinds,
    "cascade": cascade,
    "peers": peers,
}
