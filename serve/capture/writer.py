"""The capture: draws answered texts on the event loop, redacts and writes them on a thread of its
own. Whatever the disk does, a request is not touched: rows are dropped and counted.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgeloop.errors import RecipeError
from edgeloop.rows import TextInput
from serve.capture.config import CaptureConfig
from serve.capture.matcher import Matcher, MatcherFailed
from serve.capture.redact import redact
from serve.capture.ring import Ring
from serve.capture.row import CaptureRow, encode_row
from serve.capture.sampling import Draw, Sampler
from serve.capture.store import Store
from serve.jobs import Scored
from serve.metrics import ServeMetrics

logger = logging.getLogger(__name__)

MOST_CHARACTERS = 10_000
# A text that is longer is cut; what stands so near the cut may be half a number.
CUT_CHARACTERS = 320
BATCH_ROWS = 64
POLL_SECONDS = 0.25
EXPIRE_SECONDS = 60.0
SECONDS_PER_DAY = 86_400.0
# Of a row besides its texts; and a character in the ring may take four bytes.
ROW_BYTES = 1000
CHARACTER_BYTES = 4


@dataclass(frozen=True, slots=True)
class Kept:
    """What the event loop hands over: nothing is looked at there that the writer can look at."""

    request_id: bytes
    index: int
    time: float
    bundle: str
    texts: tuple[str, ...]
    scored: Scored
    draw: Draw


class Capture:
    """One server's. offer() is the event loop's, everything else the writer thread's."""

    def __init__(
        self,
        config: CaptureConfig,
        metrics: ServeMetrics,
        sampler: Sampler | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Raises RecipeError where the folder cannot be made."""
        self._metrics = metrics
        self._now = now
        self._sampler = sampler or Sampler(
            config.share, config.low_confidence_below, config.low_confidence_share
        )
        self._ring: Ring[Kept] = Ring()
        self._matcher = Matcher(config.patterns)
        self._store = Store(config.folder, config.max_bytes, config.ttl_days * SECONDS_PER_DAY, now)
        try:
            self._store.prepare()
        except OSError as problem:
            raise RecipeError(
                f"{config.folder}: capture.folder cannot be made ({problem.strerror})"
            ) from None
        self._failures = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="capture", daemon=True)
        self._thread.start()

    def offer(self, request_id: bytes, bundle: str, answers: Sequence[Scored]) -> None:
        """Draw a request's answered texts, and hand over those that are kept. Never waits."""
        for index, scored in enumerate(answers):
            draw = self._sampler.draw(scored.answer.score)
            if draw is None:
                continue
            texts = _cut(scored.text)
            kept = Kept(request_id, index, self._now(), bundle, texts, scored, draw)
            size_bytes = ROW_BYTES + CHARACTER_BYTES * sum(map(len, texts))
            if not self._ring.put(kept, size_bytes):
                self._metrics.capture_dropped("ring_full")

    def close(self, timeout_seconds: float = 2.0) -> None:
        """Write what waits, for so long at most."""
        self._stop.set()
        self._thread.join(timeout_seconds)
        if self._thread.is_alive():
            logger.error("event=capture_pending problem='the disk does not answer'")

    def _work(self) -> None:
        self._try(self._store.recover)
        expired_at = time.monotonic()
        while True:
            stopping = self._stop.wait(POLL_SECONDS)
            while batch := self._ring.take(BATCH_ROWS):
                self._write(batch)
            if stopping:
                break
            if time.monotonic() - expired_at >= EXPIRE_SECONDS:
                self._try(self._store.expire)
                expired_at = time.monotonic()
        self._matcher.close()

    def _write(self, batch: Sequence[Kept]) -> None:
        lines = [line for kept in batch if (line := self._line(kept)) is not None]
        written = 0

        def append() -> None:
            nonlocal written
            written = self._store.append(lines)

        if self._try(append):
            self._metrics.captured.inc(written)
            self._metrics.capture_dropped("too_large", len(lines) - written)
        else:
            self._metrics.capture_dropped("disk", len(lines))

    def _line(self, kept: Kept) -> bytes | None:
        """The row without personal data; None where that is not certain."""
        try:
            texts = [redact(text) for text in self._matcher.replace(kept.texts)]
            return encode_row(_row(kept, tuple(map(_shorten, texts, kept.texts))))
        except MatcherFailed as problem:
            self._log_failure("event=capture_not_redacted problem=%r", str(problem))
        except Exception as problem:  # its message may have the text in it
            self._log_failure("event=capture_not_redacted problem=%s", type(problem).__name__)
        self._metrics.capture_dropped("redaction")
        return None

    def _try(self, step: Callable[[], None]) -> bool:
        try:
            step()
        except OSError as problem:
            self._log_failure("event=capture_not_written problem=%r", str(problem))
            return False
        return True

    def _log_failure(self, message: str, problem: str) -> None:
        """1st, 2nd, 4th, 8th ...: a full disk must not get a line for every row."""
        self._failures += 1
        if self._failures & (self._failures - 1) == 0:
            logger.error(message + " failures=%d", problem, self._failures)


def _cut(text: TextInput) -> tuple[str, ...]:
    texts = (text,) if isinstance(text, str) else text
    return tuple(part[: MOST_CHARACTERS + CUT_CHARACTERS] for part in texts)


def _shorten(redacted: str, cut: str) -> str:
    """Of a text that was cut, without what stands at the cut."""
    was_cut = len(cut) == MOST_CHARACTERS + CUT_CHARACTERS
    return redacted[:-CUT_CHARACTERS] if was_cut else redacted


def _row(kept: Kept, texts: tuple[str, ...]) -> CaptureRow:
    answer = kept.scored.answer
    return CaptureRow(
        id=kept.request_id.decode("ascii"),
        index=kept.index,
        time=round(kept.time, 3),
        bundle=kept.bundle,
        texts=texts,
        labels=answer.labels or tuple(span.label for span in answer.spans),
        scores=tuple(map(float, answer.scores)),
        score=float(answer.score),
        abstained=kept.scored.abstained,
        inclusion_probability=kept.draw.inclusion_probability,
        rule=kept.draw.rule,
    )
