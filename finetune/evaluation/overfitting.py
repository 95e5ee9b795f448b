"""What the training curves say, in plain words: whether the model learnt its rows by heart, or has
not learnt enough.
"""

from collections.abc import Sequence

from edgeloop.records import Epoch
from finetune.epochs import best_epoch

# A validation loss that rises by less than this share of its minimum is noise.
RISE_RATIO = 0.05
# Losses whose best is this far below the validation loss's: the rows are known by heart.
GAP_RATIO = 0.5
# Still falling by this share in the last epoch: training ended too early.
FALL_RATIO = 0.05

TRY = (
    "what to try: more or more varied training rows, data.augment, a higher "
    "finetune.lora.lora_dropout or finetune.training.weight_decay, a smaller finetune.lora.r, a "
    "lower finetune.training.learning_rate"
)


def overfitting_note(epochs: Sequence[Epoch]) -> str:
    """One paragraph; empty where there is nothing to say."""
    if len(epochs) < 2:
        return ""
    best = min(epochs, key=lambda epoch: epoch.validation_loss)
    last = epochs[-1]
    if _parts(best, last):
        return _parted(best, last, best_epoch(epochs).epoch)
    if last is best and _still_falls(epochs):
        return (
            f"Underfitting: the validation loss was still falling in epoch {last.epoch}, the last "
            f"one, to {last.validation_loss:.3f}. What to try: a higher "
            "finetune.training.num_train_epochs or finetune.training.learning_rate."
        )
    return ""


def _parts(best: Epoch, last: Epoch) -> bool:
    rises = last.validation_loss > best.validation_loss * (1.0 + RISE_RATIO)
    return rises and last.train_loss < best.train_loss


def _still_falls(epochs: Sequence[Epoch]) -> bool:
    before, last = epochs[-2], epochs[-1]
    return last.validation_loss < before.validation_loss * (1.0 - FALL_RATIO)


def _parted(best: Epoch, last: Epoch, kept: int) -> str:
    known = last.train_loss < best.validation_loss * GAP_RATIO
    by_heart = " The training rows are known by heart by then." if known else ""
    before, after = best.validation_metric, last.validation_metric
    grew = (
        f" Its validation figure rose in that time, from {before:.3f} to {after:.3f}: the model "
        "grows too sure of itself rather than worse."
        if after > before
        else ""
    )
    return (
        f"Overfitting: after epoch {best.epoch} training and validation part. By epoch "
        f"{last.epoch} the training loss fell from {best.train_loss:.3f} to {last.train_loss:.3f}, "
        f"while the validation loss rose from {best.validation_loss:.3f} to "
        f"{last.validation_loss:.3f}.{by_heart}{grew} The weights of epoch {kept} are kept, "
        f"whose validation figure is the best; {TRY}."
    )
