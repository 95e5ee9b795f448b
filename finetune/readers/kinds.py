"""Which reader reads which kind of file. A new kind is one file here and one line in READERS."""

from pathlib import Path

from finetune.readers.base import Reader
from finetune.readers.csv import read_csv, read_tsv
from finetune.readers.dataset_folder import read_dataset_folder
from finetune.readers.jsonl import read_jsonl
from finetune.readers.parquet import read_parquet

FOLDER = "folder"
READERS: dict[str, Reader] = {
    ".csv": read_csv,
    ".jsonl": read_jsonl,
    ".parquet": read_parquet,
    ".tsv": read_tsv,
    FOLDER: read_dataset_folder,
}


def kind_of(path: Path) -> str:
    """The key in READERS: FOLDER, or the suffix, which READERS may not have."""
    return FOLDER if path.is_dir() else path.suffix.lower()
