"""The wire shape of POST /feedback: the right label of a text, under the caller's own id.

{"id": "7", "text": "s", "label": "a"}        several labels: "a|b", none: ""

A label of a captured row may carry the row's "inclusion_probability" and "rule": it then counts as
one of a sample that was drawn at random.
"""

import msgspec

from edgeloop.records import Manifest
from edgeloop.tasks import TASKS
from serve.body import decode
from serve.capture.sampling import Rule
from serve.refused import Refused, invalid


class FeedbackBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /feedback."""

    id: str
    text: str
    label: str
    inclusion_probability: float | None = None
    rule: Rule | None = None


_feedback = msgspec.json.Decoder(FeedbackBody)


def parse_feedback(body: bytes, manifest: Manifest) -> FeedbackBody:
    """Read the body of POST /feedback; several labels come back sorted, as the ledger keeps them.

    Raises Refused (400, 422); an unknown label is refused with the known ones, and so is every
    label for a model whose rows are more than one text and its labels.
    """
    row = decode(_feedback, body)
    labels = TASKS[manifest.task].read_label(row.label)
    if labels is None:
        raise invalid(
            f"this model's task is {manifest.task}, which /feedback takes no labels for; add "
            "corrected rows to the recipe's data.files"
        )
    if manifest.text_pair:
        raise invalid(
            "this model reads pairs of texts, which /feedback takes no labels for; add corrected "
            "rows to the recipe's data.files"
        )
    for name, value in (("id", row.id), ("text", row.text)):
        if not value.strip():
            raise Refused(400, "Empty", f"`{name}` cannot be empty")
    for label in labels:
        if label not in manifest.labels:
            known = ", ".join(manifest.labels)
            raise invalid(f"label {label!r} is unknown; the labels are {known}")
    share = row.inclusion_probability
    if share is not None and not 0.0 < share <= 1.0:
        raise invalid(f"`inclusion_probability` is {share}, it is above 0 and at most 1")
    if share is None and row.rule is not None:
        raise invalid("`rule` stands beside `inclusion_probability`, as in the captured row")
    return FeedbackBody(row.id, row.text, "|".join(sorted(set(labels))), share, row.rule)
