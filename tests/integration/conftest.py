"""Two bundles of one model that answer differently, for whatever swaps them."""

from pathlib import Path

import pytest

from edgeloop.bundle import Bundle
from tests import tiny

MORE_LABELS = ("delivery", "repair", "billing", "warranty")


@pytest.fixture
def first(tmp_path: Path) -> Bundle:
    return tiny.make_bundle(tmp_path / "first")


@pytest.fixture
def second(tmp_path: Path) -> Bundle:
    return tiny.make_bundle(tmp_path / "second", seed=1, labels=MORE_LABELS)
