"""The wall-clock time that a search has taken."""

import time

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.study import SECONDS, STARTED, spent_seconds


def trial(started: float, seconds: float | None) -> optuna.trial.FrozenTrial:
    noted = {STARTED: started} | ({} if seconds is None else {SECONDS: seconds})
    return optuna.trial.create_trial(value=0.0, user_attrs=noted)


SPANS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)), max_size=12)


@given(spans=SPANS)
def test_seconds_in_which_several_trials_ran_count_once(spans: list[tuple[int, int]]) -> None:
    covered = {second for start, length in spans for second in range(start, start + length)}
    assert spent_seconds([trial(s, n) for s, n in spans]) == pytest.approx(len(covered))


def test_a_trial_that_runs_counts_until_now() -> None:
    assert spent_seconds([trial(time.time() - 100.0, None)]) == pytest.approx(100.0, abs=5.0)
