"""The inference processes of a server, which all its deployments share.

The event loop sends texts and reads answers; it never waits for a process. A process has at most
OUTSTANDING texts, so that the next one is there when one is done and the others can still expire.
One that ends is started again with its models, after a while that grows where that happens often;
its texts go to another one, once: a text that ends two processes is told to have failed.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from pathlib import Path
from typing import Protocol

from edgeloop.errors import EngineError
from serve.metrics import ServeMetrics
from serve.queueing import Work
from serve.receiver import Receiver
from serve.restarts import Restarts
from serve.worker_maker import WorkerMaker
from serve.worker_messages import (
    Ask,
    Drop,
    Failed,
    FromWorker,
    Load,
    Loaded,
    Told,
    ToWorker,
    pack,
)
from serve.worker_process import Process

logger = logging.getLogger(__name__)

OUTSTANDING = 3
READ_BYTES = 1 << 14  # some answers; larger buffers cost more to get than to fill
LOAD_SECONDS = 60.0


class Client(Protocol):
    """An engine, as the pool sees it; it is called with the pool's lock held."""

    @property
    def model(self) -> int:
        """Its number in the pool."""
        ...

    def oldest(self) -> float | None:
        """When the oldest text that waits was submitted; None without any."""
        ...

    def take(self) -> Work | None:
        """The next text to be sent."""
        ...

    def answer(self, work: Work, told: Told | Failed) -> None:
        """What became of a text that was sent."""
        ...

    def fail(self, work: Work, problem: Exception) -> None:
        """It could not be sent, or has ended two processes."""
        ...

    def left_alone(self) -> None:
        """No process is left."""
        ...


Sent = tuple[Client, Work]


