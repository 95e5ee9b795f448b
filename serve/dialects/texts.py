"""What every dialect demands of its texts."""

from collections.abc import Sequence

from edgeloop.rows import TextInput
from serve.refused import Refused, invalid

TOKEN_IDS = "is token ids, which this server does not take (a bundle has its own tokenizer)"


def check_texts(texts: Sequence[TextInput], max_batch_texts: int, field: str = "inputs") -> None:
    """Raises Refused where there are none or too many, or one is empty or has a null character.
    `field`: what the dialect calls them."""
    if not texts:
        raise invalid(f"`{field}` has no text; send at least one")
    if len(texts) > max_batch_texts:
        raise invalid(f"batch size {len(texts)} > maximum allowed batch size {max_batch_texts}")
    for text in texts:
        for part in (text,) if isinstance(text, str) else text:
            if not part.strip():
                raise Refused(
                    400, "Empty", f"`{field}` cannot be empty; send a text with a word in it"
                )
            if "\0" in part:
                raise invalid(f"`{field}` has a null character (U+0000); remove it")


def check_direction(direction: str | None, field: str = "truncation_direction") -> None:
    """Raises Refused where texts are to be cut at their beginning."""
    if direction not in (None, "right", "Right"):
        raise invalid(f"{field} {direction!r} is not supported; texts are cut at their end (right)")


def read_input(given: str | list[str | int | list[int]], field: str = "input") -> tuple[str, ...]:
    """The texts of OpenAI's `input`: one, or a list. Raises Refused for token ids."""
    if isinstance(given, str):
        return (given,)
    texts = tuple(text for text in given if isinstance(text, str))
    if len(texts) != len(given):
        raise invalid(f"`{field}` {TOKEN_IDS}; send texts")
    return texts


def check_dimensions(dimensions: int | None, size: int) -> None:
    """Raises Refused where vectors of another size are wanted than there are."""
    if dimensions not in (None, size):
        raise invalid(
            f"dimensions {dimensions} is not supported: this model's vectors have {size} numbers; "
            "leave it out"
        )
