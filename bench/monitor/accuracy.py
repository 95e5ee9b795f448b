"""How far the label-free estimates are from the true accuracy under each shift: banking77's test
rows, half of them as the reference and half as traffic, answered by a shipped candidate.

Every text is scored once per shift; then, for each of SEEDS seeds, the rows are split anew, a
window of WINDOW rows is drawn from the traffic's half, and the estimates are compared with the
share of it that was answered rightly. A text of another data set is always answered wrongly.
"""

import csv
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeloop.models import Model, open_model
from edgeloop.records import Dataset
from edgeloop.rundir import RECORD_NAME
from edgeloop.runtime import softmax
from finetune.augment import typo
from monitor.accuracy.anchored import Traffic, anchored
from monitor.accuracy.fit import AccuracyFit, fit_accuracy
from monitor.accuracy.window import Window

SEEDS = 20
WINDOW = 1_000
AUDITED = 100
MAX_TOKENS = 128
TYPO_RATIO = 0.3
KEPT_WORDS = 3
NEW_ROWS = 800
FLOOR = 0.85
METHODS = ("atc", "cbpe", "uncalibrated", "anchored")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scored:
    """probabilities (n, classes), and which rows were answered rightly."""

    probabilities: Floats
    right: NDArray[np.bool_]

    def take(self, rows: NDArray[np.intp]) -> "Scored":
        """These rows alone."""
        return Scored(self.probabilities[rows], self.right[rows])


def measure(candidate: Path, data: Path, say: Callable[[str], object]) -> dict[str, Any]:
    """shift -> mean true accuracy, and per method the mean and the 90th percentile of |estimate -
    truth|. `candidate`: a folder with the model and its run's dataset two folders above (a run's
    candidates/NAME); `data`: the folder with banking77 and restaurant8k."""
    labels = Dataset.read(candidate.parents[1] / "dataset" / RECORD_NAME).labels
    model = open_model(candidate, MAX_TOKENS)
    rows = _banking77(data)
    texts, truth = [text for text, _ in rows], [label for _, label in rows]
    rng = random.Random(0)
    say(f"accuracy: scoring {3 * len(texts) + NEW_ROWS} texts")
    plain = _score(model, texts, truth, labels)
    typos = _score(model, [_with_typos(text, rng) for text in texts], truth, labels)
    short = [" ".join(text.split()[:KEPT_WORDS]) for text in texts]
    truncated = _score(model, short, truth, labels)
    new = _score(model, _restaurant8k(data), [""] * NEW_ROWS, labels)
    classes = np.array([labels.index(label) for label in truth])
    shifts = _shifts(plain, typos, truncated, new, classes)
    return {name: _errors(plain, draw) for name, draw in shifts.items()}


Draw = Callable[[NDArray[np.intp], np.random.Generator], Scored]


