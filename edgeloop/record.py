"""What every document that crosses the disk has in common."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from edgeloop.errors import EdgeloopError


class Record(BaseModel):
    """A document that crosses the disk: strict, frozen, no unknown fields, and no infinity or
    NaN, which JSON cannot say."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    def to_bytes(self) -> bytes:
        """The record as a JSON file."""
        return (self.model_dump_json(indent=2) + "\n").encode()

    def write(self, path: Path) -> None:
        """Write as JSON, in place. The caller makes that safe (rundir, bundle)."""
        path.write_bytes(self.to_bytes())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises EdgeloopError where the file is missing or not such a record."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise EdgeloopError(f"{path}: there is no such record; run the stage first") from None
        except OSError as problem:
            raise EdgeloopError(f"{path}: the record cannot be read ({problem})") from None
        except ValidationError as problem:
            first = problem.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "document"
            raise EdgeloopError(
                f"{path}: not a {cls.__name__} record ({where}: {first['msg']}); "
                "delete the folder and run the stage again"
            ) from None
