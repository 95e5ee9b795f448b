"""The schedule and early stopping."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.recipe import Finetune, Training
from edgeloop.records import Epoch
from finetune.epochs import best_epoch, is_finished
from finetune.train import learning_rate

RATE = 1e-3
SETTINGS = Finetune(training=Training(learning_rate=RATE))
TRAINING = Training(num_train_epochs=10, early_stopping_patience=2)


def epochs(*figures: tuple[float, float]) -> list[Epoch]:
    """(validation figure, validation loss) per epoch."""
    return [
        Epoch(
            epoch=i,
            train_loss=0,
            validation_loss=loss,
            validation_metric=metric,
            train_seconds=0,
            seconds=0,
        )
        for i, (metric, loss) in enumerate(figures, start=1)
    ]


def test_warm_up_climbs_to_the_rate_and_decays_to_nothing() -> None:
    rates = [learning_rate(step, 100, SETTINGS) for step in range(100)]
    assert rates[:10] == sorted(rates[:10])
    assert rates[10] == max(rates) == RATE
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.02 * RATE


@given(steps=st.integers(1, 500), warmup=st.floats(0.0, 0.99))
def test_every_step_has_a_rate(steps: int, warmup: float) -> None:
    settings = Finetune(training=Training(learning_rate=RATE, warmup_ratio=warmup))
    rates = [learning_rate(step, steps, settings) for step in range(steps)]
    assert all(0 < rate <= RATE for rate in rates)


def test_a_recipe_without_a_rate_takes_the_methods_own() -> None:
    lora, full = Finetune(), Finetune(method="full")
    assert learning_rate(10, 100, lora) > learning_rate(10, 100, full) > 0


@pytest.mark.parametrize(
    ("figures", "best", "finished"),
    [
        (((0.5, 1.0),), 1, False),
        (((0.5, 1.0), (0.6, 0.9), (0.7, 0.8)), 3, False),
        (((0.5, 1.0), (0.7, 0.9), (0.6, 0.8)), 2, False),  # the figure decides, not the loss
        (((0.5, 1.0), (0.7, 0.9), (0.6, 0.8), (0.6, 0.7)), 2, True),
        (((0.7, 0.9), (0.7, 0.8), (0.7, 0.9)), 2, False),  # the loss decides between equals
        (((0.7, 0.9), (0.7, 0.9), (0.7, 0.9)), 1, True),  # and then the earliest
        (tuple((i / 10, 1.0) for i in range(10)), 10, True),
    ],
)
def test_training_stops_when_patience_or_epochs_run_out(
    figures: tuple[tuple[float, float], ...], best: int, finished: bool
) -> None:
    done = epochs(*figures)
    assert best_epoch(done).epoch == best
    assert is_finished(done, TRAINING) is finished


def test_training_has_not_finished_before_it_began() -> None:
    assert not is_finished([], TRAINING)
