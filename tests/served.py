"""Servers of every task, each started at its first use, for the tests that ask them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from edgeloop.bundle import Bundle
from tests import tiny
from tests.edge_server import serving

PAIR = "pair"


@dataclass(frozen=True)
class Task:
    """A bundle, the URL of its server, and a client of it."""

    bundle: Bundle
    url: str
    http: httpx.Client


Tasks = Callable[[str], Task]


@contextmanager
def tasks(folder: Path) -> Iterator[Tasks]:
    """The server of a task by its name; PAIR is text-classification of pairs."""
    running: dict[str, Task] = {}
    with ExitStack() as stack:

        def served(name: str) -> Task:
            if name not in running:
                task = "text-classification" if name == PAIR else name
                bundle = tiny.make_bundle(folder / name, task=task, text_pair=name == PAIR)
                server = stack.enter_context(serving(bundle=bundle.path, home=folder / "home"))
                client = httpx.Client(base_url=server.url, timeout=20)
                running[name] = Task(bundle, server.url, stack.enter_context(client))
            return running[name]

        yield served


def floats(values: Any) -> NDArray[np.float32]:
    """What a tensor of FP32 makes of numbers."""
    return np.asarray(values, np.float32)
