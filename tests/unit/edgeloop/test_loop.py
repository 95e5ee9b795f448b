"""The loop around its stages: one process per run folder, what is remembered, what is said."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edgeloop import cli
from edgeloop.bundle import Bundle
from edgeloop.errors import DatasetError, EdgeloopError, RecipeError
from edgeloop.ledger import default_home, open_ledger
from edgeloop.loop import Run, run_loop
from edgeloop.recipe import Recipe, load_recipe
from edgeloop.rundir import RECORD_NAME, RunDir
from tests import certified, tiny

NO_BASE = "no-such-base.*there is no such folder"
FILES = "  files: [rows.csv]\n"
SPLIT_FILES = "  files: {train: [rows.csv], validation: [rows-1.csv], test: [rows-2.csv]}\n"


@pytest.fixture
def write_recipe(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a recipe over real rows; its base does not exist, so that nothing can be trained."""
    for i, name in enumerate(("rows", "rows-1", "rows-2")):
        tiny.write_rows(tmp_path / f"{name}.csv", tiny.sentences(60, seed=i), first_id=100 * i)

    def write(files: str) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(f"name: tiny\nbase: {tmp_path}/no-such-base\ndata:\n{files}")
        return path

    return write


@pytest.fixture
def recipe(write_recipe: Callable[[str], Path]) -> Recipe:
    return load_recipe(write_recipe(FILES))


def prepare(recipe: Recipe, on_start: Callable[[Run], None] | None = None) -> tuple[Run, str]:
    """The run up to its dataset, and what was said."""
    said: list[str] = []
    run = run_loop(recipe, default_home(), said.append, "dataset", on_start=on_start)
    return run, "\n".join(said)


def runs() -> list[Path]:
    return list(default_home().glob("runs/*"))


# -- one process at a time ---------------------------------------------------------------------


def test_a_run_folder_under_work_is_refused_and_free_afterwards(recipe: Recipe) -> None:
    def meanwhile(run: Run) -> None:
        said = f"another process is working in {run.folder.root};"
        with pytest.raises(EdgeloopError, match=said):
            prepare(recipe)

    run, said = prepare(recipe, meanwhile)
    assert said.startswith("dataset: done in")
    assert prepare(recipe)[0].folder.root == run.folder.root


def test_the_caller_hears_of_the_run_once_its_rows_are_good(recipe: Recipe, tmp_path: Path) -> None:
    started: list[str] = []
    run, _ = prepare(recipe, lambda r: started.append(r.id))
    assert started == [run.id]
    (tmp_path / "rows.csv").write_text("id,text,label\nr1,,billing\n")
    with pytest.raises(DatasetError):
        prepare(recipe, lambda r: started.append(r.id))
    assert started == [run.id]


def test_bad_rows_leave_no_folder_behind_and_the_lock_is_free(
    recipe: Recipe, tmp_path: Path
) -> None:
    good = (tmp_path / "rows.csv").read_bytes()
    (tmp_path / "rows.csv").write_text("id,text,label\nr1,,billing\n")
    for _ in range(2):
        with pytest.raises(DatasetError):
            prepare(recipe)
        assert runs() == []
    (tmp_path / "rows.csv").write_bytes(good)
    assert prepare(recipe)[0].dataset is not None


# -- what is done again ------------------------------------------------------------------------


def test_a_stage_is_complete_already_only_where_its_record_stayed(recipe: Recipe) -> None:
    run, said = prepare(recipe)
    assert said.startswith("dataset: done in")
    assert prepare(recipe)[1] == "dataset: complete already"
    (run.folder.folder("dataset") / RECORD_NAME).write_text("{}")
    assert prepare(recipe)[1].startswith("dataset: done in")


def certify(folder: RunDir, chosen: str | None) -> Path:
    """A certificate as the candidates stage leaves it."""
    path = folder.folder("candidates") / RECORD_NAME
    path.parent.mkdir()
    certified.certificate(chosen).write(path)
    return path


