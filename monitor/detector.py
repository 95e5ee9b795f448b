"""The live detector: one row in, perhaps one alarm out, in microseconds and kilobytes of state.

Four averaged e-processes against a fixed reference: whether rows keep lying where earlier ones
left it (witness), how unlike it they are (novelty), how unsure the model is (confidence) and what
it predicts (class mix).
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from edgeloop.errors import MonitorError
from monitor import class_mix, neighbours, tails, witness
from monitor.eprocess import MEMBERS, advance, member_powers, member_weights
from monitor.fit import Fitted, fit_reference
from monitor.geometry import SMALLEST_NORM, Vectors
from monitor.memory import Memory, decode, encode, fingerprint
from monitor.witness import LAG


@dataclass(frozen=True)
class Alarm:
    """The evidence passed the threshold at this observation. `advisory`: nothing was promised, or
    traffic comes in longer bursts than the promise covers."""

    observation: int
    log_evidence: float
    parts: dict[str, float]
    effect_size: float
    advisory: bool


class Detector:
    """Watches one stream. Not thread-safe: one caller, rows in order."""

    def __init__(self, fitted: Fitted) -> None:
        self.fitted = fitted
        self.names = fitted.parts
        self._measure = _Measure(fitted)
        self._weights = member_weights(self.names)
        powers = member_powers(self.names, fitted.design_effects)
        self._powers = powers if np.any(powers != 1.0) else None
        self._fingerprint = fingerprint(fitted)
        self.memory = Memory.fresh(fitted, self._measure.ratios)

    @classmethod
    def fit(
        cls,
        reference_embeddings: Vectors,
        reference_probabilities: NDArray[np.float64],
        target_run_length: int,
        seed: int = 0,
        advisory: bool = False,
    ) -> Self:
        """See fit_reference. Raises MonitorError."""
        return cls(
            fit_reference(
                reference_embeddings, reference_probabilities, target_run_length, seed, advisory
            )
        )

    def update(
        self, embedding: NDArray[np.float32], probabilities: NDArray[np.float64]
    ) -> Alarm | None:
        """Take embedding (hidden,) and probabilities (classes,); an alarm is returned once, until
        reset(). A row that is not finite is counted and skipped.

        Raises MonitorError where they have another length than the reference's.
        """
        memory, measure = self.memory, self._measure
        measure.check(embedding, probabilities)
        norm = math.sqrt(float(embedding @ embedding))
        confidence = float(probabilities.max())
        if not (math.isfinite(norm) and math.isfinite(confidence)):
            memory.skipped += 1
            return None
        memory.observations += 1
        z, cosines = measure.place(embedding, norm)
        kind = measure.kind(probabilities, cosines)
        earned = measure.earned(memory, z, 1.0 - float(cosines.max()), -confidence, kind)
        if self._powers is not None:
            earned **= self._powers
        advance(memory.evidence, earned)
        measure.remember(memory, z, kind)
        return self._judge()

    def _judge(self) -> Alarm | None:
        fitted, memory = self.fitted, self.memory
        if memory.alarmed or not (fitted.armed or fitted.advisory):
            return None
        if self.log_evidence < fitted.threshold:
            return None
        memory.alarmed = True
        memory.alarms += 1
        return Alarm(
            observation=memory.observations,
            log_evidence=self.log_evidence,
            parts=self.parts,
            effect_size=self.effect_size,
            advisory=not fitted.armed or self.burst_evidence_ratio >= 1.0,
        )

    @property
    def observations(self) -> int:
        """Rows taken."""
        return self.memory.observations

    @property
    def skipped(self) -> int:
        """Rows that were not finite."""
        return self.memory.skipped

    @property
    def alarms(self) -> int:
        """Alarms raised."""
        return self.memory.alarms

    @property
    def alarmed(self) -> bool:
        """An alarm was raised and not yet dealt with."""
        return self.memory.alarmed

    @property
    def log_evidence(self) -> float:
        """ln of the average of the parts' average evidence; 0 before the first row."""
        return _log(float(self._weights @ self.memory.evidence))

    @property
    def parts(self) -> dict[str, float]:
        """ln of the average evidence of every part."""
        found, first = {}, 0
        for name in self.names:
            own = self.memory.evidence[first : first + MEMBERS[name]]
            found[name] = _log(float(own.mean()))
            first += MEMBERS[name]
        return found

    @property
    def effect_size(self) -> float:
        """How far the mean of about the last 512 rows lies from the reference's, in standard
        deviations of its rows along the way (a Mahalanobis distance in the whitened space), less
        what chance alone puts between them; 0 where that is all."""
        slow, direction = float(witness.RATES[-1]), self.memory.directions[-1]
        rows = self.memory.since_reset - LAG
        if rows < 1:
            return 0.0
        kept = (1.0 - slow) ** rows
        noise = slow / (2.0 - slow) * (1.0 - kept**2) + (1.0 - kept) ** 2 / self.fitted.rows
        noise *= len(direction) * self.fitted.design_effects[0]
        return math.sqrt(max(0.0, float(direction @ direction) - noise)) / (1.0 - kept)

    @property
    def burst_evidence_ratio(self) -> float:
        """From 1 on, live traffic comes in longer bursts than the reference did, so that its
        promise does not cover it; as often in error as the promise is at most broken."""
        found = _log(sum(self.memory.bursts) / len(self.memory.bursts))
        return max(0.0, found) / math.log(self.fitted.target_run_length)

    @property
    def state_bytes(self) -> int:
        """The length of state()."""
        return len(self.state())

    def reset(self) -> None:
        """Start again against the same reference, after an alarm was dealt with."""
        counted = self.memory
        self.memory = Memory.fresh(self.fitted, self._measure.ratios)
        self.memory.observations, self.memory.skipped = counted.observations, counted.skipped
        self.memory.alarms = counted.alarms

    def state(self) -> bytes:
        """What restore() needs to go on bit for bit."""
        return encode(self.memory, self._fingerprint)

    def restore(self, state: bytes) -> None:
        """Go on from a state. Raises MonitorError where it is damaged or of another reference;
        the detector is then as it was."""
        self.memory = decode(state, self.memory, self._fingerprint)


