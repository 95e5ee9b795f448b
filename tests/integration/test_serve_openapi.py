"""The OpenAPI document of a real server, fuzzed: every answer is as the document says."""

import subprocess
import sys
from pathlib import Path

import pytest

from serve.openapi import OPERATIONS
from tests import tiny
from tests.edge_server import serving

# A deadline of nanoseconds is a valid one, and passes. What fits the document may still be refused:
# an empty text, a pair for a model of single texts.
CONFIG = """
[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "504"]
positive_data_acceptance.enabled = false
[parameters]
"path.model" = "tiny"
"""
OPTIONS = ("--phases=coverage,fuzzing", "--max-examples=5", "--seed=1", "--no-shrink")


@pytest.mark.parametrize("task", ["text-classification", "text-embedding"])
def test_every_answer_is_as_the_document_says(tmp_path: Path, task: str) -> None:
    bundle = tiny.make_bundle(tmp_path / "bundle", task=task)
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    program = Path(sys.executable).with_name("schemathesis")
    with serving(bundle=bundle.path, home=tmp_path / "home") as server:
        command = [str(program), "run", f"{server.url}/openapi.json", *OPTIONS]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        # All but the document itself.
        assert f"{len(OPERATIONS) - 1} selected" in done.stdout
        assert server.stop() == 0
    assert "Traceback" not in server.log
