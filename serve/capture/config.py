"""serve.yaml's `capture`: which share of the traffic is kept, where, how much and how long."""

import re
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from edgeloop.section import Section
from serve.operator_path import OperatorPath

MOST_PATTERN_CHARACTERS = 500
MOST_PATTERNS = 32
PATTERN_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")

Share = Annotated[float, Field(ge=0.0, le=1.0)]


def _check_patterns(patterns: dict[str, str]) -> dict[str, str]:
    if len(patterns) > MOST_PATTERNS:
        raise ValueError(f"{len(patterns)} patterns, at most {MOST_PATTERNS} are possible")
    for name, pattern in patterns.items():
        if not PATTERN_NAME.fullmatch(name):
            raise ValueError(f"{name!r}: a pattern's name is lower-case letters, digits, - and _")
        if len(pattern) > MOST_PATTERN_CHARACTERS:
            raise ValueError(f"{name}: is longer than {MOST_PATTERN_CHARACTERS} characters")
        try:
            compiled = re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as problem:
            raise ValueError(f"{name}: is no regular expression of Python's ({problem})") from None
        if compiled.match(""):
            raise ValueError(f"{name}: matches the empty text, and so everywhere")
    return patterns


class CaptureConfig(Section):
    """`share`: of all answered texts; `low_confidence_share`: of those of a score under
    `low_confidence_below`, drawn apart; `max_bytes`, `ttl_days`: the oldest goes; `patterns`: name
    to regular expression, replaced by <name> before anything is written."""

    folder: OperatorPath
    share: Share = 0.01
    low_confidence_below: Share = 0.5
    low_confidence_share: Share = 0.2
    max_bytes: int = Field(100_000_000, ge=1_000_000)
    ttl_days: float = Field(30.0, gt=0.0, le=3650.0)
    patterns: Annotated[dict[str, str], AfterValidator(_check_patterns)] = {}

    @model_validator(mode="after")
    def _keeps_something(self) -> Self:
        if self.share == 0.0 and self.low_confidence_share * self.low_confidence_below == 0.0:
            raise ValueError("both shares are 0, nothing would be kept; leave capture out")
        return self
