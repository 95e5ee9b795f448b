"""Which answered texts are kept: a uniform share, and apart from it a share of the unsure ones.

The two draws are independent, so a text of a score under the limit is kept with probability
1 - (1 - share)(1 - low_confidence_share), any other with `share`. That number stands in its row:
weighted by its inverse, sums over the rows are unbiased for all traffic (Horvitz and Thompson
1952) as long as nothing was dropped.
"""

import random
from dataclasses import dataclass
from typing import Literal

Rule = Literal["uniform", "low_confidence", "both"]


@dataclass(frozen=True, slots=True)
class Draw:
    """A text that is kept: with which probability it was, and by which rule."""

    inclusion_probability: float
    rule: Rule


class Sampler:
    """Draws. `generate`: its own generator, by default seeded by the system."""

    def __init__(
        self,
        share: float,
        low_confidence_below: float,
        low_confidence_share: float,
        generate: random.Random | None = None,
    ) -> None:
        self._share = share
        self._below = low_confidence_below
        self._unsure_share = low_confidence_share
        self._random = (generate or random.Random()).random
        self._unsure_probability = 1.0 - (1.0 - share) * (1.0 - low_confidence_share)

    def draw(self, score: float) -> Draw | None:
        """Keep a text that was answered with this score?"""
        uniform = self._random() < self._share
        if score >= self._below:
            return Draw(self._share, "uniform") if uniform else None
        unsure = self._random() < self._unsure_share
        if not uniform and not unsure:
            return None
        rule: Rule = "both" if uniform and unsure else "uniform" if uniform else "low_confidence"
        return Draw(self._unsure_probability, rule)
