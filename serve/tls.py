"""TLS for the public listener: a certificate, and for mutual TLS the authority of the clients'."""

import logging
import ssl
from collections.abc import Callable
from pathlib import Path

from edgeloop.errors import RecipeError
from edgeloop.section import Section
from serve.operator_path import OperatorPath

logger = logging.getLogger(__name__)

CERTIFICATE_LINE = "-----BEGIN CERTIFICATE-----"


class Tls(Section):
    """serve.yaml's `tls`. `certificate`: PEM, the server's own first, then what signed it; `key`:
    its private key, PEM, no passphrase; `client_ca`: PEM of the authorities whose clients may
    connect, null for any client."""

    certificate: OperatorPath
    key: OperatorPath
    client_ca: OperatorPath | None = None

    def paths(self) -> list[Path]:
        """The files, to be watched."""
        return [self.certificate, self.key, *([self.client_ca] if self.client_ca else [])]


class TlsContext:
    """The listener's context; reload() has new connections see renewed files."""

    def __init__(self, tls: Tls) -> None:
        """Raises RecipeError that says which file is wrong, and how."""
        self._tls = tls
        self.context = make_context(tls)

    def reload(self) -> bool:
        """Read certificate and key again; where that fails the old ones stay and the log says why.
        The clients' authorities are only added to: one that is to go needs a restart."""
        try:
            make_context(self._tls)  # a trial: a half-loaded context would serve nobody
            _load(self._tls, self.context)
        except RecipeError as problem:
            logger.error("event=certificate_not_reloaded problem=%r", str(problem))
            return False
        logger.info("event=certificate_loaded file=%s", self._tls.certificate)
        return True


def make_context(tls: Tls) -> ssl.SSLContext:
    """TLS 1.2 and newer, Python's choice of ciphers. Raises RecipeError."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(tls, context)
    return context


def _load(tls: Tls, context: ssl.SSLContext) -> None:
    _check_certificates(tls.certificate, "tls.certificate")
    _check_readable(tls.key, "tls.key")
    try:
        context.load_cert_chain(tls.certificate, tls.key, password=_refuse_passphrase(tls.key))
    except ssl.SSLError as problem:
        if problem.reason == "KEY_VALUES_MISMATCH":
            raise RecipeError(
                f"{tls.key}: tls.key belongs to another certificate than {tls.certificate}"
            ) from None
        raise RecipeError(
            f"{tls.key}: tls.key is no private key in PEM that fits {tls.certificate} ({problem})"
        ) from None
    if tls.client_ca is not None:
        _check_certificates(tls.client_ca, "tls.client_ca")
        context.load_verify_locations(tls.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED


def _check_readable(path: Path, setting: str) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError as problem:
        raise RecipeError(f"{path}: {setting} cannot be read ({problem.strerror})") from None


def _check_certificates(path: Path, setting: str) -> None:
    text = _check_readable(path, setting)
    if CERTIFICATE_LINE not in text:
        raise RecipeError(f"{path}: {setting} has no PEM certificate ({CERTIFICATE_LINE} ...)")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except ssl.SSLError as problem:
        raise RecipeError(f"{path}: {setting} is no PEM certificate ({problem})") from None


def _refuse_passphrase(key: Path) -> Callable[[], str]:
    """Without it OpenSSL would ask at the terminal."""

    def refuse() -> str:
        raise RecipeError(
            f"{key}: tls.key has a passphrase, which nobody can type at a server's start; write "
            f"it without one: openssl pkey -in {key} -out KEY.pem"
        )

    return refuse
