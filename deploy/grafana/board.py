"""Makes the Grafana boards: `python -m deploy.grafana.board` rewrites dashboards/*.json.

The JSON is committed, so that Grafana's provisioning needs no Python; a test compares the two.
"""

import json
from pathlib import Path

from deploy.grafana.fleet import FLEET
from deploy.grafana.one_model import ONE_MODEL
from deploy.grafana.panels import Board, dashboard
from deploy.grafana.retraining import RETRAINING

FOLDER = Path(__file__).parent / "dashboards"
BOARDS = {"fleet.json": FLEET, "model.json": ONE_MODEL, "retraining.json": RETRAINING}


def render(board: Board) -> str:
    """The file's text."""
    return json.dumps(dashboard(board), indent=2) + "\n"


if __name__ == "__main__":
    for name, board in BOARDS.items():
        (FOLDER / name).write_text(render(board), encoding="utf-8")
