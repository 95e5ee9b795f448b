"""Markers by folder, a clean environment for every test, and the shared tiny models."""

from pathlib import Path

import pytest

from compress.source import Source
from edgeloop.bundle import Bundle
from tests import tiny

TIERS = ("unit", "integration", "e2e")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for tier in TIERS:
            if tier in Path(item.path).parts:
                item.add_marker(tier)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads or writes a real ledger, and none reaches a hub."""
    monkeypatch.setenv("EDGELOOP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("EDGELOOP_LEDGER", raising=False)


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A real bundle around a tiny ONNX classifier."""
    return tiny.make_bundle(tmp_path_factory.mktemp("tiny") / "bundle")


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT folder with random weights."""
    folder = tmp_path_factory.mktemp("bert") / "base"
    tiny.make_bert(folder)
    return folder


@pytest.fixture(scope="session")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Source]:
    """Every exported encoder of tests.exported, by architecture and exporter."""
    from tests.exported import EXPORTS, export_tiny

    root = tmp_path_factory.mktemp("encoders")
    return {export: export_tiny(root / "-".join(export), *export) for export in EXPORTS}
