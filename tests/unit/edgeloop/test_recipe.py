"""The recipe: what loads, what is refused and in which words."""

import ast
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from compress.budget import CHECKS
from edgeloop.errors import RecipeError
from edgeloop.recipe import Recipe, SplitFiles, load_recipe

ROOT = Path(__file__).parents[3]
PACKAGES = ("edgeloop", "finetune", "compress", "serve", "monitor")

# The recipe of the design document. What this version does not make yet is tested below.
DESIGN = """\
name: support-tickets
task: text-classification      # token-classification | text-generation | text-embedding
base: sentence-transformers/all-MiniLM-L6-v2   # hub id, local folder, or package:NAME/SUBFOLDER
data:
  files: [data/tickets.csv]    # csv, jsonl, parquet; columns named below
  columns: {text: text, label: label}
  split: {train: 0.8, validation: 0.1, test: 0.1, stratify: true, group: null, time: null}
finetune:
  method: lora                 # full | lora | qlora | adapter | ia3 | prefix | prompt | head
  lora: {r: 16, lora_alpha: 32, lora_dropout: 0.05, target_modules: all-linear, use_dora: false, use_rslora: false}
  training: {num_train_epochs: 6, learning_rate: 1.0e-3, seed: 0, early_stopping_patience: 2}
compress:
  candidates: auto             # or a list
  budget: {latency_p95_ms: 5, size_mb: 30, rss_mb: 200, max_accuracy_drop: 0.01, confidence: 0.95}
serve: {max_tokens: 128, deadline_ms: 1000}
monitor:
  target_run_length: 20000     # observations between false alarms, at least
  accuracy_floor: 0.85
retrain:
  schedule: "0 3 * * 0"        # cron; null for drift-driven only
  cooldown_hours: 6
  labels_per_round: 200
"""  # noqa: E501
MINIMAL = "name: tiny\nbase: some/model\ndata: {files: [rows.csv]}\n"
HEAD = "name: tiny\nbase: some/model\n"


def load(folder: Path, text: str, *overrides: str) -> Recipe:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return load_recipe(path, overrides)


def complaint(folder: Path, text: str, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load(folder, text, *overrides)
    return str(caught.value).replace(f"{folder}/", "")


def test_the_recipe_of_the_design_loads(tmp_path: Path) -> None:
    recipe = load(tmp_path, DESIGN)
    assert recipe.finetune.training.learning_rate == 1e-3
    assert recipe.compress.budget.latency_p95_ms == 5
    assert recipe.retrain.schedule == "0 3 * * 0"
    assert recipe.data.files == (tmp_path / "data/tickets.csv",)


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("examples/*/recipe.yaml")), ids=lambda p: p.parent.name
)
def test_every_example_loads_and_its_files_are_there(path: Path) -> None:
    files = load_recipe(path).data.files
    paths = [p for _, ps in files for p in ps or ()] if isinstance(files, SplitFiles) else files
    assert paths
    assert [p for p in paths if not p.is_file()] == []


def test_there_is_an_example() -> None:
    assert list(ROOT.glob("examples/*/recipe.yaml"))


# -- bad input ---------------------------------------------------------------------------------

