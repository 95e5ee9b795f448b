"""Texts and pairs in a file for another process: a text is a string, a pair a list of two."""

import json
from collections.abc import Sequence
from pathlib import Path

from edgeloop.rows import TextInput


def write_texts(path: Path, texts: Sequence[TextInput]) -> Path:
    """Returns the path."""
    path.write_text(json.dumps(list(texts)), encoding="utf-8")
    return path


def read_texts(path: Path) -> list[TextInput]:
    """What `write_texts` wrote."""
    asked: list[str | list[str]] = json.loads(path.read_text(encoding="utf-8"))
    return [text if isinstance(text, str) else (text[0], text[1]) for text in asked]
