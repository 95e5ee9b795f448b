"""What the live detector remembers between two rows, and its bytes."""

import hashlib
import struct
import zlib
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from edgeloop.errors import MonitorError
from monitor import class_mix, neighbours, witness
from monitor.eprocess import MEMBERS
from monitor.fit import Fitted
from monitor.witness import LAG

# The magic's last digit is the version.
MAGIC = b"ELD2"
HEAD = struct.Struct("<4s8sqqqq?")
CHECKSUM = struct.Struct("<I")
# Little-endian, in this order.
ARRAYS = {
    "evidence": "<f8",
    "directions": "<f4",
    "olds": "<f4",
    "mix": "<f4",
    "old_kinds": "<i2",
    "bursts": "<f8",
}


@dataclass
class Memory:
    """evidence (members,), directions (rates, components) of the witness, olds (LAG, components)
    and old_kinds (LAG,) are the last rows, row i of this run in slot i % LAG; mix (rates, kinds),
    bursts (members of neighbours,). `since_reset` counts rows; the others count for good."""

    evidence: NDArray[np.float64]
    directions: NDArray[np.float32]
    olds: NDArray[np.float32]
    mix: NDArray[np.float32]
    old_kinds: NDArray[np.int16]
    bursts: list[float]
    since_reset: int = 0
    observations: int = 0
    skipped: int = 0
    alarms: int = 0
    alarmed: bool = False

    @classmethod
    def fresh(cls, fitted: Fitted, ratios: NDArray[np.float32]) -> Self:
        """Before the first row."""
        components = len(fitted.whitening.projection)
        rates = len(class_mix.RATES) if "class_mix" in fitted.parts else 0
        return cls(
            evidence=np.zeros(sum(MEMBERS[part] for part in fitted.parts)),
            directions=np.zeros((len(witness.RATES), components), dtype=np.float32),
            olds=np.zeros((LAG, components), dtype=np.float32),
            mix=np.repeat(ratios[None], rates, axis=0),
            old_kinds=np.zeros(LAG, dtype=np.int16),
            bursts=[0.0] * neighbours.MEMBERS,
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """By name, in the order of their bytes."""
        return {name: np.asarray(getattr(self, name)) for name in ARRAYS}


def fingerprint(fitted: Fitted) -> bytes:
    """8 bytes that tell this reference from others."""
    sha = hashlib.sha256(fitted.centroids.astype("<f4").tobytes())
    for array in (fitted.tails.thresholds, fitted.tails.rates, fitted.kind_counts):
        sha.update(array.astype("<f8").tobytes())
    sha.update(fitted.whitening.projection.astype("<f4").tobytes())
    sha.update(
        struct.pack(f"<d{len(fitted.design_effects)}d", fitted.threshold, *fitted.design_effects)
    )
    return sha.digest()[:8]


def encode(memory: Memory, reference: bytes) -> bytes:
    """A state's bytes; `reference` is its fingerprint."""
    counts = (memory.since_reset, memory.observations, memory.skipped, memory.alarms)
    head = HEAD.pack(MAGIC, reference, *counts, memory.alarmed)
    body = head + b"".join(
        array.astype(ARRAYS[name]).tobytes() for name, array in memory.arrays().items()
    )
    return body + CHECKSUM.pack(zlib.crc32(body))


def decode(state: bytes, like: Memory, reference: bytes) -> Memory:
    """The memory of a state, with the shapes of `like`. Raises MonitorError where it is damaged, of
    another version or of another reference."""
    body, checksum = state[: -CHECKSUM.size], state[-CHECKSUM.size :]
    if body[: len(MAGIC)] != MAGIC or checksum != CHECKSUM.pack(zlib.crc32(body)):
        raise MonitorError(
            f"a detector state of {len(state)} bytes is damaged or of another version; delete it, "
            "the detector then starts afresh"
        )
    _, found, since_reset, observations, skipped, alarms, alarmed = HEAD.unpack_from(body)
    size = HEAD.size + sum(array.nbytes for array in like.arrays().values())
    if found != reference or len(body) != size:
        raise MonitorError(
            "a detector state belongs to another reference; delete it, the detector then "
            "starts afresh"
        )
    arrays: dict[str, Any] = {}
    offset = HEAD.size
    for name, array in like.arrays().items():
        stored = np.frombuffer(body, ARRAYS[name], count=array.size, offset=offset)
        arrays[name] = stored.reshape(array.shape).astype(array.dtype)
        offset += array.nbytes
    arrays["bursts"] = arrays["bursts"].tolist()
    return Memory(
        **arrays,
        since_reset=since_reset,
        observations=observations,
        skipped=skipped,
        alarms=alarms,
        alarmed=alarmed,
    )
