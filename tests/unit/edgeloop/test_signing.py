"""Signatures: what they cover, what they refuse, which keys they take."""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from model_signing import hashing
from model_signing import signing as library

from edgeloop.bundle import CARD, GOLDEN, MANIFEST, MODEL, SIGNATURE, TOKENIZER, Bundle, open_bundle
from edgeloop.errors import BundleError, EdgeloopError, RecipeError
from edgeloop.processes import module_command
from edgeloop.signing import sign_bundle, verify_apart, verify_signature
from tests import tiny
from tests.altered import flip_byte, rewrite_manifest
from tests.keys import Keys, make_keys


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def other_keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return tiny.make_bundle(tmp_path / "bundle")


@pytest.fixture
def signed(bundle: Bundle, keys: Keys) -> Bundle:
    return sign_bundle(bundle.path, keys.private)


def signed_names(bundle: Bundle) -> set[str]:
    envelope = json.loads(bundle.file(SIGNATURE).read_bytes())["dsseEnvelope"]
    statement = json.loads(base64.b64decode(envelope["payload"]))
    assert statement["predicateType"] == "https://model_signing/signature/v1.0"
    return {resource["name"] for resource in statement["predicate"]["resources"]}


# -- what is signed ----------------------------------------------------------------------------


def test_every_file_and_the_manifest_are_signed(signed: Bundle) -> None:
    assert signed_names(signed) == {MANIFEST, *(entry.path for entry in signed.manifest.files)}


def test_a_signature_changes_neither_digest_nor_files(bundle: Bundle, keys: Keys) -> None:
    before = {path.name: path.read_bytes() for path in bundle.path.iterdir()}
    assert sign_bundle(bundle.path, keys.private) == bundle == open_bundle(bundle.path)
    after = {path.name: path.read_bytes() for path in bundle.path.iterdir()}
    assert after.pop(SIGNATURE)
    assert after == before


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_a_signed_bundle_verifies_here_and_apart(
    tmp_path: Path, bundle: Bundle, curve: ec.EllipticCurve
) -> None:
    keys = make_keys(tmp_path, key=ec.generate_private_key(curve))
    sign_bundle(bundle.path, keys.private)
    verify_signature(bundle, keys.public)
    verify_apart(bundle.path, keys.public)


def test_the_formats_own_program_verifies_it(signed: Bundle, keys: Keys) -> None:
    command = module_command("model_signing", "verify", "key", str(signed.path))
    command += ["--signature", str(signed.file(SIGNATURE)), "--public_key", str(keys.public)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "Verification succeeded\n"), done.stderr


def test_the_formats_own_program_signs_for_us(bundle: Bundle, keys: Keys) -> None:
    command = module_command("model_signing", "sign", "key", str(bundle.path))
    command += ["--signature", str(bundle.file(SIGNATURE)), "--private_key", str(keys.private)]
    subprocess.run(command, capture_output=True, check=True)
    verify_signature(bundle, keys.public)


def test_a_moved_bundle_stays_signed(tmp_path: Path, signed: Bundle, keys: Keys) -> None:
    shutil.copytree(signed.path, tmp_path / "elsewhere")
    verify_signature(open_bundle(tmp_path / "elsewhere"), keys.public)


def test_a_relative_path_is_as_good(
    bundle: Bundle, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bundle.path)
    sign_bundle(Path("."), keys.private)
    verify_signature(open_bundle(Path(".")), keys.public)


def test_hidden_files_are_no_part_of_it(bundle: Bundle, keys: Keys) -> None:
    """A kill while a signature is written leaves one; a file manager leaves others."""
    (bundle.path / f".{SIGNATURE}.1.2").write_bytes(b"half a signature")
    sign_bundle(bundle.path, keys.private)
    verify_signature(bundle, keys.public)
    (bundle.path / f".{SIGNATURE}.1.2").unlink()
    (bundle.path / ".DS_Store").write_bytes(b"new")
    verify_signature(bundle, keys.public)


def test_signing_again_replaces_the_signature(signed: Bundle, keys: Keys, other_keys: Keys) -> None:
    sign_bundle(signed.path, other_keys.private)
    verify_signature(signed, other_keys.public)
    with pytest.raises(BundleError, match="another key"):
        verify_signature(signed, keys.public)


