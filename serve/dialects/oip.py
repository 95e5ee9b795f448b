"""The Open Inference Protocol V2 over REST: POST /v2/models/{model}[/versions/{version}]/infer.

    {"id": "7", "parameters": {"timeout": 50000},
     "inputs": [{"name": "text", "shape": [2], "datatype": "BYTES", "data": ["s", "t"]}],
     "outputs": [{"name": "probs", "parameters": {"classification": 2}}, {"name": "label"}]}
    -> {"model_name", "model_version", "id", "parameters": {"variant", "digest"},
        "outputs": [{"name": "probs", "shape": [2, 3], "datatype": "FP32", "data": [...]}, ...]}
Tensors are in oip_tensors.py, their binary form in oip_binary.py. `timeout` is microseconds.
Parameters that are not there are refused, not ignored. Errors are {"error": "..."}, with 400 for
what other dialects answer 422. Source: the Open Inference Protocol and Triton's extensions of it.
"""

import math
from collections.abc import Sequence

import msgspec

from edgeloop.bundle import Bundle
from edgeloop.rows import TextInput
from serve.body import decode
from serve.dialects.dialect import (
    Asked,
    Dialect,
    Reply,
    Route,
    TextRequest,
    check_model,
    check_version,
    send,
    version_of,
)
from serve.dialects.oip_binary import JSON_LENGTH, read_strings, split_body
from serve.dialects.oip_tensors import (
    PROBS,
    TEXT,
    TEXT_PAIR,
    Tensor,
    classification,
    inputs_of,
    make_tensor,
    outputs_of,
)
from serve.dialects.texts import check_texts
from serve.jobs import Scored
from serve.refused import Refused, invalid

Parameters = dict[str, str | bool | int | float | None]
BINARY_SIZE = "binary_data_size"
OCTETS = b"application/octet-stream"


class InferInput(msgspec.Struct, forbid_unknown_fields=True):
    """A tensor of texts: its data here, or behind the JSON."""

    name: str
    shape: list[int]
    datatype: str
    parameters: Parameters | None = None
    data: list[str | list[str]] | None = None


class InferOutput(msgspec.Struct, forbid_unknown_fields=True):
    """An output that is wanted."""

    name: str
    parameters: Parameters | None = None


class InferBody(msgspec.Struct, forbid_unknown_fields=True):
    """The JSON of a request. KServe's client names the model here as well as in the path."""

    inputs: list[InferInput]
    id: str | None = None
    model_name: str | None = None
    model_version: str | None = None
    parameters: Parameters | None = None
    outputs: list[InferOutput] | None = None


class Wanted(msgspec.Struct, frozen=True):
    """An output in the form that it is wanted in. `classes`: 0 for the numbers themselves."""

    name: str
    binary: bool = False
    classes: int = 0


class OipRequest(TextRequest, frozen=True):
    """With what the reply is to hold."""

    id: str | None = None
    outputs: tuple[Wanted, ...] = ()
    variant: str = ""


