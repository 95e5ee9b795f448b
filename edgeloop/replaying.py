"""A file's texts against a running server or a bundle. Command: `edgeloop monitor replay`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeloop.bundle import open_bundle
from edgeloop.recipe import Columns
from finetune.data import read_labelled
from monitor.replay import ReplayResult, replay, replay_offline


def replay_file(
    file: Path,
    url: str | None,
    bundle: Path | None,
    stop_at_alarm: bool,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Exactly one of `url` and `bundle` is given. Raises EdgeloopError for a file that does not
    read, a bundle that does not open, a server that does not answer, and a model that answers
    something else than labels of single texts."""
    rows = [(row.id, row.text, row.label) for row in read_labelled(file, Columns())]
    if url is not None:
        result = replay(rows, url, progress, stop_at_alarm)
    else:
        assert bundle is not None
        result = replay_offline(rows, open_bundle(bundle), progress, stop_at_alarm)
    return document(result)


def document(result: ReplayResult) -> dict[str, Any]:
    """The result as plain values."""
    verdict = result.verdict
    return {
        "sent": result.sent,
        "failed": result.failed,
        "accuracy": result.accuracy,
        "verdict": None if verdict is None else verdict.model_dump(mode="json"),
        "requests_until_alarm": result.requests_until_alarm,
        "alarmed_before": result.alarmed_before,
        "armed": result.armed,
        "log_evidence": result.log_evidence,
        "threshold": result.threshold,
        "evidence": [list(point) for point in result.evidence],
    }
