"""Tagged tokens and characters spans: BIO, IOB1, IOBES and BILOU become spans of one text; spans
that people drew are checked.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise

from edgeloop.rows import Span

OUTSIDE = "O"
BEGINS, ENDS, PREFIXES = "BSU", "ESLU", "BIESLU"


def split_tag(tag: str) -> tuple[str, str]:
    """ "B-PER" is ("B", "PER"), "O" is ("O", ""). Raises ValueError for what is no tag."""
    if tag == OUTSIDE:
        return OUTSIDE, ""
    prefix, separator, kind = tag.partition("-")
    if len(prefix) != 1 or prefix not in PREFIXES or not separator or not kind.strip():
        raise ValueError(tag)
    return prefix, kind.strip()


def tagged_text(tokens: Sequence[str], tags: Sequence[str]) -> tuple[str, tuple[Span, ...]]:
    """The tokens joined by single spaces, and the spans that the tags mark, by the rules of
    conlleval: what neither begins an entity nor continues one of its own type begins one.

    Raises ValueError (with the tag) for what is no tag.
    """
    starts = [0, *accumulate(len(token) + 1 for token in tokens)]
    runs: list[tuple[int, int, str]] = []
    open_type = ""
    for position, (prefix, kind) in enumerate(map(split_tag, tags)):
        if prefix != OUTSIDE:
            if prefix in BEGINS or kind != open_type:
                runs.append((position, position, kind))
            else:
                runs[-1] = (runs[-1][0], position, kind)
        open_type = "" if prefix in ENDS else kind
    spans = (Span(starts[a], starts[b] + len(tokens[b]), kind) for a, b, kind in runs)
    return " ".join(tokens), tuple(spans)


def check_spans(text: str, spans: Sequence[Span], say: Callable[[str], None]) -> None:
    """Say of each span what is wrong with it, and of each pair that overlaps."""
    for span in spans:
        problem = _problem(text, span)
        if problem:
            say(f"{span.start} to {span.end} ({span.label}) {problem}")
    for left, right in pairwise(sorted(spans)):
        if right.start < left.end and left.start < left.end and right.start < right.end:
            say(
                f"{left.start} to {left.end} ({left.label}) overlaps {right.start} to {right.end} "
                f"({right.label}); keep one of them"
            )


def _problem(text: str, span: Span) -> str:
    if span.start > span.end:
        return "is reversed; start comes before end"
    if span.start == span.end:
        return "is empty; end is exclusive"
    if span.start < 0 or span.end > len(text):
        return f"is outside the text, which has {len(text)} characters"
    part = text[span.start : span.end]
    if part != part.strip():
        return f"marks {part!r}; leave the outer white space out"
    return ""
