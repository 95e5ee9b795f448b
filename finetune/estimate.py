"""From a part of a training that was measured to the whole of it."""

from edgeloop.recipe import Compress, Recipe
from edgeloop.records import MethodEstimate, Probe, SearchEstimate

# What a candidate's model.onnx takes per parameter; kinds that are not named are fp32.
FP32_BYTES = 4
CANDIDATE_BYTES = {"onnx-fp32": FP32_BYTES, "onnx-int8": 1}


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
    """dataset/ and adapter/ as they are; merged/, candidates/ and a bundle of the largest candidate
    by the number of their parameters. The checkpoint is gone by then."""
    kept = probe.dataset_bytes + probe.adapter_bytes
    if not probe.is_mergeable:
        return kept
    models = [FP32_BYTES * probe.total_parameters]
    candidates = [
        CANDIDATE_BYTES.get(kind, FP32_BYTES) * probe.total_parameters
        for kind in _candidates(recipe.compress)
    ]
    models += [*candidates, max(candidates)]
    return kept + sum(models) + len(models) * probe.tokenizer_bytes


def _candidates(compress: Compress) -> tuple[str, ...]:
    return tuple(CANDIDATE_BYTES) if compress.candidates == "auto" else compress.candidates


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
