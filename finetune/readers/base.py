"""What a reader of one kind of file is."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from finetune.problems import Problems
from finetune.wanted import Wanted

Cells = Mapping[str, Any]

# (line, cells) per row, one after the other; a problem goes to Problems and its row is not given.
Reader = Callable[[Path, Wanted, Problems], Iterator[tuple[int, Cells]]]
