"""serve.yaml's `capture`, and the operator's own patterns."""

from pathlib import Path

import pytest

from edgeloop.errors import RecipeError
from serve.capture.config import CaptureConfig
from serve.config import load_config


def capture(folder: Path, *lines: str) -> CaptureConfig:
    path = folder / "serve.yaml"
    body = "".join(f"  {line}\n" for line in ("folder: rows", *lines))
    path.write_text(f"capture:\n{body}", encoding="utf-8")
    found = load_config(path).capture
    assert found is not None
    return found


def test_its_folder_is_taken_from_the_files_own(tmp_path: Path) -> None:
    assert capture(tmp_path).folder == tmp_path / "rows"
    assert capture(tmp_path, "share: 0.5").share == 0.5


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("share: 1.5", "capture.share"),
        ("max_bytes: 10", "capture.max_bytes"),
        ("ttl_days: 0", "capture.ttl_days"),
        ("patterns: {order: '['}", "order: is no regular expression"),
        ("patterns: {order: 'x*'}", "matches the empty text"),
        ("patterns: {Order: 'x'}", "lower-case"),
        (f"patterns: {{order: {'x' * 501}}}", "longer than 500"),
        ("patterns: {order: 3}", "capture.patterns"),
        ("sare: 0.5", "did you mean share"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, line: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        capture(tmp_path, line)


def test_a_capture_that_keeps_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="both shares are 0"):
        capture(tmp_path, "share: 0.0", "low_confidence_share: 0.0")
