"""python -m bench.serve.unobserved FOLDER --port PORT: our server, its monitor does nothing."""

import sys
from pathlib import Path

from edgeloop.bundle import Bundle
from edgeloop.observer import Labelled, Observation, ObserverStatus
from edgeloop.records import Verdict
from serve.run import ServerSettings, run_server


class Blind:
    """Takes what it is given."""

    def __init__(self, _: Bundle) -> None:
        pass

    def observe(self, _: Observation) -> Verdict | None:
        """Nothing."""
        return None

    def label(self, _: Labelled) -> Verdict | None:
        """Nothing."""
        return None

    def status(self) -> ObserverStatus:
        """Nothing."""
        return ObserverStatus(False, 0, 0, 0.0, 0.0, 1, 0.0, 0, False)

    def state(self) -> bytes:
        """Nothing."""
        return b""

    def restore(self, _: bytes) -> None:
        """Nothing."""


if __name__ == "__main__":
    sys.exit(
        run_server(
            ServerSettings(
                host="127.0.0.1",
                port=int(sys.argv[3]),
                bundle=Path(sys.argv[1]),
                follow=None,
                ledger=None,
                make_observer=Blind,
                on_verdict=lambda _: None,
                workers=2,
            )
        )
    )
