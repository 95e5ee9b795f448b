"""How much is measured: sources, reference sizes, targets, references and streams."""

from collections.abc import Sequence
from dataclasses import dataclass

SEED = 60
# The live pool stands for all traffic: its own sampling error, of which the monitor cannot know,
# must not be much larger than the reference's.
LEAST_LIVE_RATIO = 0.75
# Streams without drift last twice their target, so that most of them can alarm.
LENGTH_OVER_TARGET = 2
# Rows without drift before a change: a whole number of the peers' windows, so that one begins with
# the change, which suits them best. And how long an alarm is waited for after it.
BEFORE_ROWS, WAIT_ROWS = 500, 2_000
MEAN_BURSTS = (1.25, 2.0)


@dataclass(frozen=True)
class Plan:
    """`many` references where the worst tenth is told (target targets[0], at most `many_rows`
    reference rows), `few` elsewhere; `streams` per reference at that target, at longer ones as many
    rows."""

    sources: Sequence[str]
    targets: Sequence[int]
    reference_rows: Sequence[int]
    many: int
    many_rows: int
    few: int
    streams: int
    bursty_streams: int
    shifted_streams: int
    peer_sources: Sequence[str]
    peer_streams: int
    timed_rows: int

    @property
    def target(self) -> int:
        """The run length at which delays are compared."""
        return self.targets[0]

    def sizes(self, pool: int) -> list[int]:
        """Reference sizes that leave enough of the pool to be the traffic."""
        return [rows for rows in self.reference_rows if pool - rows >= LEAST_LIVE_RATIO * rows]

    def compared(self, pool: int) -> int:
        """The reference size at which delays and bursts are measured: the second, or the first."""
        return self.sizes(pool)[:2][-1]

    def streams_of(self, target: int) -> int:
        """Streams per reference: as many rows at every target."""
        return max(1, self.streams * self.target // target)

    def references(self, target: int, reference_rows: int) -> int:
        """How many references are drawn."""
        is_many = target == self.target and reference_rows <= self.many_rows
        return self.many if is_many else self.few


FULL = Plan(
    sources=("banking77", "banking77-62", "restaurant8k", "gsm8k", "tickets"),
    targets=(5_000, 20_000),
    reference_rows=(500, 1_500, 2_500, 4_000),
    many=30,
    many_rows=1_500,
    few=6,
    streams=64,
    bursty_streams=4,
    shifted_streams=25,
    peer_sources=("banking77", "restaurant8k"),
    peer_streams=20,
    timed_rows=20_000,
)
QUICK = Plan(
    sources=("restaurant8k", "tickets"),
    targets=(1_000,),
    reference_rows=(500, 700),
    many=6,
    many_rows=700,
    few=4,
    streams=16,
    bursty_streams=2,
    shifted_streams=8,
    peer_sources=("restaurant8k",),
    peer_streams=4,
    timed_rows=2_000,
)
