"""One candidate's steps in a process of their own, so that several are built at once, and one that
is killed or runs out of memory takes no other with it.

    python -m compress.build --source source.json --out FOLDER STEP [STEP ...]

Never imports torch.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from compress.candidates import STEPS
from compress.source import Source
from compress.texts import read_texts
from edgeloop.errors import EdgeloopError


def main(arguments: Sequence[str]) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="compress.build")
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("steps", nargs="+", choices=STEPS)
    options = parser.parse_args(arguments)
    try:
        apply_steps(read_source(options.source), options.steps, options.out)
    except EdgeloopError as problem:
        sys.exit(str(problem))


def write_source(source: Source, path: Path, texts: Path) -> None:
    """The source as a file that a building process reads; its texts are in a file of their own."""
    document = {
        "model": str(source.model),
        "tokenizer": str(source.tokenizer),
        "texts": str(texts),
        "max_tokens": source.max_tokens,
    }
    path.write_text(json.dumps(document), encoding="utf-8")


def read_source(path: Path) -> Source:
    """What `write_source` wrote."""
    document = json.loads(path.read_text(encoding="utf-8"))
    return Source(
        model=Path(document["model"]),
        tokenizer=Path(document["tokenizer"]),
        texts=read_texts(Path(document["texts"])),
        max_tokens=document["max_tokens"],
    )


def apply_steps(source: Source, steps: Sequence[str], out: Path) -> None:
    """Each step works on what the one before it wrote; the last one writes into `out`."""
    with tempfile.TemporaryDirectory(prefix=".steps-", dir=out.parent) as scratch:
        for number, step in enumerate(steps):
            folder = out if number == len(steps) - 1 else Path(scratch) / str(number)
            folder.mkdir(exist_ok=True)
            STEPS[step](source, folder)
            source = source.made(folder)


if __name__ == "__main__":
    main(sys.argv[1:])
