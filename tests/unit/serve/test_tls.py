"""Certificates: read before anything is loaded, and each thing that can be wrong with them told."""

import ssl
from pathlib import Path

import pytest

from edgeloop.errors import RecipeError
from serve.config import load_config
from serve.tls import Tls, TlsContext, make_context
from tests.certificates import Authority, Pair
from tests.keys import make_keys


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    return authority.issue("server")


def test_old_versions_are_not_spoken(pair: Pair) -> None:
    context = make_context(Tls(certificate=pair.certificate, key=pair.key))
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_NONE


def test_with_an_authority_of_clients_they_have_to_show_a_certificate(
    authority: Authority, pair: Pair
) -> None:
    tls = Tls(certificate=pair.certificate, key=pair.key, client_ca=authority.path)
    assert make_context(tls).verify_mode == ssl.CERT_REQUIRED
    assert tls.paths() == [pair.certificate, pair.key, authority.path]


def test_each_wrong_file_is_named(authority: Authority, pair: Pair, tmp_path: Path) -> None:
    none, text, broken = tmp_path / "none", tmp_path / "text", tmp_path / "broken"
    text.write_text("hello", encoding="utf-8")
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    locked = make_keys(tmp_path, "locked", password="secret").private
    other = authority.issue("other").key
    wrong = [
        ((none, pair.key, None), f"{none}: tls.certificate cannot be read"),
        ((text, pair.key, None), f"{text}: tls.certificate has no PEM certificate"),
        ((broken, pair.key, None), f"{broken}: tls.certificate is no PEM certificate"),
        ((pair.certificate, none, None), f"{none}: tls.key cannot be read"),
        ((pair.certificate, text, None), f"{text}: tls.key is no private key"),
        ((pair.certificate, other, None), f"{other}: tls.key belongs to another certificate"),
        ((pair.certificate, locked, None), f"{locked}: tls.key has a passphrase"),
        ((pair.certificate, pair.key, none), f"{none}: tls.client_ca cannot be read"),
        ((pair.certificate, pair.key, pair.key), f"{pair.key}: tls.client_ca has no PEM"),
    ]
    for (certificate, key, client_ca), says in wrong:
        with pytest.raises(RecipeError) as problem:
            make_context(Tls(certificate=certificate, key=key, client_ca=client_ca))
        assert str(problem.value).startswith(says)


def test_a_renewed_pair_is_taken_and_a_broken_one_is_not(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = authority.issue("first"), authority.issue("second")
    tls = TlsContext(Tls(certificate=first.certificate, key=first.key))
    first.certificate.write_bytes(second.certificate.read_bytes())
    assert not tls.reload()
    assert "certificate_not_reloaded" in caplog.text
    first.key.write_bytes(second.key.read_bytes())
    assert tls.reload()


def test_paths_are_taken_from_the_configurations_folder(tmp_path: Path) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text("tls: {certificate: a.pem, key: /etc/b.pem}\n", encoding="utf-8")
    tls = load_config(path).tls
    assert tls == Tls(certificate=tmp_path / "a.pem", key=Path("/etc/b.pem"))
