"""The threshold that a replay alarms at, when another interval between false alarms is tried than
the one that the reference was calibrated for.

The threshold of e-processes grows by about 1 per unit of ln of the interval (Shin, Ramdas and
Rinaldo 2022: a threshold of ln L promises L without an estimated reference); what the error of a
finite reference adds on top was simulated for the calibrated interval alone and is taken over.
Longer intervals so get a little too low a threshold, shorter ones a little too high a one: good
enough to try, and what is armed is simulated again.
"""

import math
from dataclasses import dataclass

from monitor.fit import Fitted


@dataclass(frozen=True)
class Trial:
    """A threshold on the log evidence, None where nothing alarms, for a target run length, and
    where it comes from."""

    threshold: float | None
    target_run_length: int
    source: str


def trial_threshold(fitted: Fitted, target_run_length: int | None) -> Trial:
    """The reference's own, or one for another interval; a reference that is not armed and gives no
    advice alarms only where an interval is asked for, and promises none."""
    own = fitted.target_run_length
    alarms = fitted.armed or fitted.advisory
    if target_run_length is None or (target_run_length == own and alarms):
        source = "the reference's own" if fitted.armed else "advice only" if alarms else "not armed"
        return Trial(fitted.threshold if alarms else None, own, source)
    threshold = fitted.threshold + math.log(target_run_length / own)
    if fitted.armed:
        said = f"extrapolated from that for {own} rows; not simulated"
    else:
        said = "nominal; this reference is not armed, so no interval is promised"
    return Trial(max(threshold, 0.0), target_run_length, said)
