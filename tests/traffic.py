"""Features of invented traffic whose true distribution is known, for the secondary detectors'
tests: continuous, discrete, constant and missing values, and a predicted class."""

import numpy as np
from numpy.typing import NDArray

from monitor.secondary import Scale, fit_classes, fit_scale, levels_of

NAMES = ("confidence", "entropy", "token_length", "unknown_token_ratio", "foreign_script_ratio")
CLASSES = 20
SHARES = np.arange(1, CLASSES + 1) / (CLASSES * (CLASSES + 1) / 2)
RARE_SCRIPT = 0.0005

Values = NDArray[np.float64]
Levels = NDArray[np.uint8]


def draw(rows: int, rng: np.random.Generator, new_share: float = 0.0) -> Values:
    """(rows, features and the class). New rows are less sure, longer and of other words."""
    new = rng.random(rows) < new_share
    confidence = np.where(new, rng.beta(4, 2, rows), rng.beta(8, 1, rows))
    entropy = 1.0 - confidence + rng.normal(0.0, 0.05, rows)
    tokens = 3.0 + rng.negative_binomial(4, 0.25, rows) + np.where(new, 6.0, 0.0)
    unknown = np.where(rng.random(rows) < np.where(new, 0.6, 0.1), rng.random(rows) * 0.3, 0.0)
    # Mostly a constant; what a reference never saw must not be taken for impossible.
    foreign = np.where(rng.random(rows) < RARE_SCRIPT, rng.random(rows), 0.0)
    foreign[rng.random(rows) < 0.01] = np.nan
    predicted = rng.choice(CLASSES, p=SHARES, size=rows).astype(np.float64)
    return np.stack([confidence, entropy, tokens, unknown, foreign, predicted], axis=1)


def fit(values: Values) -> tuple[tuple[Scale, ...], Levels]:
    """The scales of reference values, and their levels (rows, scales)."""
    scales = [fit_scale(name, values[:, at]) for at, name in enumerate(NAMES)]
    scales.append(fit_classes(values[:, -1].astype(np.intp), CLASSES))
    return tuple(scales), levels_of(scales, values)
