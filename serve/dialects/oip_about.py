"""What the Open Inference Protocol tells of the server and its model: health, metadata, the model's
configuration and figures, and the repository. All that tritonclient and KServe's client ask for.
"""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

import msgspec

from edgeloop.bundle import Bundle
from serve.body import decode
from serve.dialects.dialect import (
    MAX_BATCH_TEXTS,
    Asked,
    Reply,
    Route,
    Served,
    View,
    check_model,
    check_version,
    send,
    version_of,
)
from serve.dialects.oip import INFER_ROUTES, shape
from serve.dialects.oip_tensors import TensorAbout, inputs_of, outputs_of
from serve.refused import Refused
from serve.tally import Tally

EXTENSIONS = [
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "statistics",
]
# Triton's names of the datatypes in a model's configuration.
CONFIG_TYPES = {"BYTES": "TYPE_STRING", "FP32": "TYPE_FP32", "BOOL": "TYPE_BOOL"}


class ServerAbout(msgspec.Struct):
    """GET /v2."""

    name: str
    version: str
    extensions: list[str]


class HealthAbout(msgspec.Struct, omit_defaults=True):
    """GET /v2/health/live and /v2/health/ready."""

    live: bool
    ready: bool
    error: str = ""


class ModelNames(msgspec.Struct):
    """GET /v2/models, as KServe has it."""

    models: list[str]


