"""The commands that look into a bundle and sign it; `edgeloop.cli` has their exit codes."""

from pathlib import Path
from typing import Annotated

import typer

from edgeloop import show
from edgeloop.bundle import open_bundle
from edgeloop.output import AsJson, emit

bundle_app = typer.Typer(no_args_is_help=True, help="Look into a bundle.")

BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle's folder.")]
PublicKey = Annotated[
    Path | None, typer.Option(metavar="PUBLIC.pem", help="Refuse what its owner did not sign.")
]


@bundle_app.command("inspect")
def bundle_inspect(path: BundlePath, as_json: AsJson = False) -> None:
    """What a bundle is, what it was made from and what was measured."""
    opened = open_bundle(path)
    document = {"digest": opened.digest, **opened.manifest.model_dump(mode="json")}
    emit(document, as_json, show.bundle)


@bundle_app.command("verify")
def bundle_verify(path: BundlePath, key: PublicKey = None, as_json: AsJson = False) -> None:
    """Check schema, sizes and SHA-256 of every file, and the signature with --key."""
    from edgeloop.signing import verify_signature

    opened = open_bundle(path)
    if key is not None:
        verify_signature(opened, key)
    emit(show.verified_document(opened, key), as_json, show.verified)


@bundle_app.command("sign")
def bundle_sign(
    path: BundlePath,
    key: Annotated[Path, typer.Option(help="Private elliptic-curve key, PEM.")],
    as_json: AsJson = False,
) -> None:
    """Write model.sig over all files of a bundle (OpenSSF Model Signing)."""
    from edgeloop.signing import sign_bundle

    emit(show.verified_document(sign_bundle(path, key), key), as_json, show.signed)
