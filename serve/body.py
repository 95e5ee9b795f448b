"""Request bodies: JSON into msgspec's types, and what is not that into its refusal."""

from typing import TypeVar

import msgspec

from serve.refused import Refused, invalid

S = TypeVar("S")


def decode(decoder: msgspec.json.Decoder[S], body: bytes) -> S:
    """Raises Refused: 400 for what is no JSON, 422 for JSON of another shape."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as problem:
        raise invalid(f"the JSON has another shape than it needs: {problem}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise Refused(400, "Validation", f"the body is not JSON in UTF-8: {problem}") from None
    except RecursionError:
        raise invalid("the JSON is nested too deeply") from None
