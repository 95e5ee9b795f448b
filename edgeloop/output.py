"""What the commands print: results to standard output, progress for a person to standard error."""

import json
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")]


def emit(document: dict[str, Any], as_json: bool, text: Callable[[dict[str, Any]], str]) -> None:
    """A command's result, as JSON or as its text."""
    print(json.dumps(document, ensure_ascii=False) if as_json else text(document), flush=True)


def say(line: str) -> None:
    """Progress, for a person; results go to standard output."""
    print(f"  {line}", file=sys.stderr, flush=True)