BAD_SECTIONS = [
    (
        "finetune: {lora: {lora_dropot: 0.1}}",
        "finetune.lora.lora_dropot",
        "unknown key (did you mean lora_dropout?)",
    ),
    (
        "finetune: {lora: {dropot: 0.1}}",
        "finetune.lora.dropot",
        "unknown key (did you mean lora_dropout?)",
    ),
    (
        "serve: {zzz: 1}",
        "serve.zzz",
        "unknown key (known keys: max_tokens, deadline_ms, max_abstain_ratio)",
    ),
    ("monitr: {}", "monitr", "unknown key (did you mean monitor?)"),
    (
        "finetune: {training: {num_train_epochs: '6'}}",
        "finetune.training.num_train_epochs",
        "'6' is text, a number is needed (remove the quotes)",
    ),
    (
        "finetune: {training: {learning_rate: '1e-3'}}",
        "finetune.training.learning_rate",
        "'1e-3' is text, a number is needed (remove the quotes)",
    ),
    (
        "finetune: {training: {num_train_epochs: 6.5}}",
        "finetune.training.num_train_epochs",
        "Input should be a valid integer, it is 6.5",
    ),
    (
        "finetune: {training: {num_train_epochs: true}}",
        "finetune.training.num_train_epochs",
        "Input should be a valid integer, it is true",
    ),
    (
        "finetune: {training: {learning_rate: true}}",
        "finetune.training.learning_rate",
        "Input should be a valid number, it is true",
    ),
    (
        "finetune: {training: {learning_rate: .nan}}",
        "finetune.training.learning_rate",
        "Input should be a finite number, it is nan",
    ),
    (
        "finetune: {training: {learning_rate: .inf}}",
        "finetune.training.learning_rate",
        "Input should be a finite number, it is inf",
    ),
    (
        "finetune: {training: {learning_rate: 1e400}}",
        "finetune.training.learning_rate",
        "Input should be a finite number, it is inf",
    ),
    (
        "finetune: {training: {learning_rate: 0}}",
        "finetune.training.learning_rate",
        "Input should be greater than 0, it is 0",
    ),
    (
        "finetune: {training: {seed: -1}}",
        "finetune.training.seed",
        "Input should be greater than or equal to 0, it is -1",
    ),
    (
        "finetune: {lora: {use_dora: no}}",
        "finetune.lora.use_dora",
        "Input should be a valid boolean, it is 'no'",
    ),
    (
        "finetune: {lora: {use_dora: 1}}",
        "finetune.lora.use_dora",
        "Input should be a valid boolean, it is 1",
    ),
    (
        "finetune: {lora: {target_modules: query}}",
        "finetune.lora.target_modules",
        "Input should be 'all-linear', it is 'query', or write a list such as [a, b]",
    ),
    ("finetune: {lora: {target_modules: []}}", "finetune.lora.target_modules", ""),
    ("finetune:", "finetune", "keys are needed below it, it is empty"),
    ("finetune: [lora]", "finetune", "keys are needed below it, it is ['lora']"),
    ("finetune: {method: lorra}", "finetune.method", "Input should be 'lora', 'qlora', 'full',"),
    (
        "task: text-generation",
        "task",
        "Input should be 'text-classification', 'multi-label-classification',",
    ),
    (
        "compress: {candidates: [onnx-fp32, onnx-int9]}",
        "compress.candidates.1",
        "'onnx-int9' is unknown (did you mean onnx-int8?); known: onnx-fp32, onnx-int8,",
    ),
    (
        "compress: {candidates: onnx-int8}",
        "compress.candidates",
        "Input should be 'auto', it is 'onnx-int8', or write a list such as [a, b]",
    ),
    (
        "compress: {candidates: []}",
        "compress",
        "candidates is empty; write auto or name at least one",
    ),
    (
        "compress: {candidates: [onnx-int8, onnx-int8]}",
        "compress",
        "candidates names one of them twice",
    ),
    (
        "compress: {budget: {confidence: 1}}",
        "compress.budget.confidence",
        "Input should be less than 1, it is 1",
    ),
    (
        "retrain: {schedule: every night}",
        "retrain.schedule",
        "'every night' is not a cron expression",
    ),
    (
        "retrain: {schedule: 99 3 * * 0}",
        "retrain.schedule",
        "'99 3 * * 0' is not a cron expression (Bad minute)",
    ),
    ("retrain: {schedule: 0 3 * *}", "retrain.schedule", "'0 3 * *' is not a cron expression"),
    ("retrain: {schedule: 0 3 30 2 *}", "retrain.schedule", "'0 3 30 2 *' "),
    ("retrain: {schedule: 5}", "retrain.schedule", "Input should be a valid string, it is 5"),
]


