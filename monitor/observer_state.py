"""The saved state of an observer: a magic, a checksum of the rest, MessagePack, compressed.

<4s magic><u4 CRC-32 of what follows><zlib of the MessagePack of ObserverState>
"""

import math
import struct
import zlib

import msgspec

from edgeloop.errors import MonitorError
from monitor.states import State
from monitor.words import RecentRow

# The last digit is the version of ObserverState.
MAGIC = b"ELO3"
HEAD = struct.Struct("<4sI")
LEVEL = 1

Row = tuple[list[str], list[int], int, int, list[float]]


class Reached(msgspec.Struct, frozen=True, array_like=True):
    """The highest that the detectors have reached since the traffic was quiet: each one's evidence
    over its threshold, the primary's log evidence and effect size."""

    ratios: dict[str, float]
    log_evidence: float
    effect_size: float

    def higher(self, other: "Reached") -> "Reached":
        """The higher of each."""
        names = self.ratios | other.ratios
        low = -math.inf
        return Reached(
            {n: max(self.ratios.get(n, low), other.ratios.get(n, low)) for n in names},
            max(self.log_evidence, other.log_evidence),
            max(self.effect_size, other.effect_size),
        )


NOTHING = Reached({}, -math.inf, 0.0)


class ObserverState(msgspec.Struct, array_like=True):
    """All that changes with the rows. Arrays are little-endian: evidence float64, path float32."""

    bundle_digest: str
    detector: bytes
    secondary: bytes
    path: bytes
    recent: list[Row]
    state: State
    quiet_rows: int
    needed_rows: int
    harm: bool | None
    alarmed: bool
    alarms: int
    restart_in: int
    standing: Reached
    accuracy: bytes


def encode_state(state: ObserverState) -> bytes:
    """The bytes of a state."""
    body = zlib.compress(msgspec.msgpack.encode(state), LEVEL)
    return HEAD.pack(MAGIC, zlib.crc32(body)) + body


def decode_state(data: bytes, bundle_digest: str) -> ObserverState:
    """Raises MonitorError where it is damaged, of another bundle or of another version."""
    body = data[HEAD.size :]
    try:
        if data[: HEAD.size] != HEAD.pack(MAGIC, zlib.crc32(body)):
            raise ValueError("its checksum or its version does not fit")
        stored = msgspec.msgpack.decode(zlib.decompress(body), type=ObserverState)
    except (ValueError, zlib.error, msgspec.MsgspecError) as problem:
        raise MonitorError(
            f"an observer state of {len(data)} bytes is damaged or of another version "
            f"({problem}); delete it, the observer then starts afresh"
        ) from None
    if stored.bundle_digest != bundle_digest:
        raise MonitorError(
            f"an observer state of the bundle {stored.bundle_digest[:12]} does not fit "
            f"{bundle_digest[:12]}; delete it, the observer then starts afresh"
        )
    return stored


def pack_row(row: RecentRow) -> Row:
    """A recent row as it is stored; sorted, so that equal states are equal bytes."""
    return sorted(row.words), sorted(row.ngrams), row.predicted, row.cluster, list(row.features)


def unpack_row(row: Row) -> RecentRow:
    """The row that `pack_row` stored."""
    words, ngrams, predicted, cluster, features = row
    return RecentRow(frozenset(words), frozenset(ngrams), predicted, cluster, tuple(features))
