"""The commands for a server's API keys; `edgeloop.cli` has their exit codes."""

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from edgeloop.columns import columns
from edgeloop.errors import RecipeError
from edgeloop.output import AsJson, emit

keys_app = typer.Typer(no_args_is_help=True, help="API keys of a server: docs/serve.md.")

KeysPath = Annotated[Path, typer.Option("--file", metavar="KEYS.json", help="The file of keys.")]


@keys_app.command("add")
def keys_add(
    name: Annotated[str, typer.Argument(help="Who holds it; logs show this name.")],
    file: KeysPath,
    scopes: Annotated[
        list[str] | None,
        typer.Option("--scope", help="predict, feedback, metrics or admin; may be repeated."),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Requests per second; default: no limit.")
    ] = None,
    burst: Annotated[
        int | None, typer.Option(help="Requests at once; default: one second's worth.")
    ] = None,
    expires_days: Annotated[float | None, typer.Option(help="Default: never.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, this once: the file keeps its hash alone."""
    from serve.keyfile import SCOPES, KeyScope, add_key

    chosen = tuple(dict.fromkeys(scopes or ["predict"]))
    unknown = [scope for scope in chosen if scope not in SCOPES]
    if unknown:
        raise RecipeError(f"--scope {unknown[0]}: no such scope; there are: {', '.join(SCOPES)}")
    key = add_key(file, name, cast(tuple[KeyScope, ...], chosen), rate, burst, expires_days)
    emit({"name": name, "key": key}, as_json, lambda document: str(document["key"]))


@keys_app.command("list")
def keys_list(file: KeysPath, as_json: AsJson = False) -> None:
    """Every key's name, scopes and limits; what the keys are is not known."""
    from serve.keyfile import read_keys

    keys = [entry.model_dump(mode="json", exclude={"sha256"}) for entry in read_keys(file).keys]
    emit({"keys": keys}, as_json, _table)


@keys_app.command("revoke")
def keys_revoke(
    name: Annotated[str, typer.Argument(metavar="NAME|ID", help="The key's name or id.")],
    file: KeysPath,
    as_json: AsJson = False,
) -> None:
    """Take a key back; a running server notices within two seconds."""
    from serve.keyfile import revoke_key

    revoke_key(file, name)
    emit({"revoked": name}, as_json, lambda document: f"revoked {document['revoked']}")


def _table(document: dict[str, Any]) -> str:
    rows = [
        [
            key["name"],
            key["id"],
            ",".join(key["scopes"]),
            "-" if key["requests_per_second"] is None else f"{key['requests_per_second']:g}",
            "-" if key["requests_per_second"] is None else str(key["burst"]),
            key["expires_at"] or "never",
        ]
        for key in document["keys"]
    ]
    return columns(["name", "id", "scopes", "per second", "burst", "expires"], rows)
