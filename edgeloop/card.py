"""The bundle's README.md: a model card with Hugging Face front matter, figures from the records."""

import json
from dataclasses import dataclass
from pathlib import Path

from edgeloop.abstain import Abstention
from edgeloop.recipe import Recipe
from edgeloop.records import Dataset, Reference
from edgeloop.records_compress import Candidate

MEGABYTE = 1_000_000
NOT_TRAINED_ON = ("reference", "fresh")


@dataclass(frozen=True)
class Words:
    """How a task is spoken of: `does` what with {count} {labels}, and what the test figure is."""

    pipeline_tag: str
    does: str
    measure: str


TASK_WORDS = {
    "text-classification": Words(
        "text-classification",
        "Sorts a text into one of {count} classes: {labels}.",
        "test accuracy",
    ),
    "multi-label-classification": Words(
        "text-classification",
        "Gives a text any number of {count} labels, or none: {labels}.",
        "test rows with exactly the right labels",
    ),
    "token-classification": Words(
        "token-classification",
        "Finds entities of {count} kinds in a text: {labels}.",
        "test rows answered exactly (every entity, nothing else)",
    ),
    "text-embedding": Words(
        "sentence-similarity",
        "Turns a text into a vector of length 1; texts that belong together lie near one another.",
        "test rows whose own text is the nearest (recall at 1 among test and reference rows)",
    ),
}


def render(
    recipe: Recipe,
    dataset: Dataset,
    candidate: Candidate,
    reference: Reference,
    abstention: Abstention,
) -> str:
    """The card as Markdown."""
    words = TASK_WORDS[recipe.task]
    accuracy, measured = candidate.accuracy, candidate.measurement
    return f"""---
pipeline_tag: {words.pipeline_tag}
library_name: onnx
base_model: {json.dumps(_base_model(recipe.base), ensure_ascii=False)}
tags: [edgeloop, {candidate.kind}]
---
# {recipe.name}

{words.does.format(count=len(dataset.labels), labels=", ".join(dataset.labels))}

| | |
|---|---|
| trained on | {dataset.rows["train"]} rows |
| other rows | {_other_rows(dataset)} |
| format | {candidate.kind}, {measured.size_bytes / MEGABYTE:.1f} MB |
| {words.measure} | {candidate.test_accuracy:.3f} on {dataset.rows["test"]} rows |
| against the uncompressed model | drop {accuracy.drop_ratio:.4f}, at most \
{accuracy.upper_bound_ratio:.4f} at {100 * accuracy.confidence:.12g}% confidence (\
{accuracy.rows} rows) |
| latency, one text, one thread | p50 {measured.latency_p50_ms.value:.2f} ms, \
p95 {measured.latency_p95_ms.value:.2f} ms |
| resident memory | {measured.rss_bytes / MEGABYTE:.0f} MB |
| drift alarm | {reference.reason} |
| marked as out of scope | {abstention.reason} |

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