@pytest.mark.parametrize(("section", "key", "said"), BAD_SECTIONS)
def test_a_bad_section_is_refused_by_file_and_key(
    tmp_path: Path, section: str, key: str, said: str
) -> None:
    text = complaint(tmp_path, f"{MINIMAL}{section}\n")
    assert text.startswith(f"recipe.yaml: {key}: {said}")
    assert "\n" not in text


BAD_DATA = [
    (
        "{files: rows.csv}",
        "data.files",
        "write a list of files, or train, validation, reference and test, not 'rows.csv'",
    ),
    (
        "{files: null}",
        "data.files",
        "write a list of files, or train, validation, reference and test, not empty",
    ),
    ("{files: []}", "data", "files is empty; name at least one csv, jsonl or parquet file"),
    ("{files: [3]}", "data.files.0", "Input should be a valid string, it is 3"),
    (
        "{files: {train: a, validation: [b], test: [c]}}",
        "data.files.train",
        "write a list such as [a, b], not 'a'",
    ),
    ("{files: {train: [a], validation: [b], test: []}}", "data.files.test", ""),
    (
        "{files: {train: [a], validation: [b]}}",
        "data.files.test",
        "is missing; it must be set",
    ),
    (
        "{files: {train: [a], validation: [b], test: [c], tets: [d]}}",
        "data.files.tets",
        "unknown key (did you mean test?)",
    ),
    (
        "{files: {train: [a], validation: [b], test: [c]}, split: {train: 0.8}}",
        "data",
        "files are split already (files.train ...); remove data.split",
    ),
    (
        "{files: [a], split: {train: 0.8, validation: 0.3, test: 0.1}}",
        "data.split",
        "the shares of train, validation, test sum to 1.2, not to 1",
    ),
    (
        "{files: [a], split: {train: 0.8, validation: 0.1, test: 0.1, reference: 0.1}}",
        "data.split",
        "the shares of train, validation, test, reference sum to 1.1, not to 1",
    ),
    (
        "{files: [a], split: {train: 0.9, validation: 0.1, test: 0}}",
        "data.split.test",
        "Input should be greater than 0, it is 0",
    ),
    (
        "{files: [a], split: {group: user, time: day}}",
        "data.split",
        "group and time cannot both decide the split; set one to null",
    ),
    ("{files: [a], columns: {txt: body}}", "data.columns.txt", "unknown key (did you mean text?)"),
    ("", "data", "keys are needed below it, it is empty"),
]


@pytest.mark.parametrize(("data", "key", "said"), BAD_DATA)
def test_impossible_data_is_refused(tmp_path: Path, data: str, key: str, said: str) -> None:
    text = complaint(tmp_path, f"{HEAD}data: {data}\n")
    assert text.startswith(f"recipe.yaml: {key}: {said}")


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    said = complaint(
        tmp_path,
        "base: ''\ndata: {files: [a], split: {train: 2}}\nserv: {}\n"
        "finetune: {lora: {r: '8', dropot: 1}, training: {learning_rate: -1}}\n",
    )
    assert [line.split(": ")[1] for line in said.splitlines()] == [
        "base",
        "data.split.train",
        "finetune.lora.dropot",
        "finetune.lora.r",
        "finetune.training.learning_rate",
        "name",
        "serv",
    ]


@pytest.mark.parametrize("name", ["Tiny", "-tiny", "a b", "a/b", "", "a" * 64, "tiny\\n"])
def test_a_name_that_cannot_be_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    said = complaint(tmp_path, f'name: "{name}"\nbase: b\ndata: {{files: [a]}}\n')
    assert said.startswith("recipe.yaml: name: String should match pattern")


