"""serve.yaml: how an operator runs the server on one machine, and the sole owner of those defaults.
What travels with the model (limits of tokens and time) is in its bundle instead.
"""

import json
from pathlib import Path

from pydantic import Field, PositiveInt, ValidationError

from edgeloop.document import explain, read_document
from edgeloop.errors import RecipeError
from edgeloop.section import Section


class ServerConfig(Section):
    """The whole document. `queue_texts`: texts that may wait for a thread; `cache_texts`: newest
    answers that are kept, with their texts, in memory; `poll_seconds`: between two looks at the
    ledger or the watched folder; `drain_seconds`: how long a server that was told to stop still
    takes requests, so that whoever sends them sees that it is not ready."""

    queue_texts: PositiveInt = 512
    cache_texts: int = Field(0, ge=0)
    poll_seconds: float = Field(0.5, gt=0.0, le=3600.0)
    drain_seconds: float = Field(0.5, ge=0.0, le=600.0)


def load_config(path: Path | None) -> ServerConfig:
    """Read serve.yaml; the defaults without a path. Relative paths in it are taken from its own
    folder.

    Raises RecipeError that names every problem at once, one line each.
    """
    if path is None:
        return ServerConfig()
    document = read_document(path, "server configuration", "docs/serve.md describes one")
    try:
        return ServerConfig.model_validate_json(json.dumps(document))
    except ValidationError as problem:
        raise RecipeError("\n".join(explain(path, problem, ServerConfig))) from None
