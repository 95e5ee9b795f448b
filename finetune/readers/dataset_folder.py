"""A Hugging Face dataset on disk, as `datasets.save_to_disk` writes it: state.json lists the Arrow
streams, dataset_info.json tells the features. Read through pyarrow alone, one batch at a time.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finetune.problems import Problems, shown
from finetune.readers.base import Cells
from finetune.readers.features import class_names, with_names
from finetune.wanted import Wanted

STATE, INFO, DICT = "state.json", "dataset_info.json", "dataset_dict.json"


def read_dataset_folder(
    path: Path, wanted: Wanted, problems: Problems
) -> Iterator[tuple[int, Cells]]:
    """Rows of a dataset folder; class numbers get their names. `line` counts rows from 1."""
    import pyarrow as pa

    if not _is_dataset(path, problems):
        return
    try:
        state, info = _document(path / STATE), _document(path / INFO)
        shards = [path / entry["filename"] for entry in state["_data_files"]]
        classes = class_names(info.get("features"))
    except (OSError, ValueError, KeyError, TypeError) as problem:
        problems.add(f"{path}: {STATE} or {INFO} cannot be read ({problem!r}); save it again")
        return
    line = 0
    for shard in shards:
        try:
            for cells in _cells(shard, path, wanted, problems):
                line += 1
                named, said = with_names(cells, classes)
                if said:
                    problems.add(f"{path}:{line}: {said}")
                else:
                    yield line, named
        except (pa.ArrowException, OSError) as problem:
            problems.add(f"{shard}: not an Arrow stream that can be read ({shown(str(problem))})")
            return


def _cells(shard: Path, path: Path, wanted: Wanted, problems: Problems) -> Iterator[dict[str, Any]]:
    import pyarrow as pa

    with pa.memory_map(str(shard)) as source, pa.ipc.open_stream(source) as stream:
        names = stream.schema.names
        if not wanted.check(path, names, problems):
            return
        for batch in stream:
            yield from batch.select(wanted.read(names)).to_pylist()


def _is_dataset(path: Path, problems: Problems) -> bool:
    if (path / STATE).is_file():
        return True
    if (path / DICT).is_file():
        splits = sorted(entry.parent.name for entry in path.glob(f"*/{STATE}"))
        problems.add(
            f"{path}: this folder holds several splits ({', '.join(splits)}); name one, such as "
            f"{path / (splits[0] if splits else 'train')}"
        )
    else:
        problems.add(
            f"{path}: a folder without {STATE}; name a file, or a folder that "
            "datasets.save_to_disk wrote"
        )
    return False


def _document(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_bytes())
    return document
