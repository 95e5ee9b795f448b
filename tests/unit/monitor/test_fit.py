"""When a reference may arm, and what it says where it may not."""

import numpy as np
import pytest

from edgeloop.errors import MonitorError
from monitor.fit import Fitted, fit_reference, smallest_visible_share
from tests import clouds
from tests.unit.monitor.conftest import TARGET


def test_enough_independent_rows_arm_with_a_verified_run_length(fitted: Fitted) -> None:
    assert fitted.armed
    assert fitted.verified_run_length >= fitted.target_run_length == TARGET
    assert fitted.rows == 528
    assert "simulated for 300 rows" in fitted.reason


def test_too_few_rows_say_how_many_are_missing(advisory: Fitted) -> None:
    assert not advisory.armed
    assert advisory.verified_run_length == 0.0
    assert "has 120 rows" in advisory.reason
    assert "from 500 on" in advisory.reason
    assert "add 380 rows" in advisory.reason


def test_rows_that_come_in_bursts_must_be_thinned() -> None:
    embeddings, probabilities = clouds.reference(600)
    order = np.argsort(probabilities.argmax(axis=1), kind="stable")
    found = fit_reference(embeddings[order], probabilities[order], TARGET)
    assert not found.armed
    assert "every m-th row" in found.reason


def test_a_reference_whose_simulation_falls_short_does_not_arm() -> None:
    rows, constant = 520, np.tile([0.9, 0.1], (520, 1))
    same = np.tile(np.array([[1.0, 0.0, 0.0]], dtype=np.float32), (rows, 1))
    found = fit_reference(same, constant, 5000)
    assert not found.armed
    assert found.verified_run_length < 5000
    assert "5000 are promised" in found.reason


@pytest.mark.parametrize(("rows", "share"), [(500, 0.035), (2000, 0.018), (8000, 0.009)])
def test_the_smallest_visible_share_falls_with_the_rows(rows: int, share: float) -> None:
    assert smallest_visible_share(rows) == pytest.approx(share, abs=0.0005)


def test_the_same_rows_and_seed_fit_alike(fitted: Fitted) -> None:
    again = fit_reference(*clouds.reference(), TARGET)
    assert again.threshold == fitted.threshold
    assert (again.centroids == fitted.centroids).all()
    assert (again.tails.thresholds == fitted.tails.thresholds).all()


def test_a_reference_of_one_row_is_an_error() -> None:
    with pytest.raises(MonitorError, match=r"has 1 rows; name at least 500"):
        fit_reference(*clouds.reference(1), TARGET)


def test_an_answer_that_is_not_finite_is_an_error() -> None:
    embeddings, probabilities = clouds.reference(20)
    embeddings[7, 3] = np.nan
    with pytest.raises(MonitorError, match="reference row 7"):
        fit_reference(embeddings, probabilities, TARGET)


def test_rows_that_do_not_pair_are_an_error() -> None:
    embeddings, probabilities = clouds.reference(20)
    with pytest.raises(MonitorError, match=r"\(20, 16\) and probabilities \(19, 8\)"):
        fit_reference(embeddings, probabilities[1:], TARGET)
