"""The report's plots, drawn with matplotlib when the report is written, as inline SVG."""

import io
import re
import warnings
from collections.abc import Sequence

import matplotlib

matplotlib.use("svg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from edgeloop.records import Epoch, Interval
from edgeloop.records_compress import Candidate, Certificate
from edgeloop.records_evaluation import Baseline, ReliabilityPoint, Slice

INK, ACCENT, SECOND, GRID = "#22313f", "#c8553d", "#2a7f86", "#dfe4e8"
LINE_COLORS = (SECOND, ACCENT, INK, "#8a6d9e")
LINE_STYLES = ("-", "-.", ":")  # dashes are the threshold's
# Baselines that are further than this below the best are not drawn.
DRAWN_RANGE = 0.25
STYLE = {
    "svg.hashsalt": "edgeloop",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def _svg(figure: Figure, title: str) -> str:
    """The figure as an <svg> element with a title for screen readers."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # The reader's browser has the fonts: texts stay texts in the SVG.
        warnings.filterwarnings("ignore", r"Glyph .* missing from font", UserWarning)
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'(width|height)="[\d.]+pt" ', "", text, count=2)
    return re.sub(r"<svg ", f'<svg role="img" aria-label="{title}" ', text, count=1)


def training(epochs: Sequence[Epoch], best_epoch: int, metric: str) -> str:
    """Loss on training and validation rows, and the validation figure `metric`, by epoch."""
    with plt.rc_context(STYLE):
        figure, (loss, accuracy) = plt.subplots(1, 2, figsize=(8.4, 2.9), layout="constrained")
        numbers = [e.epoch for e in epochs]
        loss.plot(numbers, [e.train_loss for e in epochs], "o-", color=INK, label="training")
        loss.plot(
            numbers, [e.validation_loss for e in epochs], "o-", color=ACCENT, label="validation"
        )
        loss.set(xlabel="epoch", ylabel="cross-entropy, nats")
        accuracy.plot(numbers, [e.validation_metric for e in epochs], "o-", color=ACCENT)
        accuracy.set(xlabel="epoch", ylabel=f"validation {metric}", ylim=(0, 1.02))
        for axes in (loss, accuracy):
            axes.axvline(best_epoch, color=SECOND, linestyle=":", label=f"kept: {best_epoch}")
            axes.locator_params(axis="x", integer=True)
        loss.legend(frameon=False)
        return _svg(figure, "Training curves")


def candidates(record: Certificate) -> str:
    """Accuracy against latency on a logarithmic axis; the area of a dot is the file size, a line
    joins those that no other beats at both, and the box is what the budget allows."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(8.4, 4.4), layout="constrained")
        front = pareto_front(record.candidates)
        axes.plot(*zip(*map(_place, front), strict=True), color=SECOND, zorder=1)
        for found in record.candidates:
            color = ACCENT if found.kind == record.chosen else INK
            area = 12 + 4 * found.measurement.size_bytes / 1e6
            axes.scatter(*_place(found), s=area, color=color, alpha=0.6, linewidths=0)
            if found.finalist or found in front:
                axes.annotate(
                    found.kind,
                    _place(found),
                    xytext=(0, 8),
                    textcoords="offset points",
                    ha="center",
                    fontsize=8,
                )
        axes.set_xscale("log")
        axes.margins(0.15, 0.15)
        _budget_box(axes, record)
        axes.set(xlabel="latency p95, ms (one text, one thread)", ylabel="accuracy, judging rows")
        return _svg(figure, "Candidates by accuracy, latency and size")


def _place(found: Candidate) -> tuple[float, float]:
    return found.measurement.latency_p95_ms.value, found.accuracy.candidate_accuracy


def pareto_front(found: Sequence[Candidate]) -> list[Candidate]:
    """Those that no other one is both faster and more accurate than, the fastest first."""
    front: list[Candidate] = []
    for candidate in sorted(found, key=lambda c: (_place(c)[0], -_place(c)[1])):
        if not front or _place(candidate)[1] > _place(front[-1])[1]:
            front.append(candidate)
    return front


def _budget_box(axes: Axes, record: Certificate) -> None:
    """The corner that latency and accuracy may lie in; a bound must, a dot alone proves nothing."""
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    reference = record.candidates[0].accuracy.reference_accuracy
    least = reference - record.budget["max_accuracy_drop"]
    most = min(record.budget.get("latency_p95_ms", right), right)
    width, height = max(most - left, 0.0), max(top - max(least, bottom), 0.0)
    axes.add_patch(
        Rectangle((left, max(least, bottom)), width, height, color=SECOND, alpha=0.12, zorder=0)
    )
    axes.set(xlim=(left, right), ylim=(bottom, top))


def evidence(series: Sequence[tuple[str, Sequence[tuple[int, float]]]], threshold: float) -> str:
    """Log evidence for drift by request, one line per replay, with the alarm's threshold."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(8.4, 2.9), layout="constrained")
        for number, (name, points) in enumerate(series):
            round_, index = divmod(number, len(LINE_COLORS))
            style = LINE_STYLES[round_ % len(LINE_STYLES)]
            if points:
                axes.plot(
                    *zip(*points, strict=True),
                    color=LINE_COLORS[index],
                    linestyle=style,
                    label=name,
                )
        axes.axhline(threshold, color=INK, linestyle="--", label="alarm")
        axes.set(xlabel="requests since the model was deployed", ylabel="ln evidence")
        axes.legend(frameon=False)
        return _svg(figure, "Evidence for drift")


def reliability(points: Sequence[ReliabilityPoint]) -> str:
    """How often the model is right against how sure it is; on the diagonal it knows itself."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(3.6, 3.4), layout="constrained")
        axes.plot((0, 1), (0, 1), color=INK, linestyle="--", linewidth=1)
        sure, right = [p.confidence for p in points], [p.accuracy for p in points]
        axes.plot(sure, right, "o-", color=ACCENT)
        lowest = max(0.0, min(*sure, *right) - 0.05)
        axes.set(xlabel="confidence", ylabel="share right", xlim=(lowest, 1.02))
        axes.set(ylim=(lowest, 1.02), aspect="equal")
        return _svg(figure, "Reliability")


def slices(judged: Sequence[Slice], overall: float) -> str:
    """The share of rows right in each slice with its interval, beside the whole's."""
    rows = [(s.name, s.right, ACCENT if s.differs else INK) for s in judged]
    return _ranges(rows, "share of rows right", "Slices", (overall, "all rows")) if rows else ""


def baselines(results: Sequence[Baseline], ship: str, words: str) -> str:
    """The headline figure of each with its interval; the one to ship in the accent colour. What is
    far below the best would squeeze the others together: it is named instead."""
    least = max(b.figure.value for b in results) - DRAWN_RANGE
    drawn = [b for b in results if b.figure.value >= least]
    far = [f"{b.name} {b.figure.value:.3f}" for b in results if b.figure.value < least]
    rows = [(b.name, b.figure, ACCENT if b.name == ship else INK) for b in drawn]
    return _ranges(rows, f"{words} (not drawn: {', '.join(far)})" if far else words, "Baselines")


def _ranges(
    rows: Sequence[tuple[str, Interval, str]],
    words: str,
    title: str,
    line: tuple[float, str] | None = None,
) -> str:
    """One interval per line, the first on top."""
    with plt.rc_context(STYLE):
        height = 0.7 + 0.28 * len(rows)
        figure, axes = plt.subplots(figsize=(7.2, height), layout="constrained")
        for place, (_, interval, color) in enumerate(rows):
            ends = [[interval.value - interval.low], [interval.high - interval.value]]
            axes.errorbar(interval.value, place, xerr=ends, fmt="o", color=color, capsize=3)
        # A dollar sign would begin a formula.
        names = [name.replace("$", r"\$") for name, _, _ in rows]
        axes.set_yticks(range(len(rows)), names)
        axes.set(xlabel=words, ylim=(len(rows) - 0.5, -0.5))
        if line is not None:
            axes.axvline(line[0], color=SECOND, linestyle=":", label=f"{line[1]}: {line[0]:.3f}")
            axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0.0, 1.0))
        return _svg(figure, title)