@pytest.mark.parametrize(("chosen", "kept"), [(None, False), ("onnx-fp32", True)])
def test_only_a_certificate_that_chose_none_is_measured_anew(
    recipe: Recipe, chosen: str | None, kept: bool
) -> None:
    certificate = certify(prepare(recipe)[0].folder, chosen)
    prepare(recipe)
    assert certificate.exists(), "a command that does not measure leaves it alone"
    with pytest.raises(EdgeloopError, match=NO_BASE):  # it ends before it measures
        run_loop(recipe, default_home(), lambda _: None, "candidates")
    assert certificate.parent.exists() == kept


# -- what is written ---------------------------------------------------------------------------


@pytest.mark.parametrize("files", [FILES, SPLIT_FILES])
def test_the_resolved_recipe_can_be_read_back(
    write_recipe: Callable[[str], Path], files: str
) -> None:
    recipe = load_recipe(write_recipe(files), ["serve.max_tokens=64"])
    run, _ = prepare(recipe)
    data = (run.folder.root / "recipe.json").read_bytes()
    assert Recipe.model_validate_json(data) == recipe
    assert Recipe.model_validate_json(data).digest() == recipe.digest()


def test_a_run_that_fails_is_in_the_ledger_as_begun(write_recipe: Callable[[str], Path]) -> None:
    path = write_recipe(FILES)
    for _ in range(2):
        with pytest.raises(EdgeloopError, match=NO_BASE):
            cli._run(path, [], "bundle", as_json=False)
    (entry,) = open_ledger(default_home()).runs("tiny")
    (folder,) = runs()
    assert (entry.id, entry.path) == (folder.name, str(folder))
    assert (entry.trigger, entry.finished_at) == ("edgeloop run", None)


def test_a_part_of_the_loop_is_no_run_in_the_ledger(write_recipe: Callable[[str], Path]) -> None:
    with pytest.raises(EdgeloopError, match=NO_BASE):
        cli._run(write_recipe(FILES), [], "adapter", as_json=False)
    assert open_ledger(default_home()).runs("tiny") == []


def test_the_end_of_a_run_is_noted_once_and_its_bundle_is_deployed(
    recipe: Recipe, tiny_bundle: Bundle
) -> None:
    ledger = open_ledger(default_home())
    run, _ = prepare(
        recipe, lambda r: ledger.start_run(r.id, "tiny", "edgeloop run", r.folder.root, "digest")
    )
    run.bundle = tiny_bundle
    document: dict[str, object] = {}
    cli._note_run(ledger, recipe, run, document)
    assert document == {"deployed": tiny_bundle.digest}
    (entry,) = ledger.runs("tiny")
    assert entry.result == "built"
    assert entry.dataset_digest == "digest"
    cli._note_run(ledger, recipe, run, document)
    assert ledger.runs("tiny") == [entry], "a repeated complete run changes nothing"
    assert len(ledger.deployments("tiny")) == 1


# -- the method --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["prefix", "prompt"])
def test_a_method_that_cannot_ship_is_refused_before_anything_is_done(
    recipe: Recipe, method: str
) -> None:
    finetune = recipe.finetune.model_copy(update={"method": method})
    soft = recipe.model_copy(update={"finetune": finetune})
    said: list[str] = []
    with pytest.raises(RecipeError, match=f"finetune.method {method}: .* use finetune.method lora"):
        run_loop(soft, default_home(), said.append)
    assert runs() == []
    # On its own it may be trained, once that was said.
    run_loop(soft, default_home(), said.append, "dataset")
    assert said[0].startswith(f"warning: finetune.method {method}: ")


def test_a_section_for_another_method_is_warned_of(
    write_recipe: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write_recipe(FILES)
    path.write_text(path.read_text() + "finetune: {method: full, lora: {r: 8}}\n")
    warned = "warning: finetune.lora is set, but finetune.method full does not read it"
    _, said = prepare(load_recipe(path))
    assert said.startswith(warned)
    monkeypatch.setattr("sys.argv", ["edgeloop", "check", str(path)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    assert capsys.readouterr().err.count(warned) == 1


def test_a_package_of_an_extra_is_named_with_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing() -> None:
        raise ModuleNotFoundError("No module named 'bitsandbytes'", name="bitsandbytes")

    monkeypatch.setattr(cli, "app", missing)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == cli.EXIT_ERROR
    assert "pip install 'edgeloop[qlora]'" in capsys.readouterr().err
