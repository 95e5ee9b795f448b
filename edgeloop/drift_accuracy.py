"""The accuracy in a drift report: measured where labels are known, estimated where they are not."""

import math

import numpy as np
from numpy.typing import NDArray

from edgeloop import svg
from edgeloop.findings import Accuracy, DriftReport, Estimate
from edgeloop.page import paragraph

ACCURACY_WINDOWS = 30
LEAST_ACCURACY_ROWS = 20
LEAST_ESTIMATED_ROWS = 50
Z_95 = 1.96


def measured(right: NDArray[np.float64]) -> tuple[Accuracy, ...]:
    """Rows with a label in windows of as many of them."""
    known = np.flatnonzero(~np.isnan(right))
    width = max(LEAST_ACCURACY_ROWS, -(-len(known) // ACCURACY_WINDOWS))
    return tuple(
        Accuracy(int(own[-1]) + 1, int(right[own].sum()), len(own))
        for own in (known[start : start + width] for start in range(0, len(known), width))
        if len(own) >= LEAST_ACCURACY_ROWS
    )


def estimated(estimates: NDArray[np.float64]) -> tuple[Estimate, ...]:
    """Estimates (rows, 2) in windows of as many rows."""
    width = max(LEAST_ESTIMATED_ROWS, -(-len(estimates) // ACCURACY_WINDOWS))
    starts = range(0, len(estimates) - LEAST_ESTIMATED_ROWS + 1, width)
    found = (
        estimate(estimates, np.arange(start, min(start + width, len(estimates))))
        for start in starts
    )
    return tuple(own for own in found if own is not None)


def estimate(estimates: NDArray[np.float64], rows: NDArray[np.int64]) -> Estimate | None:
    """Of those rows, as far as they are finite; None where none is or nothing is estimated."""
    if not len(estimates):
        return None
    known = rows[~np.isnan(estimates[rows, 0])]
    if not len(known):
        return None
    atc, cbpe = estimates[known].mean(axis=0).tolist()
    return Estimate(int(rows[-1]) + 1, len(known), atc, cbpe)


def accuracy_section(report: DriftReport) -> str:
    """The part of the page, empty where nothing is known."""
    if not (report.accuracy or report.estimates):
        return ""
    windows = [(float(own.row), own.right / own.labelled, *wilson(own)) for own in report.accuracy]
    lines = [
        ("second line", [(float(own.row), own.atc) for own in report.estimates]),
        ("second dashed line", [(float(own.row), own.cbpe) for own in report.estimates]),
    ]
    said, keys = [], ""
    if report.estimates:
        said.append(
            "Estimated without labels, in windows of as many rows, from how sure the model is "
            "(ATC, CBPE): right where sureness keeps its meaning, which drift may change."
        )
        keys += '<span class="key second"></span>ATC<span class="key dashed"></span>CBPE'
    if report.accuracy:
        said.append(
            "Measured on rows with a label, in windows of as many; the band is each share's 95% "
            "interval."
        )
        keys += '<span class="key accent"></span>measured'
    plot = svg.share_over_time(windows, "share right", lines, report.floor)
    return f'<h2>Accuracy</h2>{paragraph(" ".join(said))}{plot}<p class="soft">{keys}</p>'


def wilson(own: Accuracy) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (Wilson 1927)."""
    n, share = own.labelled, own.right / own.labelled
    middle = (share + Z_95**2 / (2 * n)) / (1 + Z_95**2 / n)
    half = Z_95 * math.sqrt(share * (1 - share) / n + Z_95**2 / (4 * n * n)) / (1 + Z_95**2 / n)
    return max(middle - half, 0.0), min(middle + half, 1.0)
