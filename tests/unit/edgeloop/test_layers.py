"""The shape of the code: who imports whom, what ships, how long things may be, who prints."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = ("edgeloop", "finetune", "compress", "serve", "monitor")
HEAVY = {"torch", "transformers", "peft", "optimum", "scipy", "sklearn", "onnx", "onnxscript"}
HEAVY |= {"matplotlib"}
MOST_FILE_LINES = 400
MOST_FUNCTION_LINES = 80
# The latter two are processes of ours, whose lines another of ours reads.
PRINTERS = ("edgeloop/cli.py", "edgeloop/output.py", "edgeloop/estimating.py", "finetune/trials.py")

FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
NAMES = [path.relative_to(ROOT).as_posix() for path in FILES]


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def module(name: str) -> str:
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


# -- imports -----------------------------------------------------------------------------------


def test_the_import_contracts_are_kept() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]
    done = subprocess.run(
        [*command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    contracts = pyproject()["tool"]["importlinter"]["contracts"]
    assert f"Contracts: {len(contracts)} kept, 0 broken." in done.stdout


def test_every_module_of_the_trunk_has_its_layer() -> None:
    (layers,) = (
        contract["layers"]
        for contract in pyproject()["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
    )
    placed = {name.strip() for layer in layers for name in layer.replace("|", ":").split(":")}
    trunk = {
        ".".join(module(name).split(".")[:2]) for name in NAMES if name.startswith("edgeloop/")
    }
    assert trunk - {"edgeloop", "edgeloop.__main__"} - placed == set()


EDGE = [
    module(name)
    for name in NAMES
    if name.startswith(("serve/", "monitor/"))
    or name in ("edgeloop/bundle.py", "edgeloop/ledger.py", "edgeloop/runtime.py")
    or name in ("edgeloop/models.py", "edgeloop/linear.py", "edgeloop/cascade.py")
]


def test_the_edge_side_loads_without_the_training_side() -> None:
    script = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        "print(' '.join(sorted({name.split('.')[0] for name in sys.modules})))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *EDGE], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert {"edgeloop", "serve", "monitor", "numpy"} <= loaded
    assert loaded & HEAVY == set()


def test_the_command_line_starts_without_the_training_side() -> None:
    script = "import sys, edgeloop.cli; print(' '.join(n.split('.')[0] for n in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) & HEAVY == set()


# -- what ships --------------------------------------------------------------------------------


def test_the_wheel_holds_the_five_packages_and_says_that_they_are_typed() -> None:
    packages = pyproject()["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert sorted(packages) == sorted(PACKAGES)
    for name in packages:
        assert (ROOT / name / "__init__.py").read_text() == ""
        assert (ROOT / name / "py.typed").is_file()


def test_every_folder_with_code_is_a_package() -> None:
    folders = {path.parent for path in FILES}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_the_command_that_the_wheel_installs_is_there() -> None:
    target = pyproject()["project"]["scripts"]["edgeloop"]
    name, function = target.split(":")
    tree = ast.parse((ROOT / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8"))
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


# -- size and prints ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_not_too_long(name: str) -> None:
    assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) <= MOST_FILE_LINES


def nodes(name: str) -> Iterator[ast.AST]:
    return ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", NAMES)
def test_no_function_is_too_long(name: str) -> None:
    too_long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in nodes(name)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > MOST_FUNCTION_LINES
    ]
    assert too_long == []


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith(PRINTERS)])
def test_only_the_command_line_prints(name: str) -> None:
    prints = [
        node.lineno
        for node in nodes(name)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert prints == []
