"""The commands. The only place for exit codes, logging set-up and printed errors.

Results go to standard output (`--json` for machines), everything else to standard error.
Exit codes: 0 done, 1 error, 2 bad input (usage, recipe, rows, bundle, port), 3 a gate failed, the
budget is infeasible or the new model has forgotten too much, 130 interrupted (SIGINT).
Heavy stages are imported inside their command: `edgeloop serve` never loads torch.
"""

import dataclasses
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from edgeloop import log, show, show_run
from edgeloop.cli_bundle import PublicKey, bundle_app
from edgeloop.cli_capture import capture_app
from edgeloop.cli_keys import keys_app
from edgeloop.cli_monitor import monitor_app
from edgeloop.errors import BundleError, DatasetError, EdgeloopError, LedgerError, RecipeError
from edgeloop.ledger import Ledger, RunResult, default_home, open_ledger
from edgeloop.output import AsJson, emit, say
from edgeloop.recipe import Recipe, load_recipe

EXIT_ERROR, EXIT_USAGE, EXIT_GATE = 1, 2, 3
EXIT_INTERRUPTED = 130  # what a shell reports for SIGINT, and what typer makes of it
# The extra that a package belongs to, where it is not among those that every training needs.
EXTRAS = {"bitsandbytes": "qlora"}
INTERRUPTED = "interrupted; the same command goes on where it stopped"

app = typer.Typer(
    name="edgeloop",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Keep a small fine-tuned model right on an edge box.",
)
app.add_typer(bundle_app, name="bundle")
app.add_typer(keys_app, name="keys")
app.add_typer(capture_app, name="capture")
app.add_typer(monitor_app, name="monitor")

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe, a YAML file.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe key.")
]
ModelName = Annotated[str, typer.Argument(metavar="NAME", help="The recipe's name.")]


def main() -> NoReturn:
    """Run the command line; errors that a user can mend are printed without a traceback."""
    try:
        app()
    except SystemExit as ended:  # typer ends with it, after an interrupt as well
        if ended.code != EXIT_INTERRUPTED:
            raise
        code = _complain(INTERRUPTED, EXIT_INTERRUPTED)
    except (RecipeError, DatasetError, BundleError) as problem:
        code = _complain(problem, EXIT_USAGE)
    except EdgeloopError as problem:
        code = _complain(problem, EXIT_ERROR)
    except KeyboardInterrupt:
        code = _complain(INTERRUPTED, EXIT_INTERRUPTED)
    except ModuleNotFoundError as problem:
        code = _complain(
            f"the Python package {problem.name} is not installed; this command needs: "
            f"pip install 'edgeloop[{EXTRAS.get(problem.name or '', 'cpu,train')}]'",
            EXIT_ERROR,
        )
    except OSError as problem:
        code = _complain(problem, EXIT_ERROR)
    sys.exit(code)


def _complain(problem: object, code: int) -> int:
    print(f"edgeloop: {problem}", file=sys.stderr)
    return code


def _ledger() -> Ledger:
    return open_ledger(default_home(), os.environ.get("EDGELOOP_LEDGER"))


def _existing_ledger() -> Ledger:
    """The ledger for commands that read it; looking must not make an empty home."""
    home = default_home()
    if not os.environ.get("EDGELOOP_LEDGER") and not (home / "ledger.db").is_file():
        raise LedgerError(
            f"{home}: there is no ledger; set EDGELOOP_HOME to the home that `edgeloop run` used, "
            "or run it with a recipe first"
        )
    return _ledger()


@app.callback()
def _settings(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    log.configure(verbose)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where to write recipe.yaml.")] = Path(),
    task: Annotated[str, typer.Option(help="What the model is to do.")] = "text-classification",
) -> None:
    """Write a commented recipe to start from; nothing is overwritten."""
    from edgeloop.template import write_recipe

    print(write_recipe(folder, task))


