"""python -m serve.worker FD: an inference process, and the one that makes them.

What is started imports what every process needs, and then forks one for every socket that it is
sent over the socket FD: they share the memory of all that, and are there at once. It forks before
there are sessions or threads. Each answers texts, one at a time, until its socket ends.
"""

import ctypes
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from edgeloop import log
from edgeloop.errors import EngineError, TextTooLong
from edgeloop.models import Model, open_model, rest_of
from edgeloop.runtime import Answered
from serve.worker_messages import (
    Ask,
    Drop,
    Failed,
    Frames,
    FromWorker,
    Hello,
    Load,
    Loaded,
    ToWorker,
    pack,
    told,
)

logger = logging.getLogger(__name__)

READ_BYTES = 1 << 14
PR_SET_PDEATHSIG = 1  # linux/prctl.h
# The server ends its processes itself, when the last answer is there.
NOT_FOR_US = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Worker:
    """Answers what comes over a socket."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._models: dict[int, Model] = {}
        self._sending = threading.Lock()

    def run(self) -> None:
        """Until the other side is gone."""
        frames = Frames(ToWorker)
        self._send(Hello(os.getpid()))
        while data := self._channel.recv(READ_BYTES):
            for message in frames.read(data):
                self._take(message)

    def _take(self, message: ToWorker) -> None:
        if isinstance(message, Ask):
            self._send(self._answer(message))
        elif isinstance(message, Load):
            # Beside the answers, which go on meanwhile.
            threading.Thread(target=self._load, args=(message,), daemon=True).start()
        elif isinstance(message, Drop):
            self._models.pop(message.model, None)

    def _answer(self, asked: Ask) -> FromWorker:
        started = time.monotonic()
        try:
            answered = self._ask(asked)
        except TextTooLong as problem:
            return Failed(asked.number, True, str(problem))
        except Exception as problem:
            return Failed(asked.number, False, str(problem) or repr(problem))
        return told(asked.number, answered, started, time.monotonic() - started)

    def _ask(self, asked: Ask) -> Answered:
        model = self._models.get(asked.model)
        if model is None:
            raise EngineError("the inference process does not have this model")
        return (rest_of(model) if asked.rest else model).answer(asked.text, asked.truncate)

    def _load(self, load: Load) -> None:
        try:
            self._models[load.model] = open_model(Path(load.folder), load.max_tokens)
        except Exception as problem:
            self._send(Loaded(load.model, str(problem) or repr(problem)))
        else:
            self._send(Loaded(load.model, None))

    def _send(self, message: FromWorker) -> None:
        with self._sending:
            self._channel.sendall(pack(message))


def _fork_for(channel: socket.socket, control: socket.socket) -> None:
    """One more process. Ends it when its channel ends, or this process."""
    parent = os.getpid()
    if os.fork():
        channel.close()
        return
    control.close()
    _die_with(parent)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    code = 0
    try:
        Worker(channel).run()
    except (BrokenPipeError, ConnectionResetError):
        pass  # the server is gone
    except BaseException:
        logger.exception("event=inference_process_failed")
        code = 1
    finally:
        os._exit(code)


def _die_with(parent: int) -> None:
    """Let the kernel end this process with its parent, where it can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def main(arguments: Sequence[str]) -> None:
    """See the module."""
    import tokenizers  # noqa: F401  what forked processes share

    (number,) = arguments
    control = socket.socket(fileno=int(number))
    log.configure()
    for each in NOT_FOR_US:
        signal.signal(each, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that end
    gc.collect()
    gc.freeze()  # a collection would write to the pages that are shared
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not data:
            return
        for descriptor in descriptors:
            _fork_for(socket.socket(fileno=descriptor), control)


if __name__ == "__main__":
    main(sys.argv[1:])