class _Measure:
    """What a row is compared with, in the shapes that make an update quick."""

    def __init__(self, fitted: Fitted) -> None:
        self._fitted = fitted
        projection = fitted.whitening.projection
        self._components = len(projection)
        self._both = np.concatenate([projection, fitted.centroids])
        self._shift = projection @ fitted.whitening.mean
        effects = dict(zip(fitted.parts, fitted.design_effects, strict=True))
        self._margin = witness.margins(self._components, fitted.rows / effects["witness"])
        self._thresholds = fitted.tails.thresholds
        self._rates = np.ascontiguousarray(fitted.tails.rates.T)
        self.ratios = class_mix.ratios(fitted.kind_counts)
        worth = fitted.rows / effects.get("class_mix", 1.0)
        self._discount = class_mix.discounts(len(self.ratios), worth)
        self._one_class = len(fitted.kind_of_class) == 1
        self._scores = np.empty((2, 1))
        self._tail_parts = len(self._thresholds)

    def check(self, embedding: NDArray[np.float32], probabilities: NDArray[np.float64]) -> None:
        if embedding.shape != self._both.shape[1:]:
            raise MonitorError(
                f"an embedding of shape {embedding.shape} does not fit a reference of "
                f"{self._both.shape[1:]}; model and reference must be one bundle's"
            )
        if probabilities.shape != self._fitted.kind_of_class.shape:
            raise MonitorError(
                f"probabilities of shape {probabilities.shape} do not fit a reference of "
                f"{self._fitted.kind_of_class.shape}; model and reference must be one bundle's"
            )

    def place(self, embedding: NDArray[np.float32], norm: float) -> tuple[Vectors, Vectors]:
        """Where a row lies: whitened (components,), and its cosines with the centroids."""
        seen = self._both @ (embedding / np.float32(max(norm, SMALLEST_NORM)))
        return seen[: self._components] - self._shift, seen[self._components :]

    def kind(self, probabilities: NDArray[np.float64], cosines: Vectors) -> int:
        """What the row is, for the class mix and for the bursts."""
        if self._one_class:
            return int(cosines.argmax())
        return int(self._fitted.kind_of_class[probabilities.argmax()])

    def earned(
        self, memory: Memory, z: Vectors, novelty: float, unsure: float, kind: int
    ) -> NDArray[np.float64]:
        """What every member earns: (members,)."""
        self._scores[0, 0], self._scores[1, 0] = novelty, unsure
        exceeded = self._scores[: self._tail_parts] > self._thresholds
        bets = [
            witness.payoffs(memory.directions, z, self._margin),
            tails.payoffs(exceeded.T, self._rates).T.ravel(),
        ]
        if not self._one_class:
            recent, ratio = memory.mix[:, kind], self.ratios[kind]
            bets.append(class_mix.payoffs(recent, ratio, self._discount))
        return np.concatenate(bets, dtype=np.float64)

    def remember(self, memory: Memory, z: Vectors, kind: int) -> None:
        """Let the row LAG rows ago into the moving averages, and keep this one in its place."""
        slot = memory.since_reset % LAG
        if memory.since_reset >= LAG:
            old_kind = int(memory.old_kinds[slot])
            witness.roll(memory.directions, memory.olds[slot])
            if not self._one_class:
                class_mix.roll(memory.mix, old_kind)
            near = kind == int(memory.old_kinds[slot - 1])
            neighbours.take(memory.bursts, near, kind == old_kind, self._fitted.neighbour_excess)
        memory.olds[slot] = z
        memory.old_kinds[slot] = kind
        memory.since_reset += 1


def _log(evidence: float) -> float:
    return math.log(evidence) if evidence > 0.0 else 0.0
