"""serve.yaml: read once, and everything that is wrong with it said at once."""

from pathlib import Path

import pytest

from edgeloop.errors import RecipeError
from serve.config import ServerConfig, load_config


def write(folder: Path, text: str) -> Path:
    path = folder / "serve.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_without_a_file_there_are_the_defaults() -> None:
    assert load_config(None) == ServerConfig()


def test_the_file_sets_what_it_names(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "queue_texts: 3\n"))
    assert config == ServerConfig(queue_texts=3)


def test_relative_paths_are_taken_from_the_files_folder(tmp_path: Path) -> None:
    text = "state: kept\nwatch: /bundles\ncanary: {bundle: ../next}\nadmin: {bundles: b}\n"
    config = load_config(write(tmp_path, text))
    assert (config.state, config.watch) == (tmp_path / "kept", Path("/bundles"))
    assert config.canary is not None
    assert config.admin is not None
    assert config.canary.bundle == tmp_path / ".." / "next"
    assert config.admin.bundles == tmp_path / "b"


def test_a_problem_in_a_section_is_told_with_its_key(tmp_path: Path) -> None:
    path = write(tmp_path, "canary: {share: 0.9, promot: true}\nshadow: {bundle: b, alpha: 2}\n")
    with pytest.raises(RecipeError) as problem:
        load_config(path)
    said = str(problem.value)
    for key in ("canary.bundle: is missing", "canary.share:", "canary.promot:", "shadow.alpha:"):
        assert key in said
    assert "did you mean promote?" in said


def test_the_file_of_keys_is_taken_from_its_own_folder(tmp_path: Path) -> None:
    keys = load_config(write(tmp_path, "keys: {file: a/keys.json}\n")).keys
    assert keys is not None
    assert keys.file == tmp_path / "a" / "keys.json"


@pytest.mark.parametrize(
    "line",
    ["max_connections: 0", "request_timeout_seconds: 0", "access_log: 1", "keys: {}", "tls: {}"],
)
def test_impossible_limits_are_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(RecipeError, match=line.split(":")[0]):
        load_config(write(tmp_path, line + "\n"))


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, "queue_text: 3\npoll_seconds: -1\ndrain_seconds: '2'\n")
    with pytest.raises(RecipeError) as problem:
        load_config(path)
    lines = str(problem.value).splitlines()
    assert [line.split(": ")[1] for line in lines] == [
        "drain_seconds",
        "poll_seconds",
        "queue_text",
    ]
    assert "did you mean queue_texts?" in lines[2]
    assert "remove the quotes" in lines[0]


@pytest.mark.parametrize("text", ["- a\n", "a: [\n", ""])
def test_what_is_no_mapping_is_no_configuration(tmp_path: Path, text: str) -> None:
    with pytest.raises(RecipeError, match=r"serve\.yaml"):
        load_config(write(tmp_path, text))


def test_a_missing_file_is_told_with_what_describes_it(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no such server configuration; docs/serve\.md"):
        load_config(tmp_path / "none.yaml")
