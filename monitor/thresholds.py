"""The thresholds that a replay alarms at, when another interval between false alarms is tried than
the one that the reference was calibrated for.

An interval is promised by all detectors together; the primary and the secondary ones have their
shares of it, as when they were fitted (monitor.family). The thresholds of shorter intervals come
from the simulation that found the reference's own; between two of them they grow with ln of the
interval. Longer intervals are not simulated here: thresholds grow by 1 per unit of ln of the
interval then, as those of e-processes with a known reference do (Shin, Ramdas and Rinaldo 2022).
What is armed is simulated again.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monitor.family import Family, family_target, primary_target
from monitor.fit import Fitted


@dataclass(frozen=True)
class Limits:
    """The log evidence at which the primary and the secondary detectors alarm, and whether they
    may."""

    primary: float
    secondary: float
    primary_alarms: bool
    secondary_alarms: bool


@dataclass(frozen=True)
class Trial:
    """Limits for a target run length of all detectors together, and where they come from."""

    limits: Limits
    target_run_length: int
    source: str


def trial_threshold(fitted: Fitted, family: Family, target_run_length: int | None) -> Trial:
    """The reference's own, or one for another interval; a reference that is not armed and gives no
    advice alarms only where an interval is asked for, and promises none."""
    own, alarms = family.promised, fitted.armed or fitted.advisory
    secondary_too = family.armed or not fitted.armed
    lacking = "" if secondary_too else "; the secondary detectors are not armed"
    if target_run_length is None or (target_run_length == own and alarms):
        source = "the reference's own" if fitted.armed else "advice only" if alarms else "not armed"
        limits = Limits(
            fitted.threshold, family.threshold, alarms, family.armed or (alarms and secondary_too)
        )
        return Trial(limits, own, source + lacking)
    limits = Limits(
        _threshold(_known(fitted), primary_target(target_run_length)),
        _threshold(_known(family), family_target(target_run_length)),
        primary_alarms=True,
        secondary_alarms=secondary_too,
    )
    return Trial(limits, target_run_length, _source(fitted, own, target_run_length) + lacking)


def _known(fitted: Fitted | Family) -> list[tuple[float, float]]:
    """(run length, threshold), the shortest first, the reference's own last."""
    own = float(fitted.target_run_length)
    shorter = [pair for pair in fitted.shorter_thresholds if pair[0] < own]
    return [*shorter, (own, fitted.threshold)]


def _threshold(known: Sequence[tuple[float, float]], run_length: int) -> float:
    lengths, thresholds = np.array(known).T
    logs, asked = np.log(lengths), math.log(run_length)
    if logs[0] <= asked <= logs[-1]:
        return float(np.interp(asked, logs, thresholds))
    if asked > logs[-1]:
        return float(thresholds[-1] + asked - logs[-1])
    slope = 1.0
    if len(known) > 1:
        slope = (thresholds[1] - thresholds[0]) / (logs[1] - logs[0])
    return max(0.0, float(thresholds[0] - slope * (logs[0] - asked)))


def _source(fitted: Fitted, own: int, asked: int) -> str:
    if not fitted.armed:
        return "nominal; this reference is not armed, so no interval is promised"
    known = _known(fitted)
    if known[0][0] <= primary_target(asked) < known[-1][0]:
        return f"interpolated between simulated ones, up to those for {own} rows"
    return f"extrapolated from those for {own} rows; not simulated"