def test_a_damaged_bundle_is_not_signed(bundle: Bundle, keys: Keys) -> None:
    flip_byte(bundle.file(MODEL))
    with pytest.raises(BundleError, match="is damaged"):
        sign_bundle(bundle.path, keys.private)
    assert not bundle.file(SIGNATURE).exists()


def test_a_failing_write_keeps_the_old_signature(
    signed: Bundle, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = signed.file(SIGNATURE).read_bytes()
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(BundleError, match="No space left"):
        sign_bundle(signed.path, keys.private)
    assert signed.file(SIGNATURE).read_bytes() == before
    assert [path.name for path in signed.path.iterdir() if path.name.startswith(".")] == []


# -- what is refused ---------------------------------------------------------------------------


def refused(bundle: Bundle, public_key: Path) -> str:
    """What verifying says, which must be one line."""
    with pytest.raises(BundleError) as caught:
        verify_signature(bundle, public_key)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_check_apart_says_the_same(signed: Bundle, keys: Keys, other_keys: Keys) -> None:
    for key in (other_keys.public, keys.private):
        with pytest.raises((BundleError, RecipeError)) as here:
            verify_signature(signed, key)
        with pytest.raises(BundleError) as apart:
            verify_apart(signed.path, key)
        assert str(apart.value) == str(here.value)


def test_an_unsigned_bundle_is_refused_and_told_how_to_sign(bundle: Bundle, keys: Keys) -> None:
    assert "is not signed" in refused(bundle, keys.public)
    assert "edgeloop bundle sign" in refused(bundle, keys.public)


def test_another_key_is_refused(signed: Bundle, other_keys: Keys) -> None:
    said = refused(signed, other_keys.public)
    assert "signed with another key" in said
    assert str(other_keys.public) in said


def test_another_key_that_claims_to_be_this_one_is_refused(
    signed: Bundle, keys: Keys, other_keys: Keys
) -> None:
    ours = json.loads(signed.file(SIGNATURE).read_bytes())["verificationMaterial"]
    sign_bundle(signed.path, other_keys.private)
    theirs = json.loads(signed.file(SIGNATURE).read_bytes())
    signed.file(SIGNATURE).write_text(json.dumps({**theirs, "verificationMaterial": ours}))
    assert "was altered, or made with another key" in refused(signed, keys.public)


def rewrite_a_file(bundle: Bundle) -> None:
    """With a manifest that fits: only the signature can tell."""
    tiny.make_model(bundle.path, seed=9)
    rewrite_manifest(bundle)


def change_the_manifest(bundle: Bundle) -> None:
    rewrite_manifest(bundle, test_accuracy=0.999)


def add_a_file(bundle: Bundle) -> None:
    (bundle.path / "second.onnx").write_bytes(b"a model of somebody else")
    rewrite_manifest(bundle)


@pytest.mark.parametrize("tamper", [rewrite_a_file, change_the_manifest, add_a_file])
def test_a_tampered_bundle_with_a_fitting_manifest_is_refused(
    signed: Bundle, keys: Keys, tamper: Callable[[Bundle], None]
) -> None:
    tamper(signed)
    assert MANIFEST in refused(open_bundle(signed.path), keys.public)


def test_the_signature_of_another_bundle_is_refused(
    tmp_path: Path, bundle: Bundle, keys: Keys
) -> None:
    other = sign_bundle(tiny.make_bundle(tmp_path / "other", seed=1).path, keys.private)
    shutil.copyfile(other.file(SIGNATURE), bundle.file(SIGNATURE))
    said = refused(bundle, keys.public)
    assert "not what was signed" in said
    assert GOLDEN in said


def test_a_signature_that_leaves_a_file_out_is_refused(bundle: Bundle, keys: Keys) -> None:
    files = hashing.Config().set_ignored_paths(paths=[SIGNATURE, TOKENIZER, CARD])
    signer = library.Config().use_elliptic_key_signer(private_key=keys.private)
    signer.set_hashing_config(files).sign(bundle.path, bundle.file(SIGNATURE))
    assert f"leaves out {CARD}, {TOKENIZER}" in refused(bundle, keys.public)


def _no_signatures(data: bytes) -> bytes:
    document = json.loads(data)
    document["dsseEnvelope"]["signatures"] = []
    return json.dumps(document).encode()


def _altered_payload(data: bytes) -> bytes:
    document = json.loads(data)
    payload = base64.b64decode(document["dsseEnvelope"]["payload"])
    altered = payload.replace(b'"sha256"', b'"SHA256"')
    document["dsseEnvelope"]["payload"] = base64.b64encode(altered).decode()
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: b"[]",
        lambda data: b"{}",
        lambda data: b"\xff\xfe",
        lambda data: data.replace(b"bundle.v0.3", b"bundle.v9.9"),
        _no_signatures,
        _altered_payload,
    ],
)
def test_a_spoilt_signature_is_refused(
    signed: Bundle, keys: Keys, spoil: Callable[[bytes], bytes]
) -> None:
    signed.file(SIGNATURE).write_bytes(spoil(signed.file(SIGNATURE).read_bytes()))
    with pytest.raises(BundleError, match=r"does not hold.*model\.sig (cannot be read|was alt)"):
        verify_signature(signed, keys.public)


