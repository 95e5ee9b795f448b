"""What the server answered with a bundle since it began to, in plain numbers: the figures that the
Open Inference Protocol asks for by version. The metrics have the rest.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from serve.jobs import Scored

KEPT_BUNDLES = 8


@dataclass(slots=True)
class Tally:
    """Requests that were answered and that failed, and the texts of the former; seconds are summed
    over the texts. `last_seconds`: since the epoch, 0 before the first answer."""

    answered: int = 0
    failed: int = 0
    texts: int = 0
    queue_seconds: float = 0.0
    inference_seconds: float = 0.0
    last_seconds: float = 0.0

    def add(self, answers: Sequence[Scored]) -> None:
        """Count an answered request."""
        self.answered += 1
        self.texts += len(answers)
        for answer in answers:
            self.queue_seconds += answer.queue_seconds
            self.inference_seconds += answer.inference_seconds
        self.last_seconds = time.time()


class Tallies:
    """One Tally for each of the bundles that were served last."""

    def __init__(self) -> None:
        self._kept: dict[str, Tally] = {}

    def of(self, digest: str) -> Tally:
        """The tally of a bundle; the oldest one makes room."""
        found = self._kept.get(digest)
        if found is None:
            found = self._kept[digest] = Tally()
            if len(self._kept) > KEPT_BUNDLES:
                del self._kept[next(iter(self._kept))]
        return found
