"""serve.yaml: how an operator runs the server on one machine, and the sole owner of those defaults.
What travels with the model (limits of tokens and time) is in its bundle instead.
"""

import json
from pathlib import Path

from pydantic import Field, PositiveInt, ValidationError

from edgeloop.document import explain, read_document
from edgeloop.errors import RecipeError
from edgeloop.section import Section
from serve.capture.config import CaptureConfig
from serve.keys import Keys
from serve.lifecycle_config import Admin, Canary, Shadow
from serve.operator_path import OperatorPath
from serve.tls import Tls


class ServerConfig(Section):
    """The whole document; docs/serve.md has a row for every key. `queue_texts`: texts that may wait
    for a thread; `cache_texts`: newest answers that are kept, with their texts, in memory;
    `autotune`: measure at the first start which threads answer most, unless --workers says it;
    `processes`: run models in processes instead of threads, one per worker;
    `poll_seconds`: between two looks at the ledger or the watched folder; `drain_seconds`: how long
    a server that was told to stop still takes requests, so that whoever sends them sees that it is
    not ready; `request_timeout_seconds`: for a request to arrive whole, and for an answer to be
    taken; `max_connections`: open at once; `access_log`: a line per request, without its text;
    `console`: the page at /, for people.

    `keep_previous`: keep the bundle that served before loaded for a rollback; `watch`: a folder
    whose newest bundle is served; `state`: where drift state and the served bundle are remembered,
    every `state_seconds`; `golden_interval_seconds`: between two replays of the golden rows beside
    the traffic, 0 for none; `feedback_counts`: labels of /feedback count for the accuracy, which is
    wrong where people send corrections only; `admin`, `canary`, `shadow`: see lifecycle_config."""

    queue_texts: PositiveInt = 512
    cache_texts: int = Field(0, ge=0)
    autotune: bool = True
    processes: bool = False
    poll_seconds: float = Field(0.5, gt=0.0, le=3600.0)
    drain_seconds: float = Field(0.5, ge=0.0, le=600.0)
    request_timeout_seconds: float = Field(20.0, gt=0.0, le=3600.0)
    max_connections: PositiveInt = 4096
    access_log: bool = False
    console: bool = True
    keys: Keys | None = None
    tls: Tls | None = None
    capture: CaptureConfig | None = None
    keep_previous: bool = True
    watch: OperatorPath | None = None
    state: OperatorPath | None = None
    state_seconds: float = Field(10.0, gt=0.0, le=3600.0)
    golden_interval_seconds: float = Field(3600.0, ge=0.0, le=1e7)
    feedback_counts: bool = False
    admin: Admin | None = None
    canary: Canary | None = None
    shadow: Shadow | None = None


def load_config(path: Path | None) -> ServerConfig:
    """Read serve.yaml; the defaults without a path. Relative paths in it are taken from its own
    folder.

    Raises RecipeError that names every problem at once, one line each.
    """
    if path is None:
        return ServerConfig()
    document = read_document(path, "server configuration", "docs/serve.md describes one")
    try:
        context = {"folder": path.parent}
        return ServerConfig.model_validate_json(json.dumps(document), context=context)
    except ValidationError as problem:
        raise RecipeError("\n".join(explain(path, problem, ServerConfig))) from None
