"""Labels on their way from the ledger to the drift monitor, wherever they came from: POST /feedback
of this server or of another one, `edgeloop label`.

A label carries its row's text, so the bundle that answers now is asked what it says of it. That is
what its accuracy is about, even where another bundle, or this one before a restart, answered the
request; no request has to be remembered. Labels that were there before the bundle are left alone:
it may have been trained on them.
"""

import asyncio
import logging
from collections.abc import Callable

from edgeloop.errors import EngineError, LedgerError
from edgeloop.ledger import FEEDBACK, LabelledRow, Ledger, StoredLabel
from edgeloop.observer import Labelled, LabelSource
from edgeloop.tasks import TASKS, Answer, is_right
from serve.golden_watch import ask_aside
from serve.jobs import Expired, QueueFull, Unhealthy
from serve.metrics import ServeMetrics
from serve.slot import Active, Slot

logger = logging.getLogger(__name__)

MOST_LABELS = 64


def can_take_labels(active: Active) -> bool:
    """Is a row of this model one text, and its truth one word?"""
    manifest = active.bundle.manifest
    return TASKS[manifest.task].read_label("") is not None and not manifest.text_pair


class LabelTail:
    """Reads on where it was, on the event loop. `feedback_counts`: labels of /feedback say
    something about the accuracy; without it they are skipped."""

    def __init__(
        self, slot: Slot, ledger: Ledger, metrics: ServeMetrics, feedback_counts: bool
    ) -> None:
        self._slot = slot
        self._ledger = ledger
        self._metrics = metrics
        self._feedback_counts = feedback_counts
        self._ledger_lost = False

    async def run(self, poll_seconds: Callable[[], float]) -> None:
        """Look every `poll_seconds()` until cancelled."""
        while True:
            try:
                while await self.look() == MOST_LABELS:
                    pass
            except Exception:  # labels wait in the ledger; the next look is another chance
                logger.exception("event=labels_not_taken")
            await asyncio.sleep(poll_seconds())

    async def look(self) -> int:
        """Take what is new, MOST_LABELS at most; how many there were."""
        with self._slot.current as active:
            if not can_take_labels(active):
                return 0
            stored = await asyncio.to_thread(self._read, active)
            for label in stored:
                if not await self._take(active, label):
                    return 0
                active.label_position = label.sequence
            return len(stored)

    def _read(self, active: Active) -> list[StoredLabel]:
        model = active.bundle.manifest.name
        try:
            if active.label_position is None:
                active.label_position = self._start(active)
            found = self._ledger.labels_after(model, active.label_position, MOST_LABELS)
        except LedgerError as problem:
            if not self._ledger_lost:
                logger.error("event=labels_lost problem=%s", problem)
            self._ledger_lost = True
            return []
        self._ledger_lost = False
        return found

    def _start(self, active: Active) -> int:
        """Where a restored monitor was; else behind what is there already."""
        accuracy = active.feed.observer.status().accuracy
        known = 0 if accuracy is None else accuracy.label_position
        return known or self._ledger.last_label(active.bundle.manifest.name)

    async def _take(self, active: Active, label: StoredLabel) -> bool:
        """False where the engine has no room now: the label is taken at the next look."""
        source = source_of(label.row)
        if source == "feedback" and not self._feedback_counts:
            return True
        try:
            scored = await ask_aside(active.engine, label.row.text)
        except (QueueFull, Expired, Unhealthy):
            return False
        except EngineError as problem:
            logger.error("event=label_not_scored sequence=%d problem=%s", label.sequence, problem)
            return True
        truth = TASKS[active.bundle.manifest.task].read_label(label.row.label) or ()
        labelled = Labelled(
            id=label.row.id,
            position=label.sequence,
            probabilities=scored.probabilities,
            right=is_right(scored.answer, Answer(labels=truth)),
            source=source,
            inclusion_probability=label.row.inclusion_probability or 1.0,
            corrects=label.corrects,
        )
        if not active.feed.put_label(labelled):
            return False
        if source == "audit":
            self._metrics.labels_audited.inc()
        return True


def source_of(row: LabelledRow) -> LabelSource:
    """How a stored row came to be labelled."""
    if row.source != FEEDBACK:
        return "audit"
    if row.inclusion_probability is None:
        return "feedback"
    return "captured_unsure" if row.rule == "low_confidence" else "captured"