class ReplyTensor(msgspec.Struct, omit_defaults=True):
    """An output in the JSON of a reply; without `data` where it stands behind it."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, int] | None = None
    data: list[float | bool | str] | None = None


class InferReply(msgspec.Struct, omit_defaults=True):
    """The JSON of a reply."""

    model_name: str
    model_version: str
    outputs: list[ReplyTensor]
    parameters: dict[str, str]
    id: str | None = None


class OipError(msgspec.Struct):
    """The shape of every error: never nested, tritonclient reads text."""

    error: str


_infer = msgspec.json.Decoder(InferBody)


def parse(asked: Asked, bundle: Bundle, most_texts: int) -> OipRequest:
    """Raises Refused (400, 404, 422) for what is no such request, or asks for what is not there."""
    check_model(asked.names["model"], bundle)
    check_version(asked.names.get("version"), bundle)
    head, tail = split_body(asked.body, asked.headers)
    document = decode(_infer, head)
    check_model(document.model_name, bundle)
    check_version(document.model_version or None, bundle)
    parameters = _known(
        document.parameters,
        {"timeout", "binary_data_output", "truncate", "content_type"},
        "request",
    )
    texts = _texts(document.inputs, tail, bundle)
    check_texts(texts, most_texts, TEXT)
    return OipRequest(
        texts,
        batched=True,
        truncate=_flag(parameters, "truncate"),
        timeout_seconds=_timeout_seconds(parameters.get("timeout")),
        id=document.id,
        variant=asked.variant,
        outputs=_outputs(document.outputs, _flag(parameters, "binary_data_output"), bundle),
    )


def _known(given: Parameters | None, names: set[str], where: str) -> Parameters:
    """The parameters that say something. Raises Refused for one that has no meaning here."""
    said: Parameters = {name: value for name, value in (given or {}).items() if value is not None}
    for name in said:
        if name not in names:
            known = ", ".join(sorted(names))
            raise invalid(f"parameter {name!r} of the {where} is not supported; known: {known}")
    if said.get("content_type", "str") != "str":
        raise invalid(f'content_type {said["content_type"]!r} of the {where}: only "str" is taken')
    return said


def _flag(parameters: Parameters, name: str) -> bool:
    value = parameters.get(name, False)
    if not isinstance(value, bool):
        raise invalid(f"parameter {name!r} is {value!r}; it is true or false")
    return value


def _timeout_seconds(value: str | float | None) -> float:
    """From microseconds, which some clients send as text; 0 is none."""
    if value is None:
        return math.inf
    try:
        timeout_us = math.nan if isinstance(value, bool) else float(value)
    except ValueError:
        timeout_us = math.nan
    if not timeout_us >= 0.0:
        raise invalid(f"parameter 'timeout' is {value!r}; it is a number of microseconds")
    return timeout_us / 1e6 if timeout_us else math.inf


def _texts(inputs: Sequence[InferInput], tail: memoryview, bundle: Bundle) -> tuple[TextInput, ...]:
    """The texts, or pairs where a second input has the others. All of `tail` must be taken."""
    known = [about.name for about in inputs_of(bundle.manifest)]
    columns: dict[str, list[str]] = {}
    for tensor in inputs:
        if tensor.name not in known or tensor.name in columns:
            raise invalid(f"input {tensor.name!r} is unknown or given twice; known: {known}")
        columns[tensor.name], tail = _column(tensor, tail)
    if len(tail):
        raise Refused(400, "Validation", f"{len(tail)} bytes belong to no input's {BINARY_SIZE}")
    if TEXT not in columns:
        raise invalid(f"input {TEXT!r} is missing")
    if TEXT_PAIR not in columns:
        return tuple(columns[TEXT])
    if len(columns[TEXT]) != len(columns[TEXT_PAIR]):
        raise invalid(f"{TEXT!r} and {TEXT_PAIR!r} have different shapes")
    return tuple(zip(columns[TEXT], columns[TEXT_PAIR], strict=True))


def _column(tensor: InferInput, tail: memoryview) -> tuple[list[str], memoryview]:
    """A tensor's texts, and the bytes that are left for those after it."""
    if tensor.datatype != "BYTES":
        raise invalid(f"input {tensor.name!r} has datatype {tensor.datatype!r}; BYTES is needed")
    count = _elements(tensor)
    size = _known(tensor.parameters, {BINARY_SIZE, "content_type"}, "input").get(BINARY_SIZE)
    if size is None:
        return _flat(tensor, count), tail
    if tensor.data is not None:
        raise invalid(f"input {tensor.name!r} has both data and {BINARY_SIZE}")
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(tail):
        raise Refused(
            400,
            "Validation",
            f"input {tensor.name!r}: {BINARY_SIZE} is {size!r}, {len(tail)} bytes are left; the "
            f"header {JSON_LENGTH.decode()} says where they begin",
        )
    return read_strings(tail[:size], count, tensor.name), tail[size:]