class ModelAbout(msgspec.Struct):
    """GET /v2/models/{model}."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorAbout]
    outputs: list[TensorAbout]


class ModelReady(msgspec.Struct, omit_defaults=True):
    """GET /v2/models/{model}/ready."""

    name: str
    ready: bool
    error: str = ""


class ConfigTensor(msgspec.Struct):
    """A tensor in a configuration; `dims` without the batch."""

    name: str
    data_type: str
    dims: list[int]


class ModelConfig(msgspec.Struct):
    """GET /v2/models/{model}/config."""

    name: str
    platform: str
    max_batch_size: int
    input: list[ConfigTensor]
    output: list[ConfigTensor]


class Duration(msgspec.Struct):
    """How often, and nanoseconds in all."""

    count: int
    ns: int


class InferenceStats(msgspec.Struct):
    """`compute_infer` has tokenizing in it; `fail` is counted and not timed."""

    success: Duration
    fail: Duration
    queue: Duration
    compute_infer: Duration


class ModelStats(msgspec.Struct):
    """Since the server first answered with the bundle. One text is one inference, and one run."""

    name: str
    version: str
    last_inference: int
    inference_count: int
    execution_count: int
    inference_stats: InferenceStats
    batch_stats: list[Duration]


class StatsReply(msgspec.Struct):
    """GET /v2/models/{model}/stats."""

    model_stats: list[ModelStats]


class IndexBody(msgspec.Struct):
    """The body of POST /v2/repository/index, which may be empty."""

    ready: bool = False


class IndexEntry(msgspec.Struct):
    """A model of POST /v2/repository/index."""

    name: str
    version: str
    state: str
    reason: str


_index = msgspec.json.Decoder(IndexBody)


def about_server(_: Served, __: Asked) -> Reply:
    """GET /v2."""
    return send(ServerAbout("edgeloop", own_version(), EXTENSIONS))


def own_version() -> str:
    """Of edgeloop; "0" where it is run from its source."""
    try:
        return version("edgeloop")
    except PackageNotFoundError:
        return "0"


def live(served: Served, _: Asked) -> Reply:
    """GET /v2/health/live."""
    return _health(served, served.live)


def ready(served: Served, _: Asked) -> Reply:
    """GET /v2/health/ready."""
    return _health(served, served.ready)


def _health(served: Served, is_well: bool) -> Reply:
    problem = "" if is_well else _problem(served)
    return send(HealthAbout(served.live, served.ready, problem), 200 if is_well else 503)


def _problem(served: Served) -> str:
    return "the server drains" if served.live else "an inference thread died; restart the server"


def model_names(served: Served, _: Asked) -> Reply:
    """GET /v2/models."""
    return send(ModelNames([served.bundle.manifest.name]))


def about_model(served: Served, _: Asked) -> Reply:
    """GET /v2/models/{model}."""
    manifest = served.bundle.manifest
    versions = [version_of(served.bundle)]
    inputs, outputs = inputs_of(manifest), outputs_of(manifest)
    return send(ModelAbout(manifest.name, versions, _platform(served.bundle), inputs, outputs))


def _platform(bundle: Bundle) -> str:
    return f"edgeloop_{bundle.manifest.engine}"


def model_ready(served: Served, _: Asked) -> Reply:
    """GET /v2/models/{model}/ready."""
    problem = "" if served.ready else _problem(served)
    name = served.bundle.manifest.name
    return send(ModelReady(name, served.ready, problem), 200 if served.ready else 503)


def model_config(served: Served, _: Asked) -> Reply:
    """GET /v2/models/{model}/config."""
    manifest = served.bundle.manifest
    return send(
        ModelConfig(
            manifest.name,
            _platform(served.bundle),
            MAX_BATCH_TEXTS,
            [_config(about) for about in inputs_of(manifest)],
            [_config(about) for about in outputs_of(manifest)],
        )
    )


def _config(about: TensorAbout) -> ConfigTensor:
    return ConfigTensor(about.name, CONFIG_TYPES[about.datatype], about.shape[1:] or [1])


def model_stats(served: Served, _: Asked) -> Reply:
    """GET /v2/models/{model}/stats, and of all models, GET /v2/models/stats."""
    tally = served.tally
    stats = ModelStats(
        name=served.bundle.manifest.name,
        version=version_of(served.bundle),
        last_inference=int(tally.last_seconds * 1000),
        inference_count=tally.texts,
        execution_count=tally.texts,
        inference_stats=_inference_stats(tally),
        batch_stats=[],
    )
    return send(StatsReply([stats]))


def _inference_stats(tally: Tally) -> InferenceStats:
    queue_ns, inference_ns = int(tally.queue_seconds * 1e9), int(tally.inference_seconds * 1e9)
    return InferenceStats(
        success=Duration(tally.answered, queue_ns + inference_ns),
        fail=Duration(tally.failed, 0),
        queue=Duration(tally.answered, queue_ns),
        compute_infer=Duration(tally.answered, inference_ns),
    )


def index(served: Served, asked: Asked) -> Reply:
    """POST /v2/repository/index. Raises Refused (400, 422)."""
    only_ready = bool(asked.body) and decode(_index, asked.body).ready
    state = "READY" if served.live else "UNAVAILABLE"
    entry = IndexEntry(served.bundle.manifest.name, version_of(served.bundle), state, "")
    return send([] if only_ready and not served.live else [entry])


def refuse_loading(_: Served, asked: Asked) -> Reply:
    """POST /v2/repository/models/{model}/load and /unload. Raises Refused (403), always."""
    raise Refused(
        403,
        "Forbidden",
        f"model {asked.names['model']!r} is not loaded or unloaded here; the admin listener does "
        "that",
    )


def _of_model(view: View) -> View:
    """The view of a model that is served; of any other it is 404."""

    def checked(served: Served, asked: Asked) -> Reply:
        check_model(asked.names["model"], served.bundle)
        check_version(asked.names.get("version"), served.bundle)
        return view(served, asked)

    return checked


MODEL_VIEWS: dict[str, Callable[[Served, Asked], Reply]] = {
    "": about_model,
    "/ready": model_ready,
    "/config": model_config,
    "/stats": model_stats,
}
ABOUT, REPOSITORY = "/v2", "/v2/repository"
VIEWS: dict[str, View] = {
    "/v2": about_server,
    "/v2/health/live": live,
    "/v2/health/ready": ready,
    "/v2/models": model_names,
    "/v2/models/stats": model_stats,
    **{
        f"/v2/models/{{model}}{versions}{part}": _of_model(view)
        for versions in ("", "/versions/{version}")
        for part, view in MODEL_VIEWS.items()
    },
}
COMMANDS: dict[str, View] = {
    "/v2/repository/index": index,
    "/v2/repository/models/{model}/load": refuse_loading,
    "/v2/repository/models/{model}/unload": refuse_loading,
}
ROUTES = (
    *(Route(path, shape, views={"GET": view}, group=ABOUT) for path, view in VIEWS.items()),
    *INFER_ROUTES,
    *(Route(p, shape, views={"POST": view}, group=REPOSITORY) for p, view in COMMANDS.items()),
)
