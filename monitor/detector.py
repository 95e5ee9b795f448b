"""The live detector: one row in, perhaps one alarm out, in microseconds and bytes of state.

Two averaged Shiryaev-Roberts e-processes against a fixed reference: how unlike the reference a
row's embedding is (novelty), and how unsure the model is of it (confidence).
"""

import hashlib
import math
import struct
import zlib
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from edgeloop.errors import MonitorError
from monitor.eprocess import MEMBERS, PARTS, Floats, advance, payoffs
from monitor.fit import Fitted, fit_reference
from monitor.geometry import SMALLEST_NORM, Vectors

STATE_MAGIC = b"ELD1"
STATE_HEAD = struct.Struct("<4s8sqqq?")
STATE_CHECKSUM = struct.Struct("<I")


@dataclass(frozen=True)
class Alarm:
    """The evidence passed the threshold at this observation."""

    observation: int
    log_evidence: float
    parts: dict[str, float]


class Detector:
    """Watches one stream. Not thread-safe: one caller, rows in order."""

    def __init__(self, fitted: Fitted) -> None:
        self.fitted = fitted
        self.observations = 0
        self.skipped = 0
        self.alarms = 0
        self.alarmed = False
        self._table = payoffs(fitted.tails.rates)
        self._evidence = np.zeros((len(PARTS), MEMBERS))
        self._scores = np.empty((len(PARTS), 1))
        self._part = np.arange(len(PARTS))

    @classmethod
    def fit(
        cls,
        reference_embeddings: Vectors,
        reference_probabilities: NDArray[np.float64],
        target_run_length: int,
        seed: int = 0,
    ) -> Self:
        """See fit_reference. Raises MonitorError."""
        return cls(
            fit_reference(reference_embeddings, reference_probabilities, target_run_length, seed)
        )

    def update(
        self, embedding: NDArray[np.float32], probabilities: NDArray[np.float64]
    ) -> Alarm | None:
        """Take embedding (hidden,) and probabilities (classes,); an alarm is returned once, until
        reset(). A row that is not finite is counted and skipped.

        Raises MonitorError where the embedding has another length than the reference's.
        """
        if embedding.shape != self.fitted.centroids.shape[1:]:
            raise MonitorError(
                f"an embedding of shape {embedding.shape} does not fit a reference of "
                f"{self.fitted.centroids.shape[1:]}; model and reference must be one bundle's"
            )
        norm = math.sqrt(float(embedding @ embedding))
        confidence = float(probabilities.max())
        if not (math.isfinite(norm) and math.isfinite(confidence)):
            self.skipped += 1
            return None
        self.observations += 1
        cosine = float((self.fitted.centroids @ embedding).max()) / max(norm, SMALLEST_NORM)
        self._take(1.0 - cosine, -confidence)
        return self._judge()

    def _take(self, novelty: float, confidence_score: float) -> None:
        self._scores[0], self._scores[1] = novelty, confidence_score
        levels = (self._scores > self.fitted.tails.thresholds).sum(axis=1)
        advance(self._evidence, self._table[self._part, levels])

    def _judge(self) -> Alarm | None:
        if self.alarmed or not self.fitted.armed or self.log_evidence < self.fitted.threshold:
            return None
        self.alarmed = True
        self.alarms += 1
        return Alarm(self.observations, self.log_evidence, self.parts)

    @property
    def log_evidence(self) -> float:
        """ln of the average of the parts' average evidence; 0 before the first row."""
        return _log(self._evidence)

    @property
    def parts(self) -> dict[str, float]:
        """ln of the average evidence of every part."""
        return {name: _log(own) for name, own in zip(PARTS, self._evidence, strict=True)}

    def reset(self) -> None:
        """Start again against the same reference, after an alarm was dealt with."""
        self._evidence[:] = 0.0
        self.alarmed = False

    def state(self) -> bytes:
        """What restore() needs to go on bit for bit."""
        head = STATE_HEAD.pack(
            STATE_MAGIC,
            self._fingerprint(),
            self.observations,
            self.skipped,
            self.alarms,
            self.alarmed,
        )
        body = head + self._evidence.astype("<f8").tobytes()
        return body + STATE_CHECKSUM.pack(zlib.crc32(body))

    def restore(self, state: bytes) -> None:
        """Go on from a state. Raises MonitorError where it is damaged or of another reference;
        the detector is then as it was."""
        body, checksum = state[: -STATE_CHECKSUM.size], state[-STATE_CHECKSUM.size :]
        if (
            len(body) != STATE_HEAD.size + self._evidence.nbytes
            or body[: len(STATE_MAGIC)] != STATE_MAGIC
            or checksum != STATE_CHECKSUM.pack(zlib.crc32(body))
        ):
            raise MonitorError(
                f"a detector state of {len(state)} bytes is damaged; delete it, the detector then "
                "starts afresh"
            )
        _, fingerprint, observations, skipped, alarms, alarmed = STATE_HEAD.unpack_from(body)
        if fingerprint != self._fingerprint():
            raise MonitorError(
                "a detector state belongs to another reference; delete it, the detector then "
                "starts afresh"
            )
        self.observations, self.skipped = observations, skipped
        self.alarms, self.alarmed = alarms, alarmed
        stored = np.frombuffer(body, "<f8", offset=STATE_HEAD.size)
        self._evidence[:] = stored.reshape(self._evidence.shape)

    def _fingerprint(self) -> bytes:
        """8 bytes that tell this reference from others."""
        sha = hashlib.sha256(self.fitted.centroids.astype("<f4").tobytes())
        sha.update(self.fitted.tails.thresholds.astype("<f8").tobytes())
        sha.update(struct.pack("<d", self.fitted.threshold))
        return sha.digest()[:8]


def _log(evidence: Floats) -> float:
    mean = float(evidence.mean())
    return math.log(mean) if mean > 0.0 else 0.0
