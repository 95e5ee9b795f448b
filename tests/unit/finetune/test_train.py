"""The schedule, early stopping, and the order of batches."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.recipe import Training
from edgeloop.records import Epoch
from finetune.batches import Encoded, in_order, shuffled
from finetune.train import best_epoch, is_finished, learning_rate

TRAINING = Training(num_train_epochs=10, learning_rate=1e-3, early_stopping_patience=2)


def epochs(*losses: float) -> list[Epoch]:
    return [
        Epoch(epoch=i, train_loss=0, validation_loss=x, validation_metric=0, seconds=0)
        for i, x in enumerate(losses, start=1)
    ]


def some(count: int) -> Encoded:
    return Encoded([[i + 1] * (1 + i * 7 % 13) for i in range(count)], list(range(count)), 0)


def test_warm_up_climbs_to_the_rate_and_decays_to_nothing() -> None:
    rates = [learning_rate(step, 100, TRAINING) for step in range(100)]
    assert rates[:10] == sorted(rates[:10])
    assert rates[10] == max(rates) == TRAINING.learning_rate
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.02 * TRAINING.learning_rate


@given(steps=st.integers(1, 500), warmup=st.floats(0.0, 0.99))
def test_every_step_has_a_rate(steps: int, warmup: float) -> None:
    training = TRAINING.model_copy(update={"warmup_ratio": warmup})
    rates = [learning_rate(step, steps, training) for step in range(steps)]
    assert all(0 < rate <= TRAINING.learning_rate for rate in rates)


@pytest.mark.parametrize(
    ("losses", "best", "finished"),
    [
        ((1.0,), 1, False),
        ((1.0, 0.9, 0.8), 3, False),
        ((1.0, 0.9, 0.95), 2, False),
        ((1.0, 0.9, 0.95, 0.91), 2, True),
        ((1.0, 0.9, 0.9, 0.9), 2, True),
        (tuple(1 - i / 100 for i in range(10)), 10, True),
    ],
)
def test_training_stops_when_patience_or_epochs_run_out(
    losses: tuple[float, ...], best: int, finished: bool
) -> None:
    done = epochs(*losses)
    assert best_epoch(done).epoch == best
    assert is_finished(done, TRAINING) is finished


def test_training_has_not_finished_before_it_began() -> None:
    assert not is_finished([], TRAINING)


@given(count=st.integers(1, 100), batch_rows=st.integers(1, 17), epoch=st.integers(1, 3))
def test_an_epoch_holds_every_row_once(count: int, batch_rows: int, epoch: int) -> None:
    batches = list(shuffled(some(count), batch_rows, 0, epoch))
    assert sorted(t for b in batches for t in b.targets.tolist()) == list(range(count))
    assert all(1 <= len(b.targets) <= batch_rows for b in batches)


def test_the_order_follows_from_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return [t for b in shuffled(some(50), 4, seed, epoch) for t in b.targets.tolist()]

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)


def test_batches_hold_rows_of_similar_length() -> None:
    rows = some(260)
    padded = sum(b.input_ids.numel() for b in shuffled(rows, 4, 0, 1))
    assert padded < 1.1 * sum(len(ids) for ids in rows.token_ids)
    assert sum(b.input_ids.numel() for b in in_order(rows)) > padded


def test_padding_is_masked() -> None:
    [batch] = in_order(Encoded([[5, 6, 7], [5]], [0, 1], pad_id=9))
    assert batch.input_ids.tolist() == [[5, 6, 7], [5, 9, 9]]
    assert batch.attention_mask.tolist() == [[1, 1, 1], [1, 0, 0]]
