"""The commands for captured rows; `edgeloop.cli` has their exit codes."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from edgeloop.columns import columns
from edgeloop.output import AsJson, emit, say
from edgeloop.rundir import write_atomic

capture_app = typer.Typer(no_args_is_help=True, help="Rows that a server captured: docs/serve.md.")

Folder = Annotated[Path, typer.Option(metavar="FOLDER", help="serve.yaml's capture.folder.")]


@capture_app.command("list")
def capture_list(folder: Folder, as_json: AsJson = False) -> None:
    """The segments: rows, bytes, and since when."""
    from serve.capture.store import existing_segments, read_rows

    segments = [
        {
            "segment": segment.path.name,
            "rows": sum(1 for _ in read_rows(segment.path)),
            "bytes": segment.size_bytes,
            "since": datetime.fromtimestamp(segment.started, UTC).isoformat(timespec="seconds"),
        }
        for segment in existing_segments(folder)
    ]
    emit({"segments": segments}, as_json, _table)


@capture_app.command("export")
def capture_export(
    folder: Folder,
    out: Annotated[Path, typer.Option(help="The file of JSON lines, mode 0600.")],
    as_json: AsJson = False,
) -> None:
    """All rows in one file of JSON lines, oldest first."""
    from serve.capture.row import encode_row
    from serve.capture.store import FILE_MODE, all_rows

    lines = [encode_row(row) for row in all_rows(folder)]
    write_atomic(out, b"".join(lines), FILE_MODE)
    emit({"rows": len(lines), "out": str(out)}, as_json, _exported)


@capture_app.command("delete")
def capture_delete(
    folder: Folder,
    request_id: Annotated[str, typer.Option(help="The answer's x-request-id.")],
    as_json: AsJson = False,
) -> None:
    """Delete a request's rows for good; the server may be running."""
    from serve.capture.store import delete_rows

    deleted = delete_rows(folder, request_id)
    if deleted == 0:
        say("no such row: it was not captured, or has expired")
    emit({"deleted": deleted}, as_json, lambda document: f"deleted {document['deleted']} rows")


def _exported(document: dict[str, Any]) -> str:
    return f"{document['rows']} rows in {document['out']}"


def _table(document: dict[str, Any]) -> str:
    rows = [
        [entry["segment"], str(entry["rows"]), str(entry["bytes"]), entry["since"]]
        for entry in document["segments"]
    ]
    total = [
        "all",
        str(sum(entry["rows"] for entry in document["segments"])),
        str(sum(entry["bytes"] for entry in document["segments"])),
        "",
    ]
    return columns(["segment", "rows", "bytes", "since"], [*rows, total])
