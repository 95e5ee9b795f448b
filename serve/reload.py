"""SIGHUP: read serve.yaml again, and change what can be changed while requests are answered."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from edgeloop.errors import RecipeError
from serve.config import ServerConfig, load_config

logger = logging.getLogger(__name__)

Change = Callable[[ServerConfig], Awaitable[object] | None]


class Reloader:
    """Holds the configuration of the moment. A key that nobody has added waits for the next start.
    `always`: what to call at every reload, in a thread: other files may have changed."""

    def __init__(self, config: ServerConfig, path: Path | None) -> None:
        self.config = config
        self.always: list[Callable[[], object]] = []
        self._path = path
        self._changes: list[tuple[frozenset[str], Change]] = []
        self._turn = asyncio.Lock()

    def add(self, keys: set[str], change: Change) -> None:
        """Call `change` with the new configuration when one of these keys has changed."""
        self._changes.append((frozenset(keys), change))

    async def reload(self) -> None:
        """Read and apply; a file with problems changes nothing, and all of them are logged."""
        async with self._turn:
            for again in self.always:
                await self._call(partial(_in_thread, again))
            if self._path is None:
                logger.warning("event=reload_ignored problem='started without --config'")
                return
            try:
                new = await asyncio.to_thread(load_config, self._path)
            except RecipeError as problem:
                for line in str(problem).splitlines():
                    logger.error("event=reload_refused problem=%s", line)
                return
            await self._apply(new)

    async def _apply(self, new: ServerConfig) -> None:
        old = self.config
        changed = {k for k in type(new).model_fields if getattr(new, k) != getattr(old, k)}
        live = {key for keys, _ in self._changes for key in keys}
        for key in sorted(changed - live):
            logger.warning("event=setting_ignored key=%s problem='until the next start'", key)
        kept = {key: getattr(old, key) for key in changed - live}
        self.config = new.model_copy(update=kept)
        for keys, change in self._changes:
            if keys & changed:
                await self._call(change)
        logger.info("event=reloaded changed=%s", ",".join(sorted(changed & live)) or "nothing")

    async def _call(self, change: Change) -> None:
        try:
            done = change(self.config)
            if done is not None:
                await done
        except Exception:  # the others are told all the same
            logger.exception("event=reload_failed")


async def _in_thread(step: Callable[[], object], _: ServerConfig) -> None:
    await asyncio.to_thread(step)
