"""One digest for the code: the same for the same files, another for any change of them."""

import shutil
from pathlib import Path

import pytest

from edgeloop.codebase import PACKAGES, ROOT, code_digest


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package)
    return tmp_path


def test_a_copy_elsewhere_has_the_same_digest(copy: Path) -> None:
    shutil.rmtree(copy / "edgeloop" / "__pycache__", ignore_errors=True)
    (copy / "serve" / "notes.txt").write_text("no code")
    (copy / "tests").mkdir()
    (copy / "tests" / "test_x.py").write_text("no part of it")
    assert code_digest(copy) == code_digest()


def test_a_changed_a_new_and_a_renamed_file_are_other_code(copy: Path) -> None:
    found = {code_digest(copy)}
    errors = copy / "edgeloop" / "errors.py"
    errors.write_text(errors.read_text() + "# changed\n")
    found.add(code_digest(copy))
    (copy / "monitor" / "new.py").write_text("")
    found.add(code_digest(copy))
    (copy / "monitor" / "new.py").rename(copy / "monitor" / "newer.py")
    found.add(code_digest(copy))
    assert len(found) == 4