def test_a_long_value_is_cut_in_the_message(tmp_path: Path) -> None:
    said = complaint(tmp_path, f"{MINIMAL}task: {'x' * 100_000}\n")
    assert len(said) < 300


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "a recipe is a mapping of keys, this is empty"),
        (b"# nothing\n", "a recipe is a mapping of keys, this is empty"),
        (b"- a\n- b\n", "a recipe is a mapping of keys, this is a list"),
        (b"just words\n", "a recipe is a mapping of keys, this is text"),
        (b"3\n", "a recipe is a mapping of keys, this is a int"),
        (b"name: \xff\n", "cannot be read as UTF-8 text"),
        (b"name: [tiny\n", "while parsing a flow sequence"),
        (b"name: a\x07b\n", "unacceptable character"),
        (b"name: a\nbase: b\nname: c\n", "line 3: the key name stands here a second time"),
        (b"name: !!set {a}\n", "a value cannot be read"),
        (b"serve: &x {max_tokens: *x}\n", "a value cannot be read"),
        (b"[" * 5000, "the lists and mappings are nested too deeply"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=said) as caught:
        load_recipe(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such recipe; `edgeloop init` writes one"):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path)


# -- values ------------------------------------------------------------------------------------


def test_a_float_may_be_written_as_an_integer_and_keeps_its_value(tmp_path: Path) -> None:
    budget = load(tmp_path, f"{MINIMAL}compress: {{budget: {{size_mb: 30}}}}\n").compress.budget
    assert budget.size_mb == 30.0
    assert budget.rss_mb is None


@given(st.floats(1e-300, 1e300))
def test_a_number_reaches_the_recipe_unchanged(
    tmp_path_factory: pytest.TempPathFactory, rate: float
) -> None:
    folder = tmp_path_factory.mktemp("recipe")
    recipe = load(folder, MINIMAL, f"finetune.training.learning_rate={rate!r}")
    assert recipe.finetune.training.learning_rate == rate


def test_a_byte_order_mark_is_no_part_of_the_recipe(tmp_path: Path) -> None:
    assert load(tmp_path, f"\ufeff{MINIMAL}").name == "tiny"


def test_shares_name_the_reference_only_where_it_has_its_own(tmp_path: Path) -> None:
    split = load(tmp_path, MINIMAL).data.split
    assert split.shares() == {"train": 0.8, "validation": 0.1, "test": 0.1}
    data = "{files: [a], split: {train: 0.7, validation: 0.1, reference: 0.1, test: 0.1}}"
    own = load(tmp_path, f"{HEAD}data: {data}\n").data.split
    assert own.shares()["reference"] == 0.1
    assert math.isclose(sum(own.shares().values()), 1.0)


def test_relative_paths_are_taken_from_the_recipes_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "project"
    (folder / "weights").mkdir(parents=True)
    absolute = tmp_path / "elsewhere" / "test.csv"
    text = (
        "name: tiny\nbase: weights\n"
        f"data: {{files: {{train: [t.csv, ../u.csv], validation: [v.csv], test: [{absolute}]}}}}\n"
    )
    (folder / "recipe.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(Path("project/recipe.yaml"))
    assert recipe.base == str(folder / "weights")
    assert recipe.data.files == SplitFiles(
        train=(folder / "t.csv", tmp_path / "u.csv"),
        validation=(folder / "v.csv",),
        test=(absolute,),
    )


@pytest.mark.parametrize("base", ["org/model", "package:some_package/model"])
def test_a_base_that_is_no_folder_stays_as_written(tmp_path: Path, base: str) -> None:
    assert load(tmp_path, MINIMAL.replace("some/model", base)).base == base


# -- overrides ---------------------------------------------------------------------------------


def test_overrides_apply_in_order_at_any_depth(tmp_path: Path) -> None:
    recipe = load(
        tmp_path,
        f"{MINIMAL}finetune: {{lora: {{r: 4, lora_alpha: 8}}}}\n",
        "finetune.lora.r=8",
        "finetune.training.learning_rate=1e-4",
        "retrain.schedule=0 3 * * 0",
        "compress.candidates=[onnx-int8]",
        "serve={max_tokens: 64}",
        "finetune.lora.r=2",
    )
    assert (recipe.finetune.lora.r, recipe.finetune.lora.lora_alpha) == (2, 8)
    assert recipe.finetune.training.learning_rate == 1e-4
    assert recipe.retrain.schedule == "0 3 * * 0"
    assert recipe.compress.candidates == ("onnx-int8",)
    assert recipe.serve.max_tokens == 64


def test_an_override_changes_one_place_of_an_anchor(tmp_path: Path) -> None:
    data = "data: {files: {train: &f [a.csv], validation: *f, test: *f}}\n"
    recipe = load(tmp_path, HEAD + data, "data.files.test=[b.csv]")
    assert isinstance(recipe.data.files, SplitFiles)
    assert recipe.data.files.validation == (tmp_path / "a.csv",)
    assert recipe.data.files.test == (tmp_path / "b.csv",)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("finetune.lora", "--set finetune.lora: write --set key.subkey=value"),
        ("=3", "--set =3: write --set key.subkey=value"),
        ("finetune..r=3", "--set finetune..r=3: write --set key.subkey=value"),
        (".r=3", "--set .r=3: write"),
        ("r.=3", "--set r.=3: write"),
        ("name.x=3", "--set name.x=3: name is text, it has no keys"),
        ("data.files.0=x", "--set data.files.0=x: files is a list, it has no keys"),
        ("finetune.lora.r=[", "--set finetune.lora.r=[: while parsing"),
        ("serve={a: 1, a: 2}", "--set serve={a: 1, a: 2}: line 1: the key a stands here"),
        ("nme=3", "recipe.yaml: nme: unknown key (did you mean name?)"),
        ("finetune.lora.r=x", "recipe.yaml: finetune.lora.r: 'x' is text, a number is needed"),
        (
            "serve.max_tokens=",
            "recipe.yaml: serve.max_tokens: Input should be a valid integer, it is empty",
        ),
        ("name={a: 1}", "recipe.yaml: name: Input should be a valid string, it is a mapping"),
    ],
)
def test_a_bad_override_is_refused(tmp_path: Path, override: str, said: str) -> None:
    assert complaint(tmp_path, MINIMAL, override).startswith(said)


