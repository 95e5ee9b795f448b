"""Who holds a lease: a process by host, PID namespace, number and start, so that another process
on the same machine can tell that it is gone without waiting for the lease to run out.
"""

import os
import socket
import uuid

import psutil


def this_process() -> str:
    """`host|namespace|pid|start|nonce` of the calling process."""
    start = psutil.Process().create_time()
    nonce = uuid.uuid4().hex[:8]
    return f"{_place()}|{os.getpid()}|{start:.2f}|{nonce}"


def is_gone(holder: str) -> bool:
    """True only where the holder ran here and is certainly no more."""
    parts = holder.rsplit("|", 3)
    if len(parts) != 4 or parts[0] != _place() or not parts[1].isdigit():
        return False
    try:
        process = psutil.Process(int(parts[1]))
        # A number that another process got since has another start.
        return f"{process.create_time():.2f}" != parts[2] or (
            process.status() == psutil.STATUS_ZOMBIE
        )
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False


def _place() -> str:
    """The host and, where there is one, the PID namespace: containers may share a host name."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = "pid"
    return f"{socket.gethostname()}|{namespace}"
