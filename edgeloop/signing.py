"""Who vouches for a bundle: model.sig in the format of OpenSSF Model Signing v1, a signature by an
elliptic-curve key over all files, manifest.json included. Offline: no transparency log, no network.

    python -m edgeloop.signing BUNDLE PUBLIC.pem    the check alone, for a server (verify_apart)

Needs the extra `sign`, which is imported only when a bundle is signed or checked.
Format: https://github.com/ossf/model-signing-spec
"""

import base64
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeloop.bundle import MANIFEST, SIGNATURE, Bundle, open_bundle
from edgeloop.errors import BundleError, EdgeloopError, RecipeError
from edgeloop.processes import last_line, module_command, module_environment
from edgeloop.rundir import write_atomic

# What the format has algorithms for, under OpenSSL's names of them.
CURVES = {"secp256r1": "prime256v1", "secp384r1": "secp384r1", "secp521r1": "secp521r1"}
MAKE_KEY = "openssl ecparam -name prime256v1 -genkey -noout -out PRIVATE.pem"
MAKE_PUBLIC = "openssl ec -in PRIVATE.pem -pubout -out PUBLIC.pem"
EXIT_REFUSED = 2


def sign_bundle(path: Path, private_key: Path) -> Bundle:
    """Check a bundle and sign it; a signature that is there is replaced, in one step. The bundle's
    digest stays what it is.

    Raises BundleError where the bundle is damaged or cannot be written, RecipeError where the file
    is no private key for this, EdgeloopError without the extra `sign`.
    """
    bundle = open_bundle(path)
    with _library():
        from model_signing import hashing, signing
    _check_private_key(private_key)
    hidden = [p.relative_to(path) for p in path.rglob(".*")]  # no part of a bundle
    files = hashing.Config().set_ignored_paths(paths=[SIGNATURE, *hidden])
    signer = signing.Config().use_elliptic_key_signer(private_key=private_key)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            written = Path(scratch) / SIGNATURE
            signer.set_hashing_config(files).sign(path.resolve(), written)
            write_atomic(path / SIGNATURE, written.read_bytes())
    except OSError as problem:
        raise BundleError(f"{path}: {SIGNATURE} cannot be written ({problem})") from None
    return bundle


def verify_signature(bundle: Bundle, public_key: Path) -> None:
    """Check that the holder of the key signed exactly these files.

    Raises BundleError where nobody or somebody else did or a file is not what was signed,
    RecipeError where the file is no public key for this, EdgeloopError without the extra `sign`.
    """
    with _library():
        from model_signing import verifying
    _check_public_key(public_key)
    signature = bundle.path / SIGNATURE
    if not signature.is_file():
        raise BundleError(
            f"{bundle.path}: the bundle is not signed ({SIGNATURE} is missing); sign it with "
            "`edgeloop bundle sign` and the private key, or copy it again with its signature"
        )
    # Hidden files may come and go; of others open_bundle has seen that there are none.
    verifier = verifying.Config().set_ignore_unsigned_files(True)
    verifier.use_elliptic_key_verifier(public_key=public_key)
    try:
        verifier.verify(bundle.path.resolve(), signature)
        _check_covered(bundle, signature)
    except Exception as problem:  # each of the library's parsers raises its own
        raise BundleError(
            f"{bundle.path}: the signature does not hold for the key {public_key}: "
            f"{_reason(problem)}; do not use the bundle: get it again from whoever signs, or name "
            "the key that it was signed with"
        ) from None


