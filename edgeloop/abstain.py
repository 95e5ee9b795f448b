"""From which confidence on an answer stands: a conformal quantile of the shipped artefact's scores
on rows that no training saw.

With n calibration rows and k = floor(ratio * (n + 1)), a further row that is exchangeable with them
scores below their k-th smallest score with probability at most k / (n + 1), whatever the scores'
distribution and with ties. Source: Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random
World" (2005), section 4.1. The promise is an average over calibration sets, not one for each.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgeloop.models import Model
from edgeloop.rows import Row
from edgeloop.tasks import Task


@dataclass(frozen=True)
class Abstention:
    """`below`: an answer of a lower score is out of scope; None where that is never said, with the
    `reason` in words either way."""

    below: float | None
    rows: int
    reason: str


def threshold(scores: Sequence[float], max_ratio: float) -> float | None:
    """The k-th smallest score; None where there are too few rows for k = 1.

    Raises ValueError where max_ratio is not within (0, 1) or a score is not finite.
    """
    if not 0.0 < max_ratio < 1.0:
        raise ValueError(f"max_ratio {max_ratio} is not within (0, 1)")
    if not all(math.isfinite(score) for score in scores):
        raise ValueError("scores are not finite")
    k = math.floor(max_ratio * (len(scores) + 1))
    return sorted(scores)[k - 1] if k else None


def calibrate(
    task: Task, model: Model, labels: Sequence[str], rows: Sequence[Row], max_ratio: float
) -> Abstention:
    """The threshold for a model of `task` from reference rows, answered by the model itself."""
    if task.width(labels) == 0:
        return Abstention(None, 0, "never: vectors have no confidence")
    outputs = model.score(task.inputs(rows))
    below = threshold([task.answer(output, labels).score for output in outputs], max_ratio)
    if below is None:
        needed = math.ceil(1.0 / max_ratio) - 1
        reason = (
            f"never: {len(rows)} reference rows are too few to promise at most {max_ratio:g} of "
            f"ordinary requests, {needed} are needed"
        )
        return Abstention(None, len(rows), reason)
    reason = (
        f"below a score of {below:.4f}; at most {max_ratio:g} of ordinary requests "
        f"(calibrated on {len(rows)} reference rows)"
    )
    return Abstention(below, len(rows), reason)
