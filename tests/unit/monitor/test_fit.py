"""When a reference may arm, and what it says where it may not."""

import numpy as np
import pytest

from edgeloop.errors import MonitorError
from monitor.fit import Fitted, fit_reference
from monitor.visible import smallest_visible_share
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


def test_a_sorted_reference_is_refused() -> None:
    embeddings, probabilities = clouds.reference(600)
    order = np.argsort(probabilities.argmax(axis=1), kind="stable")
    found = fit_reference(embeddings[order], probabilities[order], TARGET)
    assert not found.armed
    assert "name the rows in order of arrival" in found.reason


def test_rows_in_bursts_are_calibrated_in_blocks_and_say_so() -> None:
    found = fit_reference(*clouds.reference(1200, 0, 2.0), TARGET)
    assert found.armed, found.reason
    assert found.dependence == "blocks-16"
    # Rows of a burst are at times classified apart, so that it looks shorter.
    assert found.burst_rows == pytest.approx(1.75, abs=0.4)
    assert min(found.design_effects) >= 1.0
    assert "rows come in bursts of about" in found.reason
    assert found.smallest_visible_share > smallest_visible_share(1200)


def test_too_few_bursts_say_how_many_rows_are_missing() -> None:
    found = fit_reference(*clouds.reference(700, 0, 3.0), TARGET)
    assert not found.armed
    assert "the 700 rows are about" in found.reason
    missing = int(found.reason.split("add ")[1].split()[0])
    assert 200 < missing < 1100


def test_independent_rows_need_no_blocks(fitted: Fitted) -> None:
    assert (fitted.dependence, fitted.burst_rows) == ("none", 1.0)
    assert fitted.design_effects == (1.0, 1.0, 1.0, 1.0)


def test_advice_has_a_simulated_threshold_and_promises_nothing() -> None:
    found = fit_reference(*clouds.reference(rows=120), TARGET, advisory=True)
    assert not found.armed
    assert found.advisory
    assert found.verified_run_length == 0.0
    assert "without a promise" in found.reason
    assert found.threshold != pytest.approx(np.log(TARGET))


def test_an_armed_reference_gives_no_mere_advice() -> None:
    found = fit_reference(*clouds.reference(), TARGET, advisory=True)
    assert (found.armed, found.advisory) == (True, False)


def test_one_class_is_watched_by_direction_and_novelty() -> None:
    embeddings, _ = clouds.reference()
    found = fit_reference(embeddings, np.ones((len(embeddings), 1)), TARGET)
    assert found.armed, found.reason
    assert found.parts == ("witness", "novelty")
    assert found.tails.thresholds.shape == (1, 3)
    assert "direction and novelty alone are watched" in found.reason


def test_a_reference_whose_simulation_falls_short_does_not_arm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # With all references allowed to run short, so does what is simulated of the threshold.
    monkeypatch.setattr("monitor.calibrate.SHORT_SHARE", 1.0)
    found = fit_reference(*clouds.reference(), TARGET)
    assert not found.armed
    assert found.verified_run_length < TARGET
    assert "300 are promised" in found.reason


def test_rows_that_are_all_alike_are_no_error() -> None:
    same = np.tile(np.array([[1.0, 0.0, 0.0]], dtype=np.float32), (520, 1))
    found = fit_reference(same, np.tile([0.9, 0.1], (520, 1)), TARGET)
    assert np.isfinite(found.threshold)


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
