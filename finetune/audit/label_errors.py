"""Labels that are probably wrong: confident learning (cleanlab) on out-of-fold probabilities.

A suspect is a row whose given label a model that never saw it (nor its near-duplicates) does not
predict. They are ranked by the probability of the given label, and as many are named as
cleanlab estimates there to be, at most MAX_SHARE of the rows.
"""

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from edgeloop.recipe import Recipe
from finetune.audit.context import Context, Splits
from finetune.audit.finding import Finding, count
from finetune.audit.folds import FOLDS, assign_folds, out_of_fold

# Each fold and its complement need the class, from texts that are not near one another.
MIN_CLASS_GROUPS = FOLDS
MAX_SHARE = 0.1
KIND = "label-errors"


def check_label_errors(splits: Splits, recipe: Recipe, context: Context) -> list[Finding]:
    """For tasks with one label per row; over all splits, since a wrong test label misleads too."""
    if not recipe.data.audit.label_errors or recipe.task != "text-classification":
        return []
    positions, small = _judged(context)
    found = [_skipped(small)] if small else []
    names = sorted({context.placed[position].row.label for position in positions})
    if len(names) < 2:
        return [_not_judged()]
    index = {name: number for number, name in enumerate(names)}
    labels = np.array([index[context.placed[position].row.label] for position in positions])
    groups = [context.near_groups[position] for position in positions]
    texts = [context.texts[position] for position in positions]
    folds = assign_folds(labels.tolist(), groups)
    if not _learnable(labels, folds):
        return [_not_judged()]
    try:
        probabilities = out_of_fold(texts, labels, folds)
    except ValueError:  # no word or character is in two rows: there is nothing to learn from
        return [_not_judged()]
    suspects = suspected(labels, probabilities)
    if len(suspects):
        found.append(_finding(context, positions, suspects, labels, probabilities, names))
    return found


def suspected(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
    """Row numbers, the most suspect first."""
    from cleanlab.count import num_label_issues
    from cleanlab.filter import find_label_issues

    ranked: NDArray[np.int64] = find_label_issues(
        labels,
        probabilities,
        return_indices_ranked_by="self_confidence",
        filter_by="predicted_neq_given",
        n_jobs=1,
    )
    most = min(int(num_label_issues(labels, probabilities)), int(MAX_SHARE * len(labels)))
    return ranked[:most]


def _judged(context: Context) -> tuple[list[int], list[str]]:
    """Positions of the rows of classes that are large enough, and the names of the others."""
    groups: dict[str, set[int]] = defaultdict(set)
    for placed, group in zip(context.placed, context.near_groups, strict=True):
        groups[placed.row.label].add(group)
    small = sorted(name for name, members in groups.items() if len(members) < MIN_CLASS_GROUPS)
    positions = [i for i, placed in enumerate(context.placed) if placed.row.label not in small]
    return positions, small


def _learnable(labels: NDArray[np.int64], folds: NDArray[np.int64]) -> bool:
    """Whether every class has rows outside every fold."""
    classes = set(labels.tolist())
    return all(set(labels[folds != fold].tolist()) == classes for fold in range(FOLDS))


def _finding(
    context: Context,
    positions: list[int],
    suspects: NDArray[np.int64],
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    names: list[str],
) -> Finding:
    rows = [context.placed[positions[suspect]] for suspect in suspects]
    best = probabilities[suspects].argmax(axis=1)
    return Finding(
        kind=KIND,
        severity="warning",
        message=f"{count(len(rows), 'row')} whose label is probably wrong, the most suspect first",
        rows=tuple(placed.row.id for placed in rows),
        suggestion="look at the first of them; `edgeloop check RECIPE --fix` lists them for "
        "review and changes none",
        details=tuple(
            {
                "row": placed.row.id,
                "split": placed.split,
                "given": placed.row.label,
                "suggested": names[label],
                "given_probability": round(float(probabilities[suspect, labels[suspect]]), 4),
                "suggested_probability": round(float(probabilities[suspect, label]), 4),
            }
            for placed, suspect, label in zip(rows, suspects, best, strict=True)
        ),
        fix="review",
    )


def _skipped(small: list[str]) -> Finding:
    return Finding(
        kind="label-errors-skipped",
        severity="note",
        message=f"labels were not judged in {len(small)} of the classes: fewer than "
        f"{MIN_CLASS_GROUPS} different texts",
        suggestion="add rows, or look through them by eye",
        details=tuple({"class": name} for name in small),
    )


def _not_judged() -> Finding:
    return Finding(
        kind="label-errors-skipped",
        severity="note",
        message="labels were not judged: two classes with enough different texts that share words "
        "are needed",
        suggestion="add rows, or look through them by eye",
    )
