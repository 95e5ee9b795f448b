"""From a part of a training that was measured to the whole of it."""

from typing import get_args

from edgeloop.recipe import CandidateKind, Compress, Recipe
from edgeloop.records import MethodEstimate, Probe, SearchEstimate

# What a candidate takes per parameter of the merged model, at most: a student has fewer than that,
# how many fewer depends on its vocabulary. Kinds that are not named take 1 with int8 in their name,
# else FP32_BYTES.
FP32_BYTES = 4
CANDIDATE_BYTES = {
    "onnx-fp16": 2,
    "onnx-int8-mixed": 2,
    "onnx-w8": 1,
    "onnx-w4": 1,
    "trimmed-w4": 1,
    "linear-ngrams": 1,
    "cascade-static-int8": 1 + FP32_BYTES,
}
# Their fp32 exports lie there while the stage is under way.
STUDENTS = ("student-half", "student-third", "student-narrow", "pruned", "static")


def estimate_method(recipe: Recipe, probe: Probe) -> MethodEstimate:
    """A run with the probe's method. All epochs are counted: early stopping can only shorten."""
    seconds = training_seconds(recipe, probe, probe.train_rows, probe.validation_rows)
    return MethodEstimate(
        method=probe.method,
        memory_bytes=probe.peak_bytes,
        seconds=probe.start_seconds + seconds + probe.save_seconds,
        disk_bytes=disk_bytes(recipe, probe),
        checkpoint_bytes=probe.checkpoint_bytes,
        trainable_parameters=probe.trainable_parameters,
        trainable_ratio=probe.trainable_parameters / probe.total_parameters,
    )


def training_seconds(recipe: Recipe, probe: Probe, rows: int, judged: int) -> float:
    """Every epoch: the rows, those that it is judged by, and its checkpoint."""
    epoch = rows * probe.train_row_seconds + judged * probe.validation_row_seconds
    return recipe.finetune.training.num_train_epochs * (epoch + probe.checkpoint_seconds)


def disk_bytes(recipe: Recipe, probe: Probe) -> int:
    """At its fullest: dataset/ and adapter/ as they are, merged/ and candidates/ by the number of
    parameters, and either the exports that candidates are made from or a bundle of the largest one.
    The checkpoint is gone by then."""
    kept = probe.dataset_bytes + probe.adapter_bytes
    if not probe.is_mergeable:
        return kept
    kinds = _candidates(recipe.compress)
    candidates = [_bytes_per_parameter(kind) for kind in kinds]
    exports = 1 + sum(any(kind.startswith(name) for kind in kinds) for name in STUDENTS)
    either = max([FP32_BYTES] * exports, [max(candidates)], key=sum)
    models = [FP32_BYTES, *candidates, *either]
    return kept + sum(models) * probe.total_parameters + len(models) * probe.tokenizer_bytes


def _bytes_per_parameter(kind: str) -> int:
    return CANDIDATE_BYTES.get(kind, 1 if "int8" in kind else FP32_BYTES)


def _candidates(compress: Compress) -> tuple[str, ...]:
    return get_args(CandidateKind) if compress.candidates == "auto" else compress.candidates


def estimate_search(recipe: Recipe, probe: Probe) -> SearchEstimate | None:
    """What the recipe's search adds. Workers share the cores: they need more memory, and together
    the time of one. A trial that runs when the minutes are over is trained to its end."""
    search = recipe.finetune.search
    if search is None:
        return None
    judged = round(probe.train_rows * search.holdout)
    trial = training_seconds(recipe, probe, probe.train_rows - judged, judged)
    limits = []
    if search.n_trials is not None:
        limits.append(search.n_trials * trial)
    if search.timeout_minutes is not None:
        limits.append(search.timeout_minutes * 60.0 + trial)
    return SearchEstimate(
        trials=search.n_trials,
        trial_seconds=trial,
        seconds=min(limits),
        memory_bytes=search.n_jobs * probe.peak_bytes,
    )
