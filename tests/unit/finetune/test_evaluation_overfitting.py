"""The note on training curves speaks where there is something to say."""

import pytest

from finetune.evaluation import overfitting_note
from tests.evaluated import epochs


def test_where_training_and_validation_part() -> None:
    note = overfitting_note(
        epochs((0.9, 0.8, 0.7), (0.5, 0.6, 0.8), (0.2, 0.7, 0.79), (0.05, 0.9, 0.78))
    )
    assert note.startswith("Overfitting: after epoch 2 training and validation part.")
    assert "training loss fell from 0.500 to 0.050" in note
    assert "validation loss rose from 0.600 to 0.900" in note
    assert "by heart" in note
    assert "weights of epoch 2" in note
    assert "lora_dropout" in note


def test_a_model_that_grows_too_sure_is_told_from_one_that_grows_worse() -> None:
    note = overfitting_note(epochs((0.5, 0.60, 0.80), (0.4, 0.70, 0.83)))
    assert "figure rose in that time, from 0.800 to 0.830: the model grows too sure" in note
    assert "by heart" not in note


def test_training_that_ended_too_early() -> None:
    note = overfitting_note(epochs((2.0, 1.9, 0.3), (1.5, 1.4, 0.5), (1.1, 1.0, 0.6)))
    assert note.startswith("Underfitting: the validation loss was still falling in epoch 3")
    assert "num_train_epochs" in note


@pytest.mark.parametrize(
    "curve",
    [
        ((0.9, 0.8, 0.7),),
        ((0.9, 0.80, 0.7), (0.5, 0.60, 0.8), (0.4, 0.59, 0.8)),
        ((0.9, 0.80, 0.7), (0.5, 0.60, 0.8), (0.4, 0.61, 0.8)),
        ((0.9, 0.80, 0.7), (0.5, 0.60, 0.8), (0.6, 0.90, 0.6)),
    ],
    ids=["one epoch", "flat", "within noise", "both worse"],
)
def test_it_is_silent_where_there_is_nothing_to_say(
    curve: tuple[tuple[float, float, float], ...],
) -> None:
    assert overfitting_note(epochs(*curve)) == ""


def test_no_epoch_has_no_note() -> None:
    assert overfitting_note(()) == ""
