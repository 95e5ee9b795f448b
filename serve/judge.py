"""One trial's verdict: compares the answers of two bundles, text by text."""

from collections import deque

import numpy as np

from edgeloop.golden import LEAST_COSINE
from serve.evidence import QUESTIONS, SIDES, Bounds, Standing, advance, evidence, start, totals
from serve.jobs import Scored
from serve.lifecycle_config import TrialSection

# How many of the stable bundle's latest answers its p95 is taken from, and how often anew.
LATENCY_ROWS = 200
LEAST_LATENCY_ROWS = 20
LATENCY_EVERY = 10
LATENCY_QUANTILE = 0.95
WORSE, FINE = SIDES


class Judge:
    """Not thread-safe: one caller, answers in order."""

    def __init__(self, rules: TrialSection) -> None:
        self.compared = 0
        self._rules = rules
        self._bounds = Bounds.of(rules.error_margin, rules.agreement)
        self._bets = self._bounds.bets()
        self._log_wealth = start()
        self._stable_seconds: deque[float] = deque(maxlen=LATENCY_ROWS)
        self._p95_seconds: float | None = None
        self._standing: Standing | None = None

    def take(self, stable: Scored | None, trial: Scored | None) -> None:
        """Both answers to one text; None where it was not answered."""
        self.compared += 1
        badness = np.full(len(QUESTIONS), np.nan)
        badness[0] = float(trial is None) - float(stable is None)
        if stable is not None and trial is not None:
            badness[1] = self._slower(stable.inference_seconds, trial.inference_seconds)
            if self._rules.agreement is not None:
                badness[2] = float(not alike(stable, trial))
        advance(self._log_wealth, self.compared, badness, self._bounds, self._bets)
        self._standing = None

    def standing(self) -> Standing:
        """The evidence of the moment."""
        if self._standing is None:
            self._standing = self._weigh()
        return self._standing

    def _weigh(self) -> Standing:
        found = evidence(self._log_wealth, self.compared)
        worse, fine = totals(found, self._bounds).tolist()
        by_question = {
            side: dict(zip(QUESTIONS, values, strict=True))
            for side, values in zip(SIDES, found.tolist(), strict=True)
        }
        return Standing(self.compared, worse, fine, by_question)

    def verdict(self) -> str | None:
        """`worse`, `fine`, or None while neither is shown."""
        now = self.standing()
        if now.worse >= 1.0 / self._rules.alpha:
            return WORSE
        enough = self.compared >= self._rules.least_answers
        return FINE if enough and now.fine >= 1.0 / self._rules.alpha else None

    def worst_question(self) -> str:
        """The question with the most evidence against the trial."""
        found = self.standing().questions[WORSE]
        return max(found, key=lambda question: found[question])

    def _slower(self, stable_seconds: float, trial_seconds: float) -> float:
        """The badness of the latency, by the p95 of the texts before this one. An answer of the
        cache took no time and says nothing."""
        if min(stable_seconds, trial_seconds) <= 0.0:
            return np.nan
        limit = self._p95_seconds
        self._stable_seconds.append(stable_seconds)
        rows = len(self._stable_seconds)
        if rows >= LEAST_LATENCY_ROWS and (limit is None or self.compared % LATENCY_EVERY == 0):
            self._p95_seconds = float(np.quantile(self._stable_seconds, LATENCY_QUANTILE))
        if limit is None:
            return np.nan
        return float(trial_seconds > self._rules.latency_ratio * limit) - float(
            stable_seconds > limit
        )


def alike(one: Scored, other: Scored) -> bool:
    """The same answer in one word; of vectors a cosine of at least LEAST_COSINE."""
    if one.output.logits.shape[-1] or other.output.logits.shape[-1]:
        return one.answer.label == other.answer.label
    left, right = one.output.embedding, other.output.embedding
    if left.shape != right.shape:
        return False
    lengths = float(np.linalg.norm(left) * np.linalg.norm(right))
    return float(left @ right) >= LEAST_COSINE * lengths
