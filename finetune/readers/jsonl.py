"""jsonl: one JSON object per line, read as a stream."""

import json
from collections.abc import Iterator
from pathlib import Path

from finetune.problems import Problems, shown
from finetune.readers.base import Cells
from finetune.readers.encoding import find_encoding
from finetune.wanted import Wanted


def read_jsonl(path: Path, wanted: Wanted, problems: Problems) -> Iterator[tuple[int, Cells]]:
    """Rows of a jsonl file; empty lines are passed over."""
    encoding = find_encoding(path, wanted.encoding, problems)
    if encoding is None:
        return
    with path.open(encoding=encoding) as stream:
        for line, text in enumerate(stream, start=1):
            if not text.strip():
                continue
            try:
                document = json.loads(text)
            except (ValueError, RecursionError) as problem:
                problems.add(f"{path}:{line}: not JSON ({problem}): {shown(text.strip())}")
                continue
            if not isinstance(document, dict):
                problems.add(f"{path}:{line}: not a JSON object: {shown(text.strip())}")
            elif wanted.check(Path(f"{path}:{line}"), document, problems):
                yield line, document
