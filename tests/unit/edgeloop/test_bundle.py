"""Bundles: whole or not there at all, and opened only where every byte is what was written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeloop.bundle import (
    CARD,
    GOLDEN,
    MANIFEST,
    MODEL,
    REFERENCE,
    TOKENIZER,
    Bundle,
    GoldenRow,
    open_bundle,
    write_bundle,
)
from edgeloop.errors import BundleError
from edgeloop.records import FileEntry, Manifest
from edgeloop.rundir import digest_file
from tests import tiny

NEEDED = (MODEL, TOKENIZER, REFERENCE, GOLDEN, CARD)


@pytest.fixture
def copy(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    """A bundle's folder that a test may damage."""
    return Path(shutil.copytree(tiny_bundle.path, tmp_path / "bundle"))


def refusal(path: Path) -> str:
    with pytest.raises(BundleError) as caught:
        open_bundle(path)
    return str(caught.value)


def edit_manifest(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads((path / MANIFEST).read_bytes())
    change(document)
    (path / MANIFEST).write_text(json.dumps(document))


def entry(document: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (e for e in document["files"] if e["path"] == name)
    return dict(found)


def test_a_bundle_opens_with_its_manifest_and_digest(copy: Path, tiny_bundle: Bundle) -> None:
    bundle = open_bundle(copy)
    assert bundle.manifest == tiny_bundle.manifest
    assert bundle.digest == tiny_bundle.digest == digest_file(copy / MANIFEST)
    assert bundle.file(MODEL) == copy / MODEL
    assert {e.path for e in bundle.manifest.files} == set(NEEDED)


def test_a_bundle_opens_through_a_link_to_its_folder(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(copy)
    assert open_bundle(tmp_path / "current").digest == open_bundle(copy).digest


def test_golden_rows_are_read_back(tiny_bundle: Bundle) -> None:
    rows = tiny_bundle.golden()
    assert len(rows) == 12
    assert {row.expected for row in rows} <= set(tiny_bundle.manifest.labels)


def rewrite_golden(path: Path, data: bytes) -> Bundle:
    """The bundle with other golden rows and a manifest that agrees with them."""
    (path / GOLDEN).write_bytes(data)

    def change(document: dict[str, Any]) -> None:
        for e in document["files"]:
            if e["path"] == GOLDEN:
                e.update(bytes=len(data), sha256=digest_file(path / GOLDEN))

    edit_manifest(path, change)
    return open_bundle(path)


@pytest.mark.parametrize("text", ["a\u2028b", "a\x85b", "a\x0bb\x1c", "a\nb\r\nc", "é ☕"])
def test_a_golden_text_may_hold_any_line_separator(copy: Path, text: str) -> None:
    row = GoldenRow(id="1", text=text, label="billing", expected="billing", score=0.5)
    line = row.model_dump_json().encode() + b"\n"
    assert rewrite_golden(copy, line + line).golden() == (row, row)


@pytest.mark.parametrize("data", [b"", b"{}\n", b"not json\n", b'{"id": 1}\n', b"\xff\n"])
def test_golden_rows_that_are_none_are_refused(copy: Path, data: bytes) -> None:
    with pytest.raises(BundleError, match=GOLDEN):
        rewrite_golden(copy, data).golden()


# -- damage ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [MODEL, TOKENIZER, GOLDEN, CARD])
def test_a_flipped_byte_is_found(copy: Path, name: str) -> None:
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    assert f"{name} has another SHA-256 than the manifest says" in refusal(copy)


def test_a_flipped_byte_of_the_manifest_gives_another_digest_or_a_refusal(
    copy: Path, tiny_bundle: Bundle
) -> None:
    whole = (copy / MANIFEST).read_bytes()
    for position in range(0, len(whole), 97):
        data = bytearray(whole)
        data[position] ^= 1
        (copy / MANIFEST).write_bytes(data)
        try:
            assert open_bundle(copy).digest != tiny_bundle.digest
        except BundleError as problem:
            assert str(copy) in str(problem)  # noqa: PT017


def test_a_truncated_model_is_found(copy: Path) -> None:
    data = (copy / MODEL).read_bytes()
    (copy / MODEL).write_bytes(data[:-1])
    said = refusal(copy)
    assert f"{MODEL} has {len(data) - 1} bytes, the manifest says {len(data)}" in said
    assert "Copy it again" in said


@pytest.mark.parametrize("name", NEEDED)
def test_a_missing_file_is_found(copy: Path, name: str) -> None:
    (copy / name).unlink()
    assert f"{name} is missing" in refusal(copy)


def test_a_needed_file_that_the_manifest_leaves_out_is_found(copy: Path) -> None:
    (copy / TOKENIZER).unlink()
    edit_manifest(copy, lambda d: d["files"].remove(entry(d, TOKENIZER)))
    assert f"{TOKENIZER} is not in the manifest" in refusal(copy)


@pytest.mark.parametrize("name", ["extra.bin", "folder/extra.bin"])
def test_an_extra_file_is_found(copy: Path, name: str) -> None:
    (copy / name).parent.mkdir(exist_ok=True)
    (copy / name).write_text("x")
    assert f"{name} lies in the folder, the manifest lacks it" in refusal(copy)


def test_every_problem_is_named_at_once(copy: Path) -> None:
    (copy / MODEL).unlink()
    (copy / CARD).write_text("short")
    said = refusal(copy)
    assert MODEL in said
    assert CARD in said


def test_a_file_behind_a_link_is_refused(copy: Path, tmp_path: Path) -> None:
    shutil.move(copy / MODEL, tmp_path / "outside.onnx")
    (copy / MODEL).symlink_to(tmp_path / "outside.onnx")
    assert f"{MODEL} is a link" in refusal(copy)


def test_a_folder_behind_a_link_is_refused(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("x")
    (copy / "more").symlink_to(tmp_path / "outside")
    edit_manifest(
        copy,
        lambda d: d["files"].append(
            {"path": "more/secret", "bytes": 1, "sha256": digest_file(copy / "more" / "secret")}
        ),
    )
    assert "more is a link" in refusal(copy)


def test_a_link_that_leads_nowhere_is_refused(copy: Path) -> None:
    (copy / "more").symlink_to(copy / "nowhere")
    assert "more is a link" in refusal(copy)


@pytest.mark.parametrize("outside", ["../outside.txt", "folder/../../outside.txt", "ABSOLUTE"])
def test_a_path_that_leaves_the_bundle_is_refused(copy: Path, tmp_path: Path, outside: str) -> None:
    (tmp_path / "outside.txt").write_text("x")
    (copy / "folder").mkdir()
    path = outside.replace("ABSOLUTE", str(tmp_path / "outside.txt"))
    listed = {"path": path, "bytes": 1, "sha256": digest_file(tmp_path / "outside.txt")}
    edit_manifest(copy, lambda d: d["files"].append(listed))
    assert f"{path} points outside the bundle" in refusal(copy)


@pytest.mark.parametrize("path", ["a" * 300, "a\0b", ""])
def test_a_path_that_no_disk_can_hold_is_refused(copy: Path, path: str) -> None:
    edit_manifest(copy, lambda d: d["files"].append({"path": path, "bytes": 1, "sha256": "0" * 64}))
    assert "the bundle is damaged" in refusal(copy)


# -- the manifest ------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [2, 99, 10**30])
def test_a_newer_schema_says_upgrade(copy: Path, version: int) -> None:
    edit_manifest(copy, lambda d: d.update(schema_version=version, field_of_tomorrow=1))
    said = refusal(copy)
    assert f"schema_version {version} is newer than 1" in said
    assert "upgrade edgeloop" in said


@pytest.mark.parametrize("version", [0, -1, "1", 1.5, True, None])
def test_a_schema_version_that_never_was_is_refused(copy: Path, version: object) -> None:
    edit_manifest(copy, lambda d: d.update(schema_version=version))
    assert "schema_version" in refusal(copy)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "no schema_version"),
        (b'"text"', "no schema_version"),
        (b"{}", "no schema_version"),
        (b'{"schema_version": 1}', "name: Field required"),
    ],
)
def test_a_manifest_that_is_none_is_refused(copy: Path, content: bytes, said: str) -> None:
    (copy / MANIFEST).write_bytes(content)
    assert f"{copy}/{MANIFEST}: {said}" in refusal(copy)


def test_an_unknown_field_of_the_manifest_is_refused(copy: Path) -> None:
    edit_manifest(copy, lambda d: d.update(surprise=1))
    assert "surprise: Extra inputs are not permitted" in refusal(copy)


def test_no_bundle_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "none", tmp_path / "file"):
        assert f"{path}: no bundle here" in refusal(path)


