"""The bundle's README.md: a model card with Hugging Face front matter, figures from the records."""

from edgeloop.recipe import Recipe
from edgeloop.records import Candidate, Dataset, Reference

MEGABYTE = 1_000_000


def render(recipe: Recipe, dataset: Dataset, candidate: Candidate, reference: Reference) -> str:
    """The card as Markdown."""
    accuracy, measured = candidate.accuracy, candidate.measurement
    rows = ", ".join(f"{count} {split}" for split, count in dataset.rows.items())
    return f"""---
pipeline_tag: {recipe.task}
library_name: onnx
base_model: {recipe.base.removeprefix("package:")}
tags: [edgeloop, {candidate.kind}]
---
# {recipe.name}

Sorts a text into one of {len(dataset.labels)} classes: {", ".join(dataset.labels)}.

| | |
|---|---|
| trained on | {rows} rows |
| format | {candidate.kind}, {measured.size_bytes / MEGABYTE:.1f} MB |
| test accuracy | {candidate.test_accuracy:.3f} on {dataset.rows["test"]} rows |
| against the uncompressed model | drop {accuracy.drop_ratio:.4f}, at most \
{accuracy.upper_bound_ratio:.4f} at {accuracy.confidence:.0%} confidence ({accuracy.rows} rows) |
| latency, one text, one thread | p50 {measured.latency_p50_ms.value:.2f} ms, \
p95 {measured.latency_p95_ms.value:.2f} ms |
| resident memory | {measured.rss_bytes / MEGABYTE:.0f} MB |
| drift alarm | {reference.reason} |

Texts longer than {recipe.serve.max_tokens} tokens are refused or cut, as the request says.
The figures were measured on the machine that manifest.json describes; they hold there.
"""
