"""The last rows: exact sums, and standard errors that are true."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.accuracy.fit import AccuracyFit, fit_accuracy
from monitor.accuracy.window import LEAST_ROWS, LEVELS, Window, pack, unpack
from tests.classifiers import FLOOR, draw

rows = st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=40)


@given(st.floats(0, 1), st.booleans())
def test_a_row_survives_its_sixteen_bits(confidence: float, flag: bool) -> None:
    packed = np.array([pack(confidence, flag)], dtype="<u2")
    (found,), (bit,) = unpack(packed)
    assert abs(found - confidence) <= 0.5 / LEVELS + 1e-12
    assert bit == flag


@given(rows, st.integers(1, 12))
def test_it_is_of_the_last_rows_alone(seen: list[tuple[float, bool]], size: int) -> None:
    window = Window(size)
    for row in seen:
        window.add(*row)
    last = [confidence for confidence, _ in seen[-size:]]
    assert len(window) == len(last)
    if last:
        assert window.mean == pytest.approx(np.mean(last), abs=1e-4)
    else:
        assert math.isnan(window.mean)
    if len(last) > 1:
        assert window.variance == pytest.approx(np.var(last, ddof=1), abs=1e-3)


@given(rows, rows)
@settings(max_examples=50)
def test_it_goes_on_from_its_state_bit_for_bit(
    before: list[tuple[float, bool]], after: list[tuple[float, bool]]
) -> None:
    one, other = Window(16), Window(16)
    for row in before:
        one.add(*row)
    other.restore(*one.state())
    for row in after:
        one.add(*row)
        other.add(*row)
    assert one.state() == other.state()
    assert one.mean == other.mean or not before + after


def test_a_state_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Window(8).restore(*Window(16).state())
    with pytest.raises(ValueError, match="after -1 rows"):
        Window(8).restore(-1, Window(8).state()[1])


def test_few_rows_say_nothing(accuracy_fit: AccuracyFit) -> None:
    window = Window()
    for _ in range(LEAST_ROWS - 1):
        window.add(0.9, True)
    assert window.atc(accuracy_fit) is None
    assert window.cbpe(accuracy_fit) is None
    window.add(0.9, True)
    atc = window.atc(accuracy_fit)
    assert atc is not None
    assert atc.value == 1.0
    assert atc.standard_error > 0.0, "a window without doubt is not a certain one"


def test_the_standard_errors_are_true_without_drift() -> None:
    """250 references of 500 rows, each with a window of 300: the estimates are off by as much as
    they say, and on average by nothing."""
    rng = np.random.default_rng(11)
    accuracy = float(draw(200_000, np.random.default_rng(12))[1].mean())
    off: dict[str, list[float]] = {"atc": [], "cbpe": []}
    for _ in range(250):
        fit = fit_accuracy(*draw(500, rng), FLOOR)
        window = Window(300)
        for p in draw(300, rng)[0]:
            window.add(fit.confidence(p), fit.is_above(p))
        for name, found in (("atc", window.atc(fit)), ("cbpe", window.cbpe(fit))):
            assert found is not None
            off[name].append((found.value - accuracy) / found.standard_error)
    for name, scores in off.items():
        assert abs(np.mean(scores)) < 0.25, name
        assert 0.8 < np.std(scores) < 1.15, name
        assert np.mean(np.abs(scores) < 1.96) > 0.92, name


@pytest.mark.parametrize("shift", [1.0, 2.0])
def test_harder_texts_lower_both_estimates_and_widen_their_gap(
    accuracy_fit: AccuracyFit, shift: float
) -> None:
    probabilities, right = draw(1_000, np.random.default_rng(13), shift=shift)
    window = Window()
    for p in probabilities:
        window.add(accuracy_fit.confidence(p), accuracy_fit.is_above(p))
    truth = float(right.mean())
    assert truth < accuracy_fit.accuracy - 0.04
    atc, cbpe = window.atc(accuracy_fit), window.cbpe(accuracy_fit)
    assert atc is not None
    assert cbpe is not None
    assert abs(cbpe.value - truth) < 0.04, "where only the texts are harder, it is right"
    # Here right and wrong answers overlap: a threshold takes all of the doubt for errors.
    assert atc.value < truth + 0.02
    assert cbpe.value - atc.value > 0.04
