"""parquet: only the columns that are needed, one batch of rows after the other."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finetune.problems import Problems, shown
from finetune.readers.base import Cells
from finetune.readers.features import ClassNames, class_names, with_names
from finetune.wanted import Wanted


def read_parquet(path: Path, wanted: Wanted, problems: Problems) -> Iterator[tuple[int, Cells]]:
    """Rows of a parquet file; class numbers that Hugging Face datasets wrote get their names."""
    # Only here: csv and jsonl are read on the edge, which has no pyarrow.
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if not wanted.check(path, names, problems):
                return
            classes = _class_names(file.schema_arrow.metadata)
            line = 0
            for batch in file.iter_batches(columns=wanted.read(names)):
                for cells in batch.to_pylist():
                    line += 1
                    named, problem = with_names(cells, classes)
                    if problem:
                        problems.add(f"{path}:{line}: {problem}")
                    else:
                        yield line, named
    except (pa.ArrowException, OSError) as problem:
        problems.add(f"{path}: not a parquet file that can be read ({shown(str(problem))})")


def _class_names(metadata: dict[bytes, bytes] | None) -> ClassNames:
    try:
        document: Any = json.loads((metadata or {}).get(b"huggingface", b"{}"))
        return class_names(document["info"]["features"])
    except (ValueError, KeyError, TypeError):
        return {}