class WorkerPool:
    """`size` processes. `changed` is the lock of the pool and of its engines."""

    def __init__(self, size: int, maker: WorkerMaker, metrics: ServeMetrics) -> None:
        self.size = size
        self.changed = threading.Condition()
        self._maker = maker
        self._metrics = metrics
        self._receiver = Receiver()
        self._processes: list[Process[Sent]] = []
        self._ready: list[Process[Sent]] = []  # those that have every model
        self._models: dict[int, Load] = {}
        self._trusted: set[int] = set()  # models that every process has had
        self._problems: dict[int, str] = {}
        self._clients: list[Client] = []
        self._again: deque[tuple[Client, Work]] = deque()
        self._retried: set[Work] = set()
        self._number = 0
        self._restarts = Restarts(self._restart)
        self._closing = False

    def start(self) -> None:
        """Let the processes be made; returns at once."""
        self._receiver.start()
        with self.changed:
            for _ in range(self.size):
                self._make()

    async def read_on_loop(self) -> None:
        """Read on this event loop until cancelled."""
        self._receiver.attach(asyncio.get_running_loop())
        try:
            await asyncio.Event().wait()
        finally:
            self._receiver.detach()

    def close(self) -> None:
        """Let the processes end."""
        with self.changed:
            self._closing = True
            self._restarts.cancel()
            processes, self._processes, self._ready = self._processes, [], []
        self._receiver.close()
        for process in processes:
            process.watched.channel.close()

    # -- models and engines ----------------------------------------------------------------------

    def open(self, folder: Path, max_tokens: int) -> int:
        """Load a model in every process, while they answer; its number. Raises EngineError where
        it does not load, or ends a process."""
        with self.changed:
            self._number += 1
            model = self._number
            self._models[model] = Load(model, str(folder), max_tokens)
            for process in list(self._processes):
                self._load(process, self._models[model])
            self.changed.wait_for(lambda: self._is_loaded(model), LOAD_SECONDS)
            problem = self._problems.pop(model, None)
            if problem is None and not self._is_loaded(model):
                problem = f"{folder}: does not load within {LOAD_SECONDS:g} s"
            if problem is not None:
                self.drop(model)
                raise EngineError(problem)
            self._trusted.add(model)
        return model

    def drop(self, model: int) -> None:
        """Let the processes forget a model."""
        with self.changed:
            self._models.pop(model, None)
            self._trusted.discard(model)
            for process in list(self._processes):
                process.loading.discard(model)
                self._ready_if_whole(process)
                self._say(process, Drop(model))

    def join(self, client: Client) -> None:
        """Ask an engine for texts from now on."""
        with self.changed:
            self._clients.append(client)

    def leave(self, client: Client) -> None:
        """Ask it no more, and forget its model."""
        with self.changed:
            self._clients.remove(client)
            self.drop(client.model)

    def healthy(self) -> bool:
        """Is any process left that answers?"""
        return bool(self._ready)

    def pids(self) -> list[int]:
        """Of the processes that answer."""
        return [process.pid for process in self._ready if process.pid]

    # -- texts: the lock is held -----------------------------------------------------------------

    def dispatch(self) -> None:
        """Give texts to processes that have room, the oldest first."""
        while self._ready:
            process = min(self._ready, key=_load_of)
            if len(process.sent) >= OUTSTANDING or not self._give(process):
                return

    def _give(self, process: Process[Sent]) -> bool:
        """Send the next text; False where none waits."""
        taken = self._next()
        if taken is None:
            return False
        client, work = taken
        self._number += 1
        text, truncate = work.key
        try:
            data = pack(Ask(self._number, client.model, text, truncate, work.finish is not None))
        except Exception as problem:  # no Unicode, for instance
            client.fail(work, problem)
            return True
        process.sent[self._number] = taken
        self._send(process, data)
        return True

    def _next(self) -> tuple[Client, Work] | None:
        if self._again:
            return self._again.popleft()
        waiting = [(at, i) for i, c in enumerate(self._clients) if (at := c.oldest()) is not None]
        for _, i in sorted(waiting):
            client = self._clients[i]
            work = client.take()
            if work is not None:
                return client, work
        return None

    # -- what a process says ---------------------------------------------------------------------

    def read(self, process: Process[Sent]) -> None:
        """There is something to read of it."""
        try:
            data = process.watched.channel.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        with self.changed:
            if not data:
                self._ended(process)
                return
            for message in process.frames.read(data):
                self._take(process, message)
            self.dispatch()

    def write(self, process: Process[Sent]) -> None:
        """It can be sent more."""
        with self.changed:
            try:
                process.send_rest()
            except OSError:
                self._ended(process)

    def _take(self, process: Process[Sent], message: FromWorker) -> None:
        if process not in self._processes:
            return  # given up while it was read; its texts are another's
        if isinstance(message, Told | Failed):
            client, work = process.sent.pop(message.number)
            self._retried.discard(work)
            client.answer(work, message)
        elif isinstance(message, Loaded):
            self._loaded(process, message)
        else:
            process.pid = message.pid

    def _loaded(self, process: Process[Sent], message: Loaded) -> None:
        if message.model not in process.loading:
            return  # dropped meanwhile
        process.loading.remove(message.model)
        if message.problem is not None and message.model in self._trusted:
            logger.error("event=inference_process_lacks_model problem=%s", message.problem)
            self._ended(process)
            return
        if message.problem is not None:
            self._problems[message.model] = message.problem
        self._ready_if_whole(process)
        self.changed.notify_all()

    def _ready_if_whole(self, process: Process[Sent]) -> None:
        known = process in self._processes and process not in self._ready
        if known and not process.loading & self._trusted:
            self._ready.append(process)
            self._show_size()

    def _is_loaded(self, model: int) -> bool:
        if model in self._problems:
            return True
        whole = [p for p in self._processes if model not in p.loading]
        return bool(whole) and len(whole) == len(self._processes)

    # -- processes that come and go: the lock is held --------------------------------------------

    def _make(self) -> None:
        """Have one more process made, and load what is open. Raises OSError."""
        process = Process[Sent](self._maker.make(), self._receiver, self.read, self.write)
        self._processes.append(process)
        for load in self._models.values():
            self._load(process, load)
        if not self._models:
            self._ready_if_whole(process)

    def _load(self, process: Process[Sent], load: Load) -> None:
        process.loading.add(load.model)
        self._say(process, load)

    def _say(self, process: Process[Sent], message: ToWorker) -> None:
        self._send(process, pack(message))

    def _send(self, process: Process[Sent], data: bytes) -> None:
        try:
            process.send(data)
        except OSError:
            self._ended(process)

    def _ended(self, process: Process[Sent]) -> None:
        """Give its texts to another, and start it again after a while."""
        if process not in self._processes:
            return
        self._processes.remove(process)
        if process in self._ready:
            self._ready.remove(process)
        self._receiver.forget(process.watched)
        self._show_size()
        if self._closing:
            return
        logger.error("event=inference_process_ended pid=%d", process.pid)
        for model in process.loading - self._trusted:
            self._problems[model] = "the model ends the process that loads it"
        for client, work in process.sent.values():
            self._once_more(client, work)
        process.sent.clear()
        if not self._ready:
            self._leave_alone()
        self._restarts.later(time.monotonic() - process.started)
        self.changed.notify_all()
        self.dispatch()

    def _once_more(self, client: Client, work: Work) -> None:
        if work in self._retried:
            self._retried.discard(work)
            client.fail(work, EngineError("the text ended two inference processes"))
        else:
            self._retried.add(work)
            self._again.append((client, work))

    def _leave_alone(self) -> None:
        """Nobody waits for what may never come."""
        for client, work in self._again:
            client.fail(work, EngineError("every inference process has ended"))
        self._again.clear()
        self._retried.clear()
        for client in list(self._clients):
            client.left_alone()

    def _restart(self) -> None:
        with self.changed:
            if self._closing:
                return
            try:
                self._make()
            except OSError as problem:
                logger.error("event=inference_process_not_started problem=%s", problem)
                self._restarts.later(0.0)
                return
            logger.warning("event=inference_process_restarted")
            self._metrics.worker_restarts.inc()

    def _show_size(self) -> None:
        self._metrics.workers.set(len(self._ready))


def _load_of(process: Process[Sent]) -> int:
    return len(process.sent)
