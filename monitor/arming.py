"""May a reference arm? How its rows hang together, what threshold that needs, and the answer in
words.

Tried in order: independent rows; blocks of consecutive rows, with every part taking several rows
for one; refusal.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitor.calibrate import Calibration, Thresholds, calibrate
from monitor.dependence import LEVEL, burst_rows, measure_dependence, neighbours_agree_p
from monitor.simulate import Dependence, Rows, independent

# Bursts, where rows come in bursts: with 200 the worst tenth of references ran a third as long as
# promised.
LEAST_ROWS = 500
# Longer bursts hide what lies between them, and blocks that hold them are too few.
MOST_BURST_ROWS = 16.0
# With fewer rows a simulation draws the same few again and again.
FEWEST_SIMULATED_ROWS = 32


@dataclass(frozen=True)
class Arming:
    """What a reference can promise. `burst_rows` is 1 where rows are independent."""

    threshold: float
    verified_run_length: float
    armed: bool
    dependence: Dependence
    burst_rows: float
    reason: str
    shorter_thresholds: Thresholds = ()


def arm(
    rows: Rows,
    neighbourhoods: NDArray[np.intp],
    target_run_length: int,
    seed: int,
    advisory: bool,
) -> Arming:
    """`neighbourhoods` (n,) sorts the rows by what they are about, finer than by class."""
    burst, p = _bursts(rows, neighbourhoods, seed)
    dependence, calibration = independent(rows.parts), None
    refusal = _refusal(len(rows), burst, p)
    if not refusal or (advisory and len(rows) >= FEWEST_SIMULATED_ROWS):
        if 1.0 < burst <= MOST_BURST_ROWS:
            dependence = measure_dependence(rows, burst, seed)
        calibration = calibrate(rows, dependence, target_run_length, seed)
    if calibration is None:
        threshold = math.log(target_run_length)
        return Arming(threshold, 0.0, False, dependence, burst, refusal)
    kept = calibration.run_length >= target_run_length
    verified = 0.0 if refusal else calibration.run_length
    reason = refusal or _say(calibration, target_run_length) + _say_bursts(dependence, burst)
    if advisory and (refusal or not kept):
        reason += "; alarms are raised as advice, without a promise"
    return Arming(
        calibration.threshold,
        verified,
        kept and not refusal,
        dependence,
        burst,
        reason,
        calibration.shorter,
    )


def _bursts(rows: Rows, neighbourhoods: NDArray[np.intp], seed: int) -> tuple[float, float]:
    """Mean length of bursts, 1 where rows are independent, and how sure that is (p-value)."""
    sorts = [neighbourhoods] if rows.kind_count == 1 else [rows.kinds, neighbourhoods]
    looks = [(neighbours_agree_p(kinds, seed), burst_rows(kinds)) for kinds in sorts]
    p = min(1.0, len(looks) * min(p for p, _ in looks))
    if p > LEVEL:
        return 1.0, p
    return max(burst for own, burst in looks if len(looks) * own <= LEVEL), p


def _refusal(rows: int, burst: float, p: float) -> str:
    """Why this reference may not arm; empty where it may."""
    if rows < LEAST_ROWS:
        return (
            f"not armed: the reference has {rows} rows, a run length can be promised from "
            f"{LEAST_ROWS} on; add {LEAST_ROWS - rows} rows that are not trained on"
        )
    if burst > MOST_BURST_ROWS:
        return (
            f"not armed: neighbouring reference rows are alike over {burst:.0f} rows "
            f"(p = {p:.3f}), as in a sorted file; name the rows in order of arrival, or one row "
            "per client"
        )
    if rows < LEAST_ROWS * burst:
        needed = math.ceil(LEAST_ROWS * burst)
        return (
            f"not armed: neighbouring reference rows are alike (p = {p:.3f}), the {rows} rows are "
            f"about {rows / burst:.0f} bursts, a run length can be promised from {LEAST_ROWS} on; "
            f"add {needed - rows} rows that are not trained on, or keep one row per client"
        )
    return ""


def _say(calibration: Calibration, target: int) -> str:
    """What was verified, in words."""
    seen = (
        f"{calibration.alarms} alarms in {calibration.simulated_rows} simulated rows without drift"
    )
    if calibration.run_length < target:
        return (
            f"not armed: one alarm per {calibration.run_length:.0f} rows was simulated where "
            f"{target} are promised ({seen}); add reference rows"
        )
    how = "extrapolated from shorter ones" if calibration.extrapolated else "simulated"
    return f"armed: threshold {how} for {target} rows between false alarms, then checked: {seen}"


def _say_bursts(dependence: Dependence, burst: float) -> str:
    if dependence.block_rows == 1:
        return ""
    return (
        f"; rows come in bursts of about {burst:.1f}, so blocks of {dependence.block_rows} rows "
        f"were simulated and up to {max(dependence.design_effects):.1f} rows count as one"
    )