# -- digest ------------------------------------------------------------------------------------


def test_the_digest_ignores_how_the_recipe_is_written(tmp_path: Path) -> None:
    digest = load(tmp_path, MINIMAL).digest()
    assert len(digest) == 64
    reordered = "data: {files: [rows.csv]}\n\n# a comment\nbase: 'some/model'\nname: tiny\n"
    assert load(tmp_path, reordered).digest() == digest
    assert load(tmp_path, f"{MINIMAL}serve: {{max_tokens: 128}}\n").digest() == digest


@pytest.mark.parametrize(
    "override",
    [
        "name=other",
        "finetune.lora.r=8",
        "serve.max_tokens=64",
        "data.files=[b.csv]",
        "monitor.accuracy_floor=0.5",
        "retrain.schedule=0 3 * * 0",
        "compress.budget.size_mb=3",
    ],
)
def test_the_digest_changes_with_every_value(tmp_path: Path, override: str) -> None:
    assert load(tmp_path, MINIMAL, override).digest() != load(tmp_path, MINIMAL).digest()


# -- no option that nothing reads --------------------------------------------------------------


def _leaves(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        annotation: Any = field.annotation
        members = [a for a in (annotation, *get_args(annotation)) if isinstance(a, type)]
        sections = [m for m in members if issubclass(m, BaseModel)]
        for section in sections:
            yield from _leaves(section)
        if not sections:
            yield name


def _is_check(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef) and any(
        isinstance(d, ast.Call) and ast.unparse(d.func).endswith("_validator")
        for d in node.decorator_list
    )


def _attributes_read(node: ast.AST) -> Iterator[str]:
    """What the code below the node reads; the recipe's own checks do not count."""
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
        yield node.attr
    for child in ast.iter_child_nodes(node):
        if not _is_check(child):
            yield from _attributes_read(child)


def test_every_field_of_the_recipe_is_read_somewhere() -> None:
    leaves = set(_leaves(Recipe))
    assert {"lora_dropout", "stratify", "reference", "schedule"} <= leaves
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in files]
    read = {attribute for tree in trees for attribute in _attributes_read(tree)}
    read |= set(CHECKS)  # where each of the budget's limits is looked up by its key
    assert sorted(leaves - read) == []
