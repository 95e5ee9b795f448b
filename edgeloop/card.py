"""The bundle's README.md: a model card with Hugging Face front matter, figures from the records."""

import json
from pathlib import Path

from edgeloop.recipe import Recipe
from edgeloop.records import Candidate, Dataset, Reference

MEGABYTE = 1_000_000
NOT_TRAINED_ON = ("reference", "fresh")


def render(recipe: Recipe, dataset: Dataset, candidate: Candidate, reference: Reference) -> str:
    """The card as Markdown."""
    accuracy, measured = candidate.accuracy, candidate.measurement
    return f"""---
pipeline_tag: {recipe.task}
library_name: onnx
base_model: {json.dumps(_base_model(recipe.base), ensure_ascii=False)}
tags: [edgeloop, {candidate.kind}]
---
# {recipe.name}

Sorts a text into one of {len(dataset.labels)} classes: {", ".join(dataset.labels)}.

| | |
|---|---|
| trained on | {dataset.rows["train"]} rows |
| other rows | {_other_rows(dataset)} |
| format | {candidate.kind}, {measured.size_bytes / MEGABYTE:.1f} MB |
| test accuracy | {candidate.test_accuracy:.3f} on {dataset.rows["test"]} rows |
| against the uncompressed model | drop {accuracy.drop_ratio:.4f}, at most \
{accuracy.upper_bound_ratio:.4f} at {100 * accuracy.confidence:.12g}% confidence (\
{accuracy.rows} rows) |
| latency, one text, one thread | p50 {measured.latency_p50_ms.value:.2f} ms, \
p95 {measured.latency_p95_ms.value:.2f} ms |
| resident memory | {measured.rss_bytes / MEGABYTE:.0f} MB |
| drift alarm | {reference.reason} |

Texts longer than {recipe.serve.max_tokens} tokens are refused or cut, as the request says.
The figures were measured on the machine that manifest.json describes; they hold there.
"""


def _base_model(base: str) -> str:
    """The base without places on this machine: a hub id as it is, else a package's or folder's
    name."""
    if base.startswith("package:"):
        return base.removeprefix("package:").split("/")[0]
    return Path(base).name if base.startswith((".", "/", "~")) else base


def _other_rows(dataset: Dataset) -> str:
    return ", ".join(
        f"{count} {_split(split, dataset.reference_is_test)}"
        for split, count in dataset.rows.items()
        if split != "train"
    )


def _split(name: str, reference_is_test: bool) -> str:
    if name == "reference" and reference_is_test:
        return "reference (never trained on; the test rows are among them)"
    return f"{name} (never trained on)" if name in NOT_TRAINED_ON else name
