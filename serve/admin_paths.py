"""What the admin listener lets in: bundles of the allowed folder, and no web page of another site.

A browser sends requests of any page to a loopback port. They are told by their Origin; a name that
an attacker lets point to loopback (DNS rebinding) is told by the Host.
"""

import ipaddress
from pathlib import Path
from urllib.parse import urlsplit

from starlette.types import Scope

from edgeloop.bundle import MANIFEST
from serve.refused import Refused
from serve.slot import ActivationError
from serve.wire import header


def find_bundle(given: str, root: Path | None) -> Path:
    """The bundle folder that a request names: with `root` inside it, wherever links lead, and by
    a path relative to it; otherwise absolute. Raises ActivationError (path)."""
    if root is None and not Path(given).is_absolute():
        raise ActivationError(
            "path", f"{given!r} is a relative path; name the bundle's folder by an absolute one"
        )
    try:
        found = (Path(given) if root is None else root / given).resolve(strict=True)
        allowed = root is None or found.is_relative_to(root.resolve(strict=True))
        is_bundle = allowed and (found / MANIFEST).is_file()
    except (OSError, ValueError, RuntimeError):  # missing, unreadable, a NUL, a loop of links
        allowed, is_bundle = root is None, False
    if not allowed:
        # The same words whether it is there or not: what lies elsewhere is nobody's business.
        raise ActivationError("path", f"{given!r} is no bundle inside of `admin.bundles`")
    if not is_bundle:
        raise ActivationError("path", f"{given!r}: no bundle here, {MANIFEST} is missing")
    return found


def check_origin(scope: Scope) -> None:
    """Raises Refused (403) for what a browser sends for a page of another site."""
    host = (header(scope, b"host") or b"").decode("latin-1")
    origin = header(scope, b"origin")
    if origin is not None and origin.decode("latin-1").partition("://")[2] != host:
        raise Refused(403, "Validation", "requests of web pages of other sites are refused")
    server = scope.get("server")
    if server is not None and _is_loopback(server[0]) and not _is_loopback(_name(host)):
        raise Refused(
            403, "Validation", f"the host {_name(host)!r} is not this listener's; use its address"
        )


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
