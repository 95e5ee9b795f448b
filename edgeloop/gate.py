"""Champion against challenger: both artefacts answer the same rows, on the runtime that serves.

Two questions, both at the recipe's confidence. On the frozen golden rows the challenger may not be
worse than the champion by more than `retrain.golden_margin`; on fresh labelled rows, which neither
was trained on, it must be better (exact one-sided McNemar test).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgeloop.bundle import Bundle
from edgeloop.errors import BundleError
from edgeloop.models import open_model
from edgeloop.recipe import Recipe
from edgeloop.records import Gate, PairedDrop
from edgeloop.rows import Row
from edgeloop.statistics import paired_drop, paired_superiority_p
from edgeloop.tasks import TASKS


def correct(bundle: Bundle, rows: Sequence[Row]) -> NDArray[np.bool_]:
    """Which rows the bundle answers as a person did, by its task's rule: (rows,).

    A label that the bundle does not know counts as answered wrongly.
    """
    manifest = bundle.manifest
    task = TASKS[manifest.task]
    model = open_model(bundle.path, manifest.max_tokens)
    return task.right(model.score(task.inputs(rows)), rows, manifest.labels)


def compare(
    recipe: Recipe,
    champion: Bundle,
    challenger: Bundle,
    golden: Sequence[Row],
    fresh: Sequence[Row],
) -> Gate:
    """Raises BundleError where there are no rows to compare on."""
    if not golden or not fresh:
        raise BundleError(
            f"the gate needs golden and fresh rows, there are {len(golden)} and {len(fresh)}; "
            "label more rows (`edgeloop label`)"
        )
    confidence = recipe.compress.budget.confidence
    on_golden = paired_drop(correct(champion, golden), correct(challenger, golden), confidence)
    on_fresh = paired_drop(correct(champion, fresh), correct(challenger, fresh), confidence)
    p_value = paired_superiority_p(on_fresh.lost, on_fresh.gained)
    kept = on_golden.upper_bound_ratio <= recipe.retrain.golden_margin
    better = p_value <= 1.0 - confidence
    return Gate(
        promoted=kept and better,
        reasons=(
            _golden_reason(on_golden, recipe.retrain.golden_margin, kept),
            _fresh_reason(on_fresh, p_value, confidence, better),
        ),
        golden=on_golden,
        fresh=on_fresh,
        fresh_p_value=p_value,
    )


def _golden_reason(drop: PairedDrop, margin: float, kept: bool) -> str:
    return (
        f"{'passed' if kept else 'FAILED'}: on {drop.rows} golden rows the accuracy falls by at "
        f"most {drop.upper_bound_ratio:.4f} at {100 * drop.confidence:g}% confidence, "
        f"allowed {margin:g}"
    )


def _fresh_reason(drop: PairedDrop, p_value: float, confidence: float, better: bool) -> str:
    return (
        f"{'passed' if better else 'FAILED'}: on {drop.rows} fresh rows {drop.gained} answers "
        f"turned right and {drop.lost} turned wrong, p = {p_value:.2g}, "
        f"needed {1.0 - confidence:.2g} or less"
    )
