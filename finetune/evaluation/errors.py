"""The worst errors with their texts: a local file beside the record, and nothing else."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from edgeloop.rows import LINE_SEPARATORS

WORST = 20
ERRORS = "errors.jsonl"


@dataclass(frozen=True)
class Mistake:
    """A row that was answered wrongly, and how sure the model was; for retrieval `score` is by how
    much the wrong text is nearer than the right one."""

    id: str
    text: str
    text_pair: str | None
    truth: str
    answer: str
    score: float


def write_errors(path: Path, mistakes: Sequence[Mistake]) -> None:
    """The 20 of which the model was surest, that one first; one JSON object per line."""
    worst = sorted(mistakes, key=lambda mistake: (-mistake.score, mistake.id))[:WORST]
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        for mistake in worst:
            line = json.dumps(asdict(mistake), ensure_ascii=False)
            for separator in LINE_SEPARATORS:
                line = line.replace(separator, f"\\u{ord(separator):04x}")
            stream.write(line + "\n")
