"""`edgeloop bundle sign`, `bundle verify --key` and `serve --require-signature`, with keys made as
docs/bundle.md says."""

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from edgeloop.bundle import SIGNATURE, Bundle
from tests import tiny
from tests.e2e.test_cli import run_cli
from tests.keys import Keys, make_keys

PAGE = Path(__file__).parents[2] / "docs" / "bundle.md"


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return tiny.make_bundle(tmp_path / "bundle")


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return make_keys(tmp_path)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_the_keys_of_the_page_sign_and_verify(
    bundle: Bundle, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = PAGE.read_text(encoding="utf-8").split("```sh\n")[1].split("```", 1)[0].splitlines()
    monkeypatch.chdir(bundle.path.parent)
    for words in map(shlex.split, lines):
        if words[0] == "openssl":
            subprocess.run(words, check=True, capture_output=True)
            continue
        words = [str(bundle.path) if word == "BUNDLE" else word for word in words]
        if words[1] == "bundle":
            code, out, err = run_cli(capsys, monkeypatch, *words[1:])
            assert (code, err) == (0, "")
            assert "signed" in out
    assert bundle.file(SIGNATURE).is_file()


def test_sign_and_verify_say_what_they_did_as_json(
    bundle: Bundle,
    keys: Keys,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = {"digest": bundle.digest, "files": len(bundle.manifest.files), "ok": True}
    for verb, key in (("sign", keys.private), ("verify", keys.public)):
        words = ("bundle", verb, str(bundle.path), "--key", str(key), "--json")
        code, out, _ = run_cli(capsys, monkeypatch, *words)
        assert (code, json.loads(out)) == (0, {**expected, "key": str(key)})
    code, out, _ = run_cli(capsys, monkeypatch, "bundle", "verify", str(bundle.path), "--json")
    assert (code, json.loads(out)["key"]) == (0, None)


def test_what_is_not_signed_ends_with_2_and_one_line(
    bundle: Bundle,
    keys: Keys,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for words in (
        ("bundle", "verify", str(bundle.path), "--key", str(keys.public)),
        ("serve", str(bundle.path), "--port", "0", "--require-signature", str(keys.public)),
    ):
        code, out, err = run_cli(capsys, monkeypatch, *words)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
        assert err.startswith(f"edgeloop: {bundle.path}: the bundle is not signed")


def test_the_wrong_half_of_the_key_ends_with_2(
    bundle: Bundle,
    keys: Keys,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ("bundle", "sign", str(bundle.path), "--key", str(keys.public))
    code, out, err = run_cli(capsys, monkeypatch, *words)
    assert (code, out) == (2, "")
    assert "holds a public key; signing needs the private one" in err
    assert not bundle.file(SIGNATURE).exists()