def _elements(tensor: InferInput) -> int:
    match tensor.shape:
        case [count] | [count, 1] if count >= 1:
            return count
    raise invalid(f"input {tensor.name!r} has the shape {tensor.shape}; [N] or [N, 1] is needed")


def _flat(tensor: InferInput, count: int) -> list[str]:
    """The data of [N] or [N, 1], nested or not."""
    texts: list[str] = []
    for row in tensor.data or ():
        texts += [row] if isinstance(row, str) else row
    if len(texts) != count:
        raise invalid(f"input {tensor.name!r} has {len(texts)} texts, its shape is {tensor.shape}")
    return texts


def _outputs(given: list[InferOutput] | None, binary: bool, bundle: Bundle) -> tuple[Wanted, ...]:
    """All outputs where none is named. Raises Refused for an unknown one."""
    known = [about.name for about in outputs_of(bundle.manifest)]
    if not given:
        return tuple(Wanted(name, binary) for name in known)
    wanted = [_wanted(output, binary, bundle) for output in given]
    names = [output.name for output in wanted]
    if not set(names) <= set(known) or len(set(names)) < len(names):
        raise invalid(f"an output of {names} is unknown or named twice; known: {known}")
    return tuple(wanted)


def _wanted(output: InferOutput, binary: bool, bundle: Bundle) -> Wanted:
    parameters = _known(output.parameters, {"binary_data", "classification"}, "output")
    if "binary_data" in parameters:
        binary = _flag(parameters, "binary_data")
    classes = parameters.get("classification", 0)
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 0:
        raise invalid(f"parameter 'classification' is {classes!r}; it is a number of classes")
    if classes and output.name != PROBS:
        raise invalid(f"parameter 'classification' is for the output {PROBS!r} alone")
    return Wanted(output.name, binary, min(classes, len(bundle.manifest.labels)))


def encode(answers: Sequence[Scored], bundle: Bundle, request: OipRequest) -> Reply:
    """JSON, and behind it the tensors that are wanted in binary."""
    known = {about.name: about for about in outputs_of(bundle.manifest)}
    told: list[ReplyTensor] = []
    parts: list[bytes] = []
    for wanted in request.outputs:
        tensor = (
            classification(answers, bundle.manifest, wanted.classes)
            if wanted.classes
            else make_tensor(known[wanted.name], answers, bundle.manifest)
        )
        told.append(_told(tensor, parts if wanted.binary else None))
    reply = InferReply(
        model_name=bundle.manifest.name,
        model_version=version_of(bundle),
        outputs=told,
        parameters={"variant": request.variant, "digest": bundle.digest},
        id=request.id,
    )
    if not parts:
        return send(reply)
    head = msgspec.json.encode(reply)
    length = [(JSON_LENGTH, str(len(head)).encode())]
    return Reply(b"".join([head, *parts]), length, OCTETS)


def _told(tensor: Tensor, parts: list[bytes] | None) -> ReplyTensor:
    """The tensor in the JSON, or what the JSON says of it once its bytes are among `parts`."""
    if parts is None:
        return ReplyTensor(tensor.name, tensor.shape, tensor.datatype, data=tensor.flat())
    parts.append(tensor.binary())
    size = {BINARY_SIZE: len(parts[-1])}
    return ReplyTensor(tensor.name, tensor.shape, tensor.datatype, parameters=size)


def shape(problem: Refused) -> tuple[int, bytes]:
    """{"error": "..."}: status and body."""
    status = 400 if problem.status == 422 else problem.status
    return status, msgspec.json.encode(OipError(problem.message))


INFER = Dialect(
    parse,
    encode,
    inputs=TEXT,
    longer='shorten it, or send the parameter "truncate": true to have it cut at its end',
)
_PATH = "/v2/models/{model}/infer"
INFER_ROUTES: tuple[Route, ...] = (
    Route(_PATH, shape, INFER),
    Route("/v2/models/{model}/versions/{version}/infer", shape, INFER, group=_PATH),
)
