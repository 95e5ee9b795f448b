"""Starts `python -m serve.worker`, which makes the inference processes."""

import socket
import subprocess

from edgeloop.processes import module_command, module_environment

CLOSE_SECONDS = 2.0
ONE_THREAD = {
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


class WorkerMaker:
    """That process. It and those that it made end with this one, whatever ends it."""

    def __init__(self) -> None:
        """Returns at once. Raises OSError."""
        self._start()

    def __enter__(self) -> "WorkerMaker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def make(self) -> socket.socket:
        """One more inference process: the socket to it. Raises OSError."""
        if self._process.poll() is not None:
            self._control.close()
            self._start()
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                socket.send_fds(self._control, [b"x"], [theirs.fileno()])
        except OSError:
            ours.close()
            raise
        return ours

    def close(self) -> None:
        """End all of them."""
        self._control.close()
        try:
            self._process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _start(self) -> None:
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                module_command("serve.worker", str(theirs.fileno())),
                env=module_environment(**ONE_THREAD),
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