def verify_apart(path: Path, public_key: Path) -> None:
    """`verify_signature` in a process of its own. A server would keep the library for good, and
    it takes 25 MB and half a second to load (model-signing 1.1.1).

    Raises BundleError with what that process found.
    """
    done = subprocess.run(
        module_command("edgeloop.signing", str(path), str(public_key)),
        env=module_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == EXIT_REFUSED:
        raise BundleError(last_line(done.stderr))
    if done.returncode != 0:
        raise BundleError(
            f"{path}: the signature was not checked: the process that does it ended with "
            f"{done.returncode} ({last_line(done.stderr)})"
        )


def main(arguments: Sequence[str]) -> None:
    """See the module."""
    path, public_key = map(Path, arguments)
    try:
        verify_signature(open_bundle(path), public_key)
    except EdgeloopError as problem:
        sys.stderr.write(f"{problem}\n")
        sys.exit(EXIT_REFUSED)


@contextmanager
def _library() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as problem:
        raise EdgeloopError(
            f"the Python package {problem.name} is not installed; signatures need: "
            "pip install 'edgeloop[sign]'"
        ) from None


def _check_covered(bundle: Bundle, signature: Path) -> None:
    """A signer may leave files out, and the library then says nothing of them."""
    envelope = json.loads(signature.read_bytes())["dsseEnvelope"]
    statement = json.loads(base64.b64decode(envelope["payload"]))
    signed = {resource["name"] for resource in statement["predicate"]["resources"]}
    expected = {MANIFEST, *(entry.path for entry in bundle.manifest.files)}
    if not expected <= signed:
        raise ValueError(f"it leaves out {', '.join(sorted(expected - signed))}")


def _reason(problem: Exception) -> str:
    """What the library says, in one line."""
    from cryptography.exceptions import InvalidSignature

    text = " ".join(str(problem).split())
    if isinstance(problem, InvalidSignature):
        return f"{SIGNATURE} was altered, or made with another key"
    if text.startswith("Key mismatch"):
        return "it was signed with another key"
    if text.startswith("Signature mismatch"):
        changed = re.findall(r"Hash mismatch for '([^']*)'", text)
        return f"not what was signed: {', '.join(changed) or text}"
    return f"{SIGNATURE} cannot be read ({type(problem).__name__}: {text})"


def _check_private_key(path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = _read_key(path)
    if b"PUBLIC KEY" in data:
        raise RecipeError(f"{path}: holds a public key; signing needs the private one")
    try:
        key = load_pem_private_key(data, None)
    except TypeError:
        raise RecipeError(
            f"{path}: the private key is encrypted; decrypt it into a file that only you can read: "
            f"(umask 077; openssl ec -in {path} -out PRIVATE.pem)"
        ) from None
    except Exception as problem:  # ValueError, UnsupportedAlgorithm and OpenSSL's own
        raise _no_key(path, "private", MAKE_KEY, problem) from None
    if not isinstance(key, EllipticCurvePrivateKey):
        raise _wrong_kind(path, key)
    _check_curve(path, key.curve.name)


def _check_public_key(path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    data = _read_key(path)
    if b"PRIVATE KEY" in data:
        raise RecipeError(
            f"{path}: holds a private key, which belongs only where bundles are signed; name the "
            f"public one ({MAKE_PUBLIC})"
        )
    try:
        key = load_pem_public_key(data)
    except Exception as problem:  # as above
        raise _no_key(path, "public", MAKE_PUBLIC, problem) from None
    if not isinstance(key, EllipticCurvePublicKey):
        raise _wrong_kind(path, key)
    _check_curve(path, key.curve.name)


def _read_key(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise RecipeError(f"{path}: the key cannot be read ({problem.strerror})") from None


def _no_key(path: Path, kind: str, command: str, problem: Exception) -> RecipeError:
    first = str(problem).partition(".")[0] or type(problem).__name__
    return RecipeError(f"{path}: no {kind} key in PEM format ({first}); make one: {command}")


def _wrong_kind(path: Path, key: Any) -> RecipeError:
    kind = type(key).__name__.lstrip("_").removesuffix("PrivateKey").removesuffix("PublicKey")
    return RecipeError(f"{path}: is a key for {kind}, not for an elliptic curve; {MAKE_KEY}")


def _check_curve(path: Path, curve: str) -> None:
    if curve not in CURVES:
        raise RecipeError(
            f"{path}: a key on the curve {curve}; the format has {', '.join(CURVES.values())}"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
