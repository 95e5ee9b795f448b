"""What Hugging Face's InferenceClient asks of a URL: POST / and POST /hf/{model}.

    {"inputs": "s", "parameters": {"function_to_apply": "softmax", "top_k": 2}}
        text classification   -> [[{"label", "score"}, ...]]          a list per text, always
        token classification  -> [{"entity_group", "score", "word", "start", "end"}, ...]
        feature extraction    -> [[0.1, ...]]
    {"inputs": ["s", "t"]} is a batch; {"inputs": {"text": "s", "text_pair": "t"}} is a pair.
Source: huggingface_hub's InferenceClient, and the reply that its text_classification takes the
first element of. Its parameters stand in `parameters`; those of feature extraction beside it.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeloop.bundle import Bundle
from edgeloop.records import Manifest
from edgeloop.rows import TextInput
from edgeloop.runtime import softmax
from edgeloop.tasks import sigmoid
from serve.body import decode
from serve.dialects.dialect import (
    Asked,
    Dialect,
    Reply,
    Route,
    TextRequest,
    check_model,
    send,
    tei_shape,
)
from serve.dialects.scores import CLASSIFIERS, best_first, class_scores
from serve.dialects.tei import PAIR, Prediction, entities
from serve.dialects.texts import check_direction, check_texts
from serve.jobs import Scored
from serve.refused import invalid

FUNCTIONS: dict[str, Callable[[NDArray[np.float32]], NDArray[Any]]] = {
    "softmax": softmax,
    "sigmoid": sigmoid,
    "none": lambda logits: logits,
}
Function = Literal["softmax", "sigmoid", "none"]


class Pair(msgspec.Struct, forbid_unknown_fields=True):
    """A text, and the one that belongs to it."""

    text: str
    text_pair: str | None = None


class Parameters(msgspec.Struct, forbid_unknown_fields=True):
    """The parameters of text and of token classification. `truncate`: cut what is too long."""

    function_to_apply: Function | None = None
    top_k: int | None = None
    aggregation_strategy: str | None = None
    ignore_labels: list[str] | None = None
    truncate: bool | None = None


class HfBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body; all but the first two are of feature extraction."""

    inputs: str | Pair | list[str | Pair]
    parameters: Parameters | None = None
    truncate: bool | None = None
    truncation_direction: str | None = None
    normalize: bool | None = None
    prompt_name: str | None = None
    dimensions: int | None = None
    encoding_format: str | None = None


class HfRequest(TextRequest, frozen=True):
    """With what is to be done to the scores. `top_k`: 0 for all."""

    function: Function | None = None
    top_k: int = 0
    ignored: frozenset[str] = frozenset()


_body = msgspec.json.Decoder(HfBody)


def parse(asked: Asked, bundle: Bundle, most_texts: int) -> HfRequest:
    """Raises Refused (400, 404, 422) for what is no such request, or asks for what is not there."""
    check_model(asked.names.get("model"), bundle)
    document = decode(_body, asked.body)
    parameters = document.parameters or Parameters()
    _check_task(document, parameters, bundle.manifest.task)
    _check_features(document)
    batched = isinstance(document.inputs, list)
    given = document.inputs if isinstance(document.inputs, list) else [document.inputs]
    texts = tuple(_text(one, bundle.manifest) for one in given)
    check_texts(texts, most_texts)
    return HfRequest(
        texts,
        batched,
        truncate=bool(document.truncate or parameters.truncate),
        function=parameters.function_to_apply,
        top_k=_top_k(parameters),
        ignored=frozenset(parameters.ignore_labels or ()),
    )


def _text(given: str | Pair, manifest: Manifest) -> TextInput:
    if isinstance(given, str):
        return given
    if given.text_pair is None:
        return given.text
    if not manifest.text_pair:
        raise invalid(PAIR)
    return given.text, given.text_pair


def _top_k(parameters: Parameters) -> int:
    if parameters.top_k is not None and parameters.top_k < 1:
        raise invalid(f"top_k {parameters.top_k}: at least 1 is needed; leave it out for all")
    return parameters.top_k or 0


def _check_task(document: HfBody, parameters: Parameters, task: str) -> None:
    """A parameter that would have no effect is an error."""
    classifies = {"function_to_apply": parameters.function_to_apply, "top_k": parameters.top_k}
    tags = {
        "aggregation_strategy": parameters.aggregation_strategy,
        "ignore_labels": parameters.ignore_labels,
    }
    embeds = {
        name: getattr(document, name)
        for name in ("normalize", "prompt_name", "dimensions", "encoding_format")
    }
    strange: dict[str, object] = {} if task in CLASSIFIERS else dict(classifies)
    strange |= {} if task == "token-classification" else tags
    strange |= {} if task == "text-embedding" else embeds
    for name, value in strange.items():
        if value is not None:
            raise invalid(f"{name} means nothing to this model, whose task is {task}; leave it out")
    if parameters.aggregation_strategy not in (None, "simple"):
        raise invalid(
            f"aggregation_strategy {parameters.aggregation_strategy!r} is not supported; entities "
            'are made of their tokens in one way, "simple"'
        )


def _check_features(document: HfBody) -> None:
    check_direction(document.truncation_direction)
    if document.normalize is False:
        raise invalid("normalize false: this model's vectors have length 1, there are no others")
    if document.prompt_name is not None or document.dimensions is not None:
        raise invalid("prompt_name and dimensions are not supported; leave them out")
    if document.encoding_format not in (None, "float"):
        raise invalid(
            f"encoding_format {document.encoding_format!r} is not supported here; vectors are told "
            "as numbers (float); POST /v1/embeddings has base64"
        )


def encode(answers: Sequence[Scored], bundle: Bundle, request: HfRequest) -> Reply:
    """The reply, by the task. A classifier's always nests: InferenceClient takes element 0."""
    manifest = bundle.manifest
    if manifest.task in CLASSIFIERS:
        return send([_classes(answer, manifest, request) for answer in answers])
    if manifest.task == "text-embedding":
        return send([answer.output.embedding.tolist() for answer in answers])
    rows = [
        [entity for entity in entities(answer) if entity.entity_group not in request.ignored]
        for answer in answers
    ]
    return send(rows if request.batched else rows[0])


def _classes(answer: Scored, manifest: Manifest, request: HfRequest) -> list[Prediction]:
    if request.function is None:
        scores = class_scores(answer, manifest.task, raw=False)
    else:
        scores = FUNCTIONS[request.function](answer.output.logits)
    order = best_first(scores)
    values = scores.tolist()
    return [Prediction(values[i], manifest.labels[i]) for i in order[: request.top_k or len(order)]]


HF = Dialect(parse, encode)
ROUTES = (Route("/", tei_shape, HF), Route("/hf/{model}", tei_shape, HF))
