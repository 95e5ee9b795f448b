"""What a run found out about forgetting: the record of its stage `retention`."""

from typing import Literal

from edgeloop.records import PairedDrop, Record, StageRecord

RetentionVerdict = Literal["kept", "forgotten", "undecided", "not compared"]


class ClassRetention(Record):
    """One class's share of right answers, `before` by the previous model (None without one) and
    `after` by the new one. `lost` rows only the previous model answers rightly, `gained` rows only
    the new one. `forgotten`: that it fell is significant (finetune.retention.verdict)."""

    label: str
    rows: int
    before: float | None
    after: float
    lost: int
    gained: int
    forgotten: bool


class RetentionRecord(StageRecord):
    """The retention suite answered before and after. `golden_rows` of its rows came with the
    previous bundle, the others from retention.files; `left_out` rows were trained on. `before` and
    `drop` are None where there is no previous model, `rows_needed` where the rows were enough."""

    previous: str | None
    verdict: RetentionVerdict
    passed: bool
    reasons: tuple[str, ...]
    rows: int
    golden_rows: int
    left_out: int
    before: float | None
    after: float | None
    max_drop: float
    drop: PairedDrop | None
    rows_needed: int | None
    classes: tuple[ClassRetention, ...]

    def warnings(self) -> tuple[str, ...]:
        """What a person should hear of it: all of the reasons, but where it is kept in every class
        and where nothing was compared."""
        is_quiet = self.verdict == "not compared" or (
            self.verdict == "kept" and not any(c.forgotten for c in self.classes)
        )
        return () if is_quiet else self.reasons
