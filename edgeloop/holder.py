"""Who holds a lease: a process by host, PID namespace, number and start, so that another process
on the same machine can tell that it is gone without waiting for the lease to run out.
"""

import os
import socket
import uuid
from pathlib import Path

import psutil

PROC = Path("/proc")
BOOT_ID = PROC / "sys/kernel/random/boot_id"
ENDED = ("Z", "X")  # zombie, dead: see proc_pid_stat(5)


def this_process() -> str:
    """`host|namespace|pid|start|nonce` of the calling process."""
    nonce = uuid.uuid4().hex[:8]
    return f"{_place()}|{os.getpid()}|{_start(os.getpid())}|{nonce}"


def is_gone(holder: str) -> bool:
    """True only where the holder ran here and is certainly no more."""
    parts = holder.rsplit("|", 3)
    if len(parts) != 4 or parts[0] != _place() or not parts[1].isdigit():
        return False
    try:
        # A number that another process got since has another start.
        return _start(int(parts[1])) != parts[2]
    except (psutil.AccessDenied, PermissionError):
        return False
    except psutil.NoSuchProcess:
        return True


def _start(pid: int) -> str | None:
    """`ticks@boot`: the clock ticks since the boot when the process started, which no step of the
    clock moves; without /proc, seconds since the epoch. None where the process has ended.

    Raises psutil.NoSuchProcess or AccessDenied. Source: proc_pid_stat(5), fields 3 and 22.
    """
    if not BOOT_ID.exists():
        process = psutil.Process(pid)
        ended = process.status() == psutil.STATUS_ZOMBIE
        return None if ended else f"{process.create_time():.2f}"
    try:
        stat = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        if psutil.pid_exists(pid):  # /proc may be mounted so that it hides other users' processes
            raise psutil.AccessDenied(pid) from None
        raise psutil.NoSuchProcess(pid) from None
    fields = stat.rpartition(")")[2].split()  # the command's name may hold spaces and brackets
    state, ticks = fields[0], fields[19]
    return None if state in ENDED else f"{ticks}@{BOOT_ID.read_text(encoding='ascii').strip()}"


def _place() -> str:
    """The host and, where there is one, the PID namespace: containers may share a host name."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = "pid"
    return f"{socket.gethostname()}|{namespace}"
