"""Watches a folder of bundles: the last complete one by name is served. A bundle that fails is not
tried again until something in its folder changes.

By name and not by time: copies and clocks change times, and a listing shows the order.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path

from edgeloop.bundle import MANIFEST, Bundle
from edgeloop.rundir import digest_of
from serve.deployments import Deployments
from serve.slot import ActivationError

logger = logging.getLogger(__name__)


class Watcher:
    """Looks for as long as `run` runs. `seen`: the stamp that was acted upon last; `check` opens a
    bundle's folder (see verify_bundle)."""

    def __init__(
        self,
        deployments: Deployments,
        folder: Path,
        check: Callable[[Path], Bundle],
        seen: str | None = None,
    ) -> None:
        self.seen = seen
        self._deployments = deployments
        self._folder = folder
        self._check = check
        self._lost = False

    async def run(self, poll_seconds: Callable[[], float]) -> None:
        """Look every `poll_seconds()` until cancelled."""
        while True:
            try:
                await self.look()
            except Exception:  # the server keeps what it has; the next look is another chance
                logger.exception("event=watch_failed")
            await asyncio.sleep(poll_seconds())

    async def look(self) -> None:
        """Look once, and swap where another bundle is the newest or it has changed."""
        found = await asyncio.to_thread(self._newest)
        if found is None:
            return
        path, stamp = found
        if stamp == self.seen:
            return
        self.seen = stamp  # before the swap: it writes down what was seen
        try:
            swapped = await self._deployments.swap(path, "watch", lambda: self._check(path))
        except ActivationError:  # logged, counted and kept in the history already
            swapped = False
        if not swapped:
            await self._deployments.changed()

    def _newest(self) -> tuple[Path, str] | None:
        """The last complete bundle folder by name, and what tells its content from another."""
        try:
            folders = sorted(p for p in self._folder.iterdir() if not p.name.startswith("."))
        except OSError as problem:
            if not self._lost:
                logger.error("event=watch_lost folder=%s problem=%s", self._folder, problem)
            self._lost = True
            return None
        self._lost = False
        for path in reversed(folders):
            if is_complete(path):
                return path, stamp_of(path)
        return None


def is_complete(path: Path) -> bool:
    """Is every file there that the manifest names, in its size? A copy under way is not."""
    try:
        entries = json.loads((path / MANIFEST).read_bytes())["files"]
        return all((path / e["path"]).stat().st_size == e["bytes"] for e in entries)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return False


def stamp_of(path: Path) -> str:
    """Changes with every change in the folder, without reading its files."""
    entries = []
    for file in sorted(path.rglob("*")):
        try:
            found = file.stat()
        except OSError:
            continue
        entries.append((str(file), found.st_size, found.st_mtime_ns, found.st_ino))
    return digest_of([str(path), entries])