@app.command()
def check(
    recipe: RecipePath,
    overrides: Overrides = None,
    fix: Annotated[
        bool, typer.Option("--fix", help="Write cleaned copies of the rows beside the recipe.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Validate the recipe, audit its rows, and print both as they were understood."""
    from finetune.audit import FOLDER, audit_rows, fix_rows, refuse_folder
    from finetune.dataset import load, summarise

    loaded = load_recipe(recipe, overrides or [])
    for remark in loaded.finetune.remarks():
        say(f"warning: {remark}")
    if fix:
        refuse_folder(recipe.parent / FOLDER)  # before the audit, which takes its time
    rows = load(loaded)
    found = audit_rows(rows.splits, loaded)
    document = {
        "recipe": loaded.model_dump(mode="json"),
        **show.audit_document(summarise(rows)),
        "findings": [dataclasses.asdict(finding) for finding in found],
    }
    if fix:
        document["fixed"] = show.fixed_document(fix_rows(rows.splits, loaded, found, recipe.parent))
    emit(document, as_json, show.check)
    if any(finding.severity == "error" for finding in found):
        raise typer.Exit(EXIT_USAGE)


@app.command()
def estimate(recipe: RecipePath, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Memory, time and disk before running: full, LoRA and QLoRA side by side."""
    from edgeloop.estimating import estimate as estimate_methods

    loaded = load_recipe(recipe, overrides or [])
    found = estimate_methods(loaded, say)
    emit(found.model_dump(mode="json"), as_json, show_run.estimate)


def _run(
    recipe: Path,
    overrides: list[str] | None,
    until: str,
    as_json: bool,
    with_baselines: bool = False,
) -> None:
    from edgeloop.loop import Run, run_loop
    from edgeloop.previous import deployed_bundle

    loaded = load_recipe(recipe, overrides or [])
    ledger, whole = _ledger(), until == "bundle"

    def note(run: Run) -> None:
        assert run.dataset is not None
        root = run.folder.root
        ledger.start_run(run.id, loaded.name, "edgeloop run", root, run.dataset.digest)

    run = run_loop(
        loaded,
        default_home(),
        say,
        until,
        on_start=note if whole else None,
        previous=deployed_bundle(ledger, loaded.name, say),
        with_baselines=with_baselines,
    )
    document = show.run_document(run)
    if whole:
        _note_run(ledger, loaded, run, document)
    emit(document, as_json, show.run)
    if run.stopped:
        raise typer.Exit(EXIT_GATE)


def _note_run(ledger: Ledger, recipe: Recipe, run: Any, document: dict[str, Any]) -> None:
    """Write the run's end into the ledger; its bundle is deployed where no good one is."""
    from edgeloop.ship import deploy

    result = RunResult(run.id, run.result, {})
    if run.bundle is None:
        ledger.finish_run(result)
        deployed = ledger.deployed(recipe.name)
    else:
        deployed = deploy(ledger, recipe.name, run.bundle, result)
    document["deployed"] = None if deployed is None else deployed.bundle_digest


@app.command()
def run(
    recipe: RecipePath,
    baselines: Annotated[
        bool, typer.Option(help="Measure simpler models beside it: is fine-tuning worth it?")
    ] = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Rows to bundle: fine-tune, merge with proof, compress under the budget, ship."""
    _run(recipe, overrides, "bundle", as_json, baselines)


@app.command()
def finetune(recipe: RecipePath, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Only train the adapter (run goes on from there)."""
    _run(recipe, overrides, "adapter", as_json)


@app.command()
def merge(recipe: RecipePath, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Train where needed, merge the adapter into the base and prove it."""
    _run(recipe, overrides, "merged", as_json)


@app.command()
def compress(
    source: Annotated[
        Path, typer.Argument(metavar="RECIPE|FOLDER", help="A recipe, or a Hugging Face encoder.")
    ],
    data: Annotated[
        list[Path] | None, typer.Option(help="Of a FOLDER: labelled rows, csv, jsonl or parquet.")
    ] = None,
    task: Annotated[str, typer.Option(help="Of a FOLDER.")] = "text-classification",
    budget: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Short for compress.budget.KEY.")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Of a FOLDER: where the chosen model goes, with its certificate.")
    ] = Path("compressed"),
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Make and measure the candidates, choose and certify one under the budget. Of a RECIPE, train
    and merge first where needed; of a FOLDER that holds any Hugging Face encoder, take it as it is.
    """
    settings = [*(overrides or []), *(f"compress.budget.{entry}" for entry in budget or [])]
    if not source.is_dir():
        if data:
            raise typer.BadParameter("--data goes with a FOLDER; a recipe names its own rows")
        _run(source, settings, "candidates", as_json)
        return
    from edgeloop.compressing import compress_folder, recipe_for

    recipe = recipe_for(source, data or [], task, settings)
    done = compress_folder(source, recipe, default_home(), out, say)
    document = done.certificate.model_dump(mode="json", exclude={"files", "inputs_digest"})
    document["out"] = None if done.out is None else str(done.out)
    emit(document, as_json, show.compressed)
    if done.out is None:
        raise typer.Exit(EXIT_GATE)


@app.command()
def serve(
    bundle: Annotated[Path | None, typer.Argument(help="Serve this folder.")] = None,
    follow: Annotated[
        str | None, typer.Option(metavar="NAME", help="Serve what the ledger says is deployed.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free one.")] = 8080,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads; default: cores.")] = None,
    config: Annotated[Path | None, typer.Option(help="serve.yaml; docs/serve.md.")] = None,
    require_signature: PublicKey = None,
) -> None:
    """Serve a bundle over HTTP, watching its traffic for drift."""
    if (bundle is None) == (follow is None):
        raise typer.BadParameter("name either a BUNDLE folder or --follow NAME")
    from edgeloop.serving import serve_bundle

    ledger = _existing_ledger() if follow is not None else None
    key, home = require_signature, default_home()
    code = serve_bundle(bundle, follow, host, port, workers, ledger, key, config, home)
    raise typer.Exit(code)


@app.command()
def label(
    recipe: RecipePath,
    answers: Annotated[Path, typer.Option(help="csv, jsonl or parquet with id, text, label.")],
    sample: Annotated[
        int | None, typer.Option(min=1, help="Rows to take; default: labels_per_round.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the uniform sample.")] = 0,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Store a uniform sample of a file's labelled rows; rows that are known are not drawn."""
    from edgeloop.labelling import store_sample

    loaded = load_recipe(recipe, overrides or [])
    count = sample or loaded.retrain.labels_per_round
    document = store_sample(_ledger(), loaded, answers, count, seed)
    emit(document, as_json, show.labelled)


@app.command()
def retrain(
    recipe: RecipePath,
    overrides: Overrides = None,
    explain: Annotated[bool, typer.Option(help="Print the decision, do nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Decide whether retraining is worth it and, if so, train, gate and promote."""
    from edgeloop.retrain import explain as explain_decision
    from edgeloop.retrain import retrain as retrain_model

    loaded, ledger = load_recipe(recipe, overrides or []), _ledger()
    if explain:
        decision = explain_decision(loaded, ledger)
        emit({"decision": decision.model_dump(mode="json")}, as_json, show.retrained)
        return
    outcome = retrain_model(loaded, default_home(), ledger, say)
    emit(outcome.document(), as_json, show.retrained)
    if outcome.refused:
        raise typer.Exit(EXIT_GATE)


@app.command()
def rollback(model: ModelName, as_json: AsJson = False) -> None:
    """Deploy the bundle that was deployed before; a running server follows."""
    from edgeloop.rollback import roll_back

    deployed = roll_back(_existing_ledger(), model)
    document = {"model": model, "deployed": deployed.bundle_digest, "path": str(deployed.path)}
    emit(document, as_json, show.rolled_back)


@app.command()
def history(model: ModelName, as_json: AsJson = False) -> None:
    """Runs, deployments, alarms and decisions of a model, oldest first."""
    document = show.history_document(_existing_ledger(), model)
    if not any(document[kind] for kind in show.EVENTS):
        raise LedgerError(
            f"the ledger knows nothing of {model}; check the name (the recipe's `name`) and "
            f"EDGELOOP_HOME (now {default_home()})"
        )
    emit(document, as_json, show.history)


@app.command()
def report(
    model: ModelName,
    out: Annotated[Path, typer.Option(help="The HTML file.")] = Path("report.html"),
    replay: Annotated[
        list[Path] | None, typer.Option(help="A result of monitor replay --json.")
    ] = None,
    summary: Annotated[
        Path | None, typer.Option(help="JSON object of figures for the first table.")
    ] = None,
) -> None:
    """Write one self-contained HTML file about a model."""
    from edgeloop.report import Inputs, read_replay, read_summary, write_report

    inputs = Inputs(
        [read_replay(path) for path in replay or []],
        read_summary(summary) if summary is not None else {},
    )
    print(write_report(_existing_ledger(), model, inputs, out))
