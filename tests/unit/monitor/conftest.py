"""One fitted reference for all tests of the live detector."""

import pytest

from monitor.fit import Fitted, fit_reference
from tests import clouds

TARGET = 300


@pytest.fixture(scope="session")
def fitted() -> Fitted:
    """Armed, for 300 rows between false alarms."""
    found = fit_reference(*clouds.reference(), TARGET)
    assert found.armed, found.reason
    return found


@pytest.fixture(scope="session")
def advisory() -> Fitted:
    """Too few rows to promise anything."""
    return fit_reference(*clouds.reference(rows=120), TARGET)
