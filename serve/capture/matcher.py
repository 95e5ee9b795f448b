"""The operator's own patterns, in a process of their own.

    python -m serve.capture.matcher    reads {name: pattern}, then [text] by line; writes [text]

Python holds its lock during a match, so that a pattern that takes for ever would stop the server
from any thread. Here the kernel ends the process after CPU_SECONDS of one row's work, and the row
is dropped.
"""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from edgeloop.processes import module_command, module_environment

CPU_SECONDS = 1.0
# A pattern that finds what another has put there makes a text longer and longer.
MEMORY_BYTES = 512 * 1024 * 1024
# After a pattern that took for ever, for how long nothing is tried.
PAUSE_SECONDS = 10.0
LOWEST_PRIORITY = 19


class MatcherFailed(Exception):
    """The patterns could not be applied: the text may not be written."""


class Matcher:
    """Replaces what the patterns find by <name>."""

    def __init__(self, patterns: Mapping[str, str], pause_seconds: float = PAUSE_SECONDS) -> None:
        self._patterns = dict(patterns)
        self._pause_seconds = pause_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._not_before = 0.0

    def replace(self, texts: Sequence[str]) -> list[str]:
        """Raises MatcherFailed where the process has ended over it, or did a moment ago."""
        if not self._patterns:
            return list(texts)
        if time.monotonic() < self._not_before:
            raise MatcherFailed("a pattern took too long a moment ago")
        try:
            return self._ask(texts)
        except (OSError, ValueError) as problem:
            self.close()
            self._not_before = time.monotonic() + self._pause_seconds
            raise MatcherFailed(
                f"the patterns took too long or their process ended ({problem})"
            ) from None

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _ask(self, texts: Sequence[str]) -> list[str]:
        if self._process is None:
            self._process = subprocess.Popen(
                module_command("serve.capture.matcher"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # a traceback there must not put a text into the log
                env=module_environment(),
            )
            self._send(self._patterns)
        self._send(list(texts))
        assert self._process.stdout is not None
        replaced = json.loads(self._process.stdout.readline())
        return [str(text) for text in replaced]

    def _send(self, document: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(document).encode() + b"\n")
        self._process.stdin.flush()


def main() -> None:
    """Answer until the server closes the pipe."""
    os.nice(LOWEST_PRIORITY)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's, which is the server's to take
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    patterns = {
        f"<{name}>": re.compile(pattern)
        for name, pattern in json.loads(sys.stdin.buffer.readline()).items()
    }
    for line in sys.stdin.buffer:
        texts = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        for placeholder, pattern in patterns.items():
            texts = [pattern.sub(placeholder, text) for text in texts]
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        sys.stdout.buffer.write(json.dumps(texts).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
