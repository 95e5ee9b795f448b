"""The report's sections on how good a model is on the test rows, and on the baselines beside it.

The texts of the worst errors are read from the run folder and are in this local file only.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeloop import plots
from edgeloop.columns import MEGABYTE, percent
from edgeloop.errors import EdgeloopError
from edgeloop.page import folded, paragraph, spread, table
from edgeloop.records import Adapter
from edgeloop.records_evaluation import Baselines, Calibration, Confusion, Evaluation, Slice
from edgeloop.rundir import RECORD_NAME
from finetune.evaluation.errors import ERRORS
from finetune.evaluation.judged import HEADLINE
from finetune.evaluation.overfitting import overfitting_note

SHOWN_CONFUSIONS = 20
# A reader finds the weak classes at the top; the others are one click away.
SHOWN_CLASSES = 12
FIGURE_NAMES = {
    "accuracy": "accuracy",
    "exact_match": "rows with exactly the right labels",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "span_f1": "F1 of exact spans",
    "span_precision": "precision of spans",
    "span_recall": "recall of spans",
    "boundary_f1": "F1 of span ends, whatever the type",
    "recall_at_1": "recall@1",
    "recall_at_10": "recall@10",
    "mrr_at_10": "MRR@10",
    "ndcg_at_10": "nDCG@10",
}


def training_note(adapter: Adapter) -> str:
    """Where training and validation part; empty where they do not."""
    note = overfitting_note(adapter.epochs)
    return paragraph(note) if note else ""


def evaluation(folder: Path) -> str:
    """The section of a run folder; empty where the run was not evaluated."""
    try:
        record = Evaluation.read(folder / "evaluation" / RECORD_NAME)
    except EdgeloopError:
        return ""
    return "".join(
        [
            "<h3>On the test rows</h3>",
            _figures(record),
            _calibration(record),
            _slices(record),
            _classes(record),
            _confusion(record.confusion),
            _errors(_read_errors(folder / "evaluation" / ERRORS)),
        ]
    )


def _figures(record: Evaluation) -> str:
    rows = [
        (FIGURE_NAMES.get(name, name), figure.value, spread(figure))
        for name, figure in sorted(
            record.figures.items(), key=lambda item: item[0] != record.headline
        )
    ]
    if record.brier is not None:
        rows.append(("Brier score (0 is best)", record.brier, ""))
    if record.calibration is not None:
        rows.append(("expected calibration error", record.calibration.ece, ""))
    what = "queries" if record.task == "text-embedding" else "rows"
    return table(("figure", "value", f"{percent(record.confidence)} interval"), rows) + paragraph(
        f"{record.rows:,} {what}; intervals by BCa bootstrap over {what}, "
        f"{record.resamples:,} resamples."
    )


def _calibration(record: Evaluation) -> str:
    found: Calibration | None = record.calibration
    if found is None:
        return ""
    decisions = sum(point.decisions for point in found.points)
    excess = sum(p.decisions * (p.confidence - p.accuracy) for p in found.points) / decisions
    word = "more" if excess > 0 else "less"
    plot = f'<div class="narrow">{plots.reliability(found.points)}</div>'
    return plot + paragraph(
        f"The model is {word} sure than it is right, by {100 * abs(excess):.1f} points on average. "
        f"The expected calibration error is over {len(found.points)} bins of equal mass; it is "
        "biased upwards where there are few decisions."
    )


def _slices(record: Evaluation) -> str:
    if not record.slices:
        return ""
    said = (
        f"Weaker than the whole by more than chance: {record.worst_slice}."
        if record.worst_slice is not None
        else "No slice is weaker than the whole by more than chance (Holm's correction)."
    )
    rows = [
        (s.column, s.value, s.rows, s.right.value, spread(s.right), _say(s)) for s in record.slices
    ]
    head = ("slice", "value", "rows", "right", f"{percent(record.confidence)} interval", "")
    return (
        "<h3>Slices</h3>"
        + paragraph(f"Rows right as a whole: {record.right_ratio:.3f}. {said}")
        + plots.slices([s for s in record.slices if not s.too_few], record.right_ratio)
        + table(head, rows)
    )


def _say(found: Slice) -> str:
    if found.too_few:
        return "too few rows to judge"
    return "weaker than the whole" if found.differs else ""


def _classes(record: Evaluation) -> str:
    if not record.classes:
        return ""
    head = ("class", "test rows" if "span_f1" not in record.figures else "spans")
    rows = [
        (c.name, c.support, c.precision, c.recall, c.f1)
        for c in sorted(record.classes, key=lambda c: (c.f1, c.name))
    ]
    whole = (*head, "precision", "recall", "F1")
    more = rows[SHOWN_CLASSES:]
    rest = folded(f"{len(more)} more, with a higher F1", table(whole, more)) if more else ""
    return f"<h3>Per class, the weakest first</h3>{table(whole, rows[:SHOWN_CLASSES])}{rest}"


def _confusion(cells: Sequence[Confusion]) -> str:
    if not cells:
        return ""
    shown = [(c.truth, c.answer, c.rows) for c in cells[:SHOWN_CONFUSIONS]]
    left = len(cells) - len(shown)
    rest = paragraph(f"{left} more pairs in evaluation/{RECORD_NAME}.") if left else ""
    return f"<h3>What was taken for what</h3>{table(('truth', 'answer', 'rows'), shown)}{rest}"


def _read_errors(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]
    except (OSError, ValueError):
        return []  # it holds texts, and may have been removed for that


def _errors(mistakes: Sequence[dict[str, Any]]) -> str:
    if not mistakes:
        return ""
    rows = [
        (
            mistake["id"],
            mistake["text"]
            if not mistake["text_pair"]
            else f"{mistake['text']} | {mistake['text_pair']}",
            mistake["truth"] or "(none)",
            mistake["answer"] or "(none)",
            mistake["score"],
        )
        for mistake in mistakes
    ]
    head = ("id", "text", "truth", "answer", "score")
    return folded(
        f"The {len(rows)} worst errors, with texts: for this machine only", table(head, rows)
    )


def baselines(folder: Path) -> str:
    """The section of a run folder; empty where no baselines were measured."""
    try:
        record = Baselines.read(folder / "baselines" / RECORD_NAME)
    except EdgeloopError:
        return ""
    words = HEADLINE[record.task][1]
    rows = [
        (
            f"{b.name} (ship)" if b.name == record.ship else b.name,
            b.figure.value,
            spread(b.figure),
            "" if b.loss is None else f"{b.loss.value:+.3f} ({spread(b.loss)})",
            b.train_seconds,
            b.latency_p50_ms,
            b.size_bytes / MEGABYTE,
        )
        for b in record.results
    ]
    head = (
        *("baseline", words, f"{percent(record.interval_confidence)} interval"),
        *("fine-tuned is better by", "training s", "p50 ms", "MB"),
    )
    return (
        "<h3>Is fine-tuning worth it here?</h3>"
        + paragraph(f"{record.reason[0].upper()}{record.reason[1:]}.")
        + table(head, rows)
        + plots.baselines(record.results, record.ship, words)
        + paragraph(
            f"{record.train_rows:,} training and {record.test_rows:,} test rows, the same for all. "
            "Latency is of one text at a time, on the machine that trained; cheapest first."
        )
    )