# -- writing -----------------------------------------------------------------------------------


def fill_from(source: Path, *left_out: str) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        for name in set(NEEDED) - set(left_out):
            shutil.copyfile(source / name, folder / name)

    return fill


def manifest_of(bundle: Bundle) -> Callable[[tuple[FileEntry, ...]], Manifest]:
    return lambda files: bundle.manifest.model_copy(update={"files": files})


def test_what_is_written_opens_and_says_where_it_lies(tiny_bundle: Bundle, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "bundle"
    made = write_bundle(target, fill_from(tiny_bundle.path), manifest_of(tiny_bundle))
    assert made == open_bundle(target)
    assert made.path == target
    assert [p.name for p in target.parent.iterdir()] == ["bundle"]


def test_the_same_files_and_manifest_give_the_same_digest(tmp_path: Path) -> None:
    assert tiny.make_bundle(tmp_path / "a").digest == tiny.make_bundle(tmp_path / "b").digest
    assert tiny.make_bundle(tmp_path / "c", seed=1).digest != open_bundle(tmp_path / "a").digest


@pytest.mark.parametrize("kind", ["bundle", "empty folder", "file", "link to nothing"])
def test_what_exists_is_never_overwritten(tiny_bundle: Bundle, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "bundle"
    match kind:
        case "bundle":
            shutil.copytree(tiny_bundle.path, target)
        case "empty folder":
            target.mkdir()
        case "file":
            target.write_text("x")
        case _:
            target.symlink_to(tmp_path / "nothing")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BundleError, match="exists already; bundles are never overwritten"):
        write_bundle(target, fill_from(tiny_bundle.path), manifest_of(tiny_bundle))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_target_that_cannot_be_written_is_refused(tiny_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(BundleError, match="cannot be written"):
        write_bundle(
            tmp_path / "file" / "bundle", fill_from(tiny_bundle.path), manifest_of(tiny_bundle)
        )


@pytest.mark.parametrize("problem", [RuntimeError("stop"), KeyboardInterrupt()])
def test_a_fill_that_raises_leaves_nothing(tmp_path: Path, problem: BaseException) -> None:
    def fill(folder: Path) -> None:
        (folder / MODEL).write_bytes(b"half")
        raise problem

    with pytest.raises(type(problem)):
        write_bundle(tmp_path / "bundle", fill, lambda files: pytest.fail("not reached"))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_a_bundle_error_and_leaves_nothing(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / REFERENCE).write_bytes(b"")
        Path("/dev/full").write_bytes(b"x" * 10_000)

    with pytest.raises(BundleError, match="No space left on device"):
        write_bundle(tmp_path / "bundle", fill, lambda files: pytest.fail("not reached"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NEEDED)
def test_an_incomplete_fill_leaves_nothing(tiny_bundle: Bundle, tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError, match=f"{name} is not in the manifest"):
        write_bundle(
            tmp_path / "bundle", fill_from(tiny_bundle.path, name), manifest_of(tiny_bundle)
        )
    assert list(tmp_path.iterdir()) == []


def test_what_a_kill_left_aside_does_not_get_into_the_next_bundle(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    (tmp_path / ".work-bundle").mkdir()
    (tmp_path / ".work-bundle" / "stray.bin").write_text("x")
    write_bundle(tmp_path / "bundle", fill_from(tiny_bundle.path), manifest_of(tiny_bundle))
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]
    assert not (tmp_path / "bundle" / "stray.bin").exists()


def test_a_bundle_from_before_these_fields_still_opens(tmp_path: Path) -> None:
    bundle = tiny.make_bundle(tmp_path / "bundle")
    document = json.loads((bundle.path / MANIFEST).read_text())
    for name in ("text_pair", "abstain_below", "abstain_rows", "max_abstain_ratio"):
        del document[name]
    (bundle.path / MANIFEST).write_text(json.dumps(document))
    rows = [json.loads(line) for line in bundle.file(GOLDEN).read_text().splitlines()]
    for row in rows:
        del row["text_pair"], row["vector"]
        GoldenRow.model_validate_json(json.dumps(row))
    opened = open_bundle(bundle.path)
    assert opened.manifest.abstain_below is None
    assert opened.manifest.text_pair is False
