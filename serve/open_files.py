"""How many connections this process can hold."""

import logging
import resource

logger = logging.getLogger(__name__)

# Models, ledger, segments, pipes, the event loop.
OWN_FILES = 128


def raise_open_files() -> int:
    """Raise the soft limit of open files to the hard one; returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):  # macOS: the hard limit may be more than the kernel takes
            return soft
    return hard


def usable_connections(wanted: int) -> int:
    """`wanted`, or as many as there are file descriptors for."""
    open_files = raise_open_files()
    if open_files == resource.RLIM_INFINITY or wanted + OWN_FILES <= open_files:
        return wanted
    possible = max(1, open_files - OWN_FILES)
    logger.warning(
        "event=fewer_connections max_connections=%d possible=%d open_files=%d problem='raise "
        "LimitNOFILE or ulimit -n'",
        wanted,
        possible,
        open_files,
    )
    return possible
