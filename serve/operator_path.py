"""A path in serve.yaml: one that is relative is taken from the folder that serve.yaml lies in."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ValidationInfo


def _from_folder(path: Path, info: ValidationInfo) -> Path:
    folder = (info.context or {}).get("folder")
    return path if folder is None else Path(folder) / path


OperatorPath = Annotated[Path, AfterValidator(_from_folder)]
