"""The thresholds that a replay alarms at, when another interval between false alarms is tried than
the one that the reference was calibrated for.

An interval is promised by all detectors together; the primary and the secondary ones have their
shares of it, as when they were fitted (monitor.family). The threshold of e-processes grows by about
1 per unit of ln of the interval (Shin, Ramdas and Rinaldo 2022: a threshold of ln L promises L
without an estimated reference); what the error of a finite reference adds on top was simulated for
the calibrated interval alone and is taken over. Longer intervals so get a little too low a
threshold, shorter ones a little too high a one: good enough to try, and what is armed is simulated
again.
"""

import math
from dataclasses import dataclass

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
    primary = primary_target(target_run_length) / fitted.target_run_length
    secondary = family_target(target_run_length) / family.target_run_length
    if fitted.armed:
        said = f"extrapolated from those for {own} rows; not simulated"
    else:
        said = "nominal; this reference is not armed, so no interval is promised"
    limits = Limits(
        max(fitted.threshold + math.log(primary), 0.0),
        max(family.threshold + math.log(secondary), 0.0),
        primary_alarms=True,
        secondary_alarms=secondary_too,
    )
    return Trial(limits, target_run_length, said + lacking)
