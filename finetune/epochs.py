"""Which epoch is the best, and when training ends: by the task's validation figure."""

from collections.abc import Sequence

from edgeloop.recipe import Training
from edgeloop.records import Epoch


def best_epoch(epochs: Sequence[Epoch]) -> Epoch:
    """The epoch of the highest validation figure, of equals the one with the smallest loss."""
    return max(epochs, key=lambda epoch: (epoch.validation_metric, -epoch.validation_loss))


def is_finished(epochs: Sequence[Epoch], training: Training) -> bool:
    """All epochs done, or none better for early_stopping_patience epochs."""
    if not epochs:
        return False
    last = epochs[-1].epoch
    waited = last - best_epoch(epochs).epoch
    return last >= training.num_train_epochs or waited >= training.early_stopping_patience