def _shifts(
    plain: Scored, typos: Scored, truncated: Scored, new: Scored, classes: NDArray[np.intp]
) -> dict[str, Draw]:
    """A window of traffic, drawn from the rows of the traffic's half."""

    def same(scored: Scored) -> Draw:
        return lambda rows, rng: scored.take(rng.choice(rows, WINDOW, replace=False))

    def few_classes(rows: NDArray[np.intp], rng: np.random.Generator) -> Scored:
        """A quarter of the classes makes nine tenths of the traffic."""
        known = np.unique(classes)
        common = np.isin(classes[rows], rng.choice(known, len(known) // 4, replace=False))
        return plain.take(_weighted(rows, common, rng))

    def hard_classes(rows: NDArray[np.intp], rng: np.random.Generator) -> Scored:
        """The quarter that is answered worst makes nine tenths of it."""
        known = np.unique(classes)
        accuracy = np.array([plain.right[classes == c].mean() for c in known])
        worst = known[np.argsort(accuracy)[: len(known) // 4]]
        return plain.take(_weighted(rows, np.isin(classes[rows], worst), rng))

    def topic(share: float) -> Draw:
        count = round(share * WINDOW)

        def draw(rows: NDArray[np.intp], rng: np.random.Generator) -> Scored:
            old = plain.take(rng.choice(rows, WINDOW - count, replace=False))
            added = new.take(rng.choice(len(new.right), count, replace=False))
            return Scored(
                np.concatenate([old.probabilities, added.probabilities]),
                np.concatenate([old.right, added.right]),
            )

        return draw

    return {
        "none": same(plain),
        "class mix": few_classes,
        "hard classes": hard_classes,
        f"typos in {TYPO_RATIO:.0%} of words": same(typos),
        f"first {KEPT_WORDS} words": same(truncated),
        "10% new topic": topic(0.1),
        "30% new topic": topic(0.3),
    }


def _weighted(
    rows: NDArray[np.intp], common: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.intp]:
    weight = np.where(common, 0.9 / max(common.sum(), 1), 0.1 / max((~common).sum(), 1))
    return rng.choice(rows, WINDOW, p=weight / weight.sum())


def _errors(plain: Scored, draw: Draw) -> dict[str, Any]:
    off: dict[str, list[float]] = {name: [] for name in METHODS}
    truths, covered, gaps = [], [], []
    for seed in range(SEEDS):
        rng = np.random.default_rng([seed, 61])
        order = rng.permutation(len(plain.right))
        half = len(order) // 2
        reference, traffic = plain.take(order[:half]), draw(order[half:], rng)
        fit = fit_accuracy(reference.probabilities, reference.right, FLOOR)
        truth = float(traffic.right.mean())
        found = _estimates(fit, traffic, rng)
        truths.append(truth)
        gaps.append(abs(found["atc"] - found["cbpe"]))
        covered.append(found["lower"] <= truth <= found["upper"])
        for name in METHODS:
            off[name].append(found[name] - truth)
    return {
        "accuracy": float(np.mean(truths)),
        "gap": float(np.mean(gaps)),
        "anchored_covers": float(np.mean(covered)),
        **{
            name: {
                "error": float(np.mean(np.abs(values))),
                "bias": float(np.mean(values)),
                "error_p90": float(np.quantile(np.abs(values), 0.9)),
            }
            for name, values in off.items()
        },
    }


def _estimates(fit: AccuracyFit, traffic: Scored, rng: np.random.Generator) -> dict[str, float]:
    window = Window(WINDOW)
    confidence = np.array([fit.confidence(p) for p in traffic.probabilities])
    for p, sure in zip(traffic.probabilities, confidence.tolist(), strict=True):
        window.add(sure, fit.is_above(p))
    drawn = rng.choice(WINDOW, AUDITED, replace=False)
    bounds = anchored(
        traffic.right[drawn].astype(np.float64),
        confidence[drawn],
        np.ones(AUDITED),
        Traffic(window.mean, window.variance, len(window)),
    )
    atc, cbpe = window.atc(fit), window.cbpe(fit)
    assert bounds is not None
    assert atc is not None
    assert cbpe is not None
    return {
        "atc": atc.value,
        "cbpe": cbpe.value,
        "uncalibrated": float(traffic.probabilities.max(axis=1).mean()),
        "anchored": bounds.estimate,
        "lower": bounds.lower,
        "upper": bounds.upper,
    }


def table(found: dict[str, Any]) -> str:
    """What `measure` found, as Markdown."""
    lines = [
        "| shift | accuracy | ATC off by | CBPE off by | highest probability off by | their gap "
        f"| with {AUDITED} labels off by |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in found.items():
        atc, cbpe, plain, labelled = (row[method] for method in METHODS)
        lines.append(
            f"| {name} | {row['accuracy']:.3f} | {_off(atc)} | {_off(cbpe)} | {_off(plain)} "
            f"| {row['gap']:.3f} | {_off(labelled)} |"
        )
    return "\n".join(lines)


def _off(method: dict[str, float]) -> str:
    return f"{method['error']:.3f} ({method['bias']:+.3f})"


def _score(
    model: Model, texts: Sequence[str], truth: Sequence[str], labels: Sequence[str]
) -> Scored:
    probabilities = np.stack([softmax(output.logits) for output in model.score(list(texts))])
    said = [labels[best] for best in probabilities.argmax(axis=1)]
    return Scored(probabilities, np.array([a == b for a, b in zip(said, truth, strict=True)]))


def _with_typos(text: str, rng: random.Random) -> str:
    return " ".join(typo(word, rng) if rng.random() < TYPO_RATIO else word for word in text.split())


def _banking77(data: Path) -> list[tuple[str, str]]:
    with (data / "banking77" / "test.csv").open(encoding="utf-8", newline="") as stream:
        return [(row["text"], row["category"]) for row in csv.DictReader(stream)]


def _restaurant8k(data: Path) -> list[str]:
    rows = json.loads((data / "restaurant8k" / "test.json").read_text(encoding="utf-8"))
    return [row["userInput"]["text"] for row in rows[:NEW_ROWS]]