@settings(deadline=None, max_examples=60)
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_no_altered_byte_of_a_signature_is_more_than_a_refusal(
    tiny_bundle: Bundle, keys: Keys, place: float, flip: int
) -> None:
    """A byte that means nothing (a bit that base64 does not use) may stand; nothing else is raised
    than a refusal."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(tiny_bundle.path, Path(folder) / "bundle"))
        signed = sign_bundle(copy, keys.private)
        data = bytearray(signed.file(SIGNATURE).read_bytes())
        data[int(place * len(data))] ^= flip
        signed.file(SIGNATURE).write_bytes(data)
        with contextlib.suppress(BundleError):
            verify_signature(signed, keys.public)


# -- keys --------------------------------------------------------------------------------------


def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: make_keys(folder).public, "holds a public key"),
        (lambda folder: make_keys(folder, key=rsa_key()).private, "key for RSA"),
        (
            lambda folder: make_keys(folder, key=ed25519.Ed25519PrivateKey.generate()).private,
            "key for Ed25519",
        ),
        (
            lambda folder: make_keys(folder, key=ec.generate_private_key(ec.SECP256K1())).private,
            "curve secp256k1; the format has prime256v1",
        ),
        (lambda folder: make_keys(folder, password="secret").private, "is encrypted; decrypt"),
        (lambda folder: folder / "nowhere.pem", "cannot be read"),
        (lambda folder: folder, "cannot be read"),
        (lambda folder: Path(__file__), "no private key in PEM format"),
        (lambda folder: Path(sys.executable), "no private key in PEM format"),
    ],
)
def test_a_file_that_is_no_private_key_says_what_it_is(
    tmp_path: Path, bundle: Bundle, make: Callable[[Path], Path], says: str
) -> None:
    path = make(tmp_path / "keys")
    with pytest.raises(RecipeError, match=says) as caught:
        sign_bundle(bundle.path, path)
    assert str(path) in str(caught.value)
    assert not bundle.file(SIGNATURE).exists()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: make_keys(folder).private, "holds a private key"),
        (lambda folder: make_keys(folder, key=rsa_key()).public, "key for RSA"),
        (
            lambda folder: make_keys(folder, key=ec.generate_private_key(ec.SECP256K1())).public,
            "curve secp256k1",
        ),
        (lambda folder: folder / "nowhere.pem", "cannot be read"),
        (lambda folder: Path(__file__), "no public key in PEM format"),
    ],
)
def test_a_file_that_is_no_public_key_says_what_it_is(
    tmp_path: Path, signed: Bundle, make: Callable[[Path], Path], says: str
) -> None:
    with pytest.raises(RecipeError, match=says):
        verify_signature(signed, make(tmp_path / "keys"))


# -- without the extra -------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["model_signing", "OpenSSL"])
def test_without_the_library_the_extra_is_named(
    signed: Bundle, keys: Keys, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    for name in [name for name in sys.modules if name.startswith("model_signing")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    for act in (
        lambda: sign_bundle(signed.path, keys.private),
        lambda: verify_signature(signed, keys.public),
    ):
        with pytest.raises(EdgeloopError, match=rf"{missing}.*edgeloop\[sign\]"):
            act()


def test_a_check_that_dies_is_a_refusal(signed: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHOME", "/nowhere")  # no Python starts there
    with pytest.raises(BundleError, match="was not checked: the process"):
        verify_apart(signed.path, signed.path)


def test_the_library_is_loaded_only_for_a_signature() -> None:
    script = "import sys, edgeloop.signing, serve.run; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    heavy = ("model_signing", "sigstore", "cryptography", "OpenSSL")
    assert [name for name in done.stdout.split() if name.startswith(heavy)] == []
