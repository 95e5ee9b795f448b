"""The recipe's kinds and the builders are the same set."""

from typing import get_args

from compress.candidates import CANDIDATES
from edgeloop.recipe import CandidateKind


def test_every_kind_of_the_recipe_has_a_builder_and_no_builder_is_unknown_to_it() -> None:
    assert set(CANDIDATES) == set(get_args(CandidateKind))
