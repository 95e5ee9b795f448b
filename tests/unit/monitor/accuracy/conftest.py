"""A fit that the tests share."""

import numpy as np
import pytest

from monitor.accuracy.fit import AccuracyFit, fit_accuracy
from tests.classifiers import FLOOR, draw


@pytest.fixture(scope="session")
def accuracy_fit() -> AccuracyFit:
    """Fitted on 1,000 rows."""
    return fit_accuracy(*draw(1_000, np.random.default_rng(5)), FLOOR)
