"""The commands for drift; `edgeloop.cli` has their exit codes."""

from pathlib import Path
from typing import Annotated

import typer

from edgeloop import show, show_monitor
from edgeloop.output import AsJson, emit, say

monitor_app = typer.Typer(no_args_is_help=True, help="Drift: try traffic on a model.")

BundlePath = Annotated[Path | None, typer.Option(help="The bundle whose detector it is.")]


@monitor_app.command("replay")
def monitor_replay(
    file: Annotated[
        Path,
        typer.Argument(help="Texts (csv, jsonl, parquet), captured rows, or scores (npz)."),
    ],
    url: Annotated[str | None, typer.Option(help="Send the texts to a running server.")] = None,
    bundle: BundlePath = None,
    stop_at_alarm: Annotated[bool, typer.Option(help="No further than an alarm.")] = False,
    restart: Annotated[
        bool, typer.Option(help="Begin anew after an alarm and count them all.")
    ] = False,
    target_run_length: Annotated[
        int | None,
        typer.Option(min=2, help="Try the threshold for another interval between false alarms."),
    ] = None,
    scores: Annotated[
        Path | None, typer.Option(help="Keep the embeddings and probabilities here (npz).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a file of traffic past the drift alarm and say whether, when and why it fires."""
    if (bundle is None) == (url is None):
        raise typer.BadParameter("name either --url or --bundle")
    if restart and stop_at_alarm:
        raise typer.BadParameter("--restart goes on after an alarm, --stop-at-alarm does not")
    from edgeloop import replaying

    if url is not None:
        if restart or target_run_length is not None or scores is not None:
            raise typer.BadParameter(
                "--restart, --target-run-length and --scores go with --bundle: a server's own "
                "monitor and its threshold are not touched"
            )
        served = replaying.replay_served(file, url, stop_at_alarm, say)
        emit(served, as_json, show.replay)
        return
    assert bundle is not None
    from monitor.offline import Settings

    settings = Settings(target_run_length, restart, stop_at_alarm)
    document = replaying.replay_bundle(file, bundle, settings, scores, say)
    emit(document, as_json, show_monitor.replayed)


@monitor_app.command("report")
def monitor_report(
    traffic: Annotated[
        list[Path], typer.Option(help="What came lately; may be given several times.")
    ],
    bundle: BundlePath = None,
    reference: Annotated[
        Path | None, typer.Option(help="What it is compared with, a file of the same kind.")
    ] = None,
    baseline_rows: Annotated[
        int | None, typer.Option(min=100, help="Compare with the traffic's first rows instead.")
    ] = None,
    window_rows: Annotated[
        int | None, typer.Option(min=50, help="Rows per window; default: a fiftieth, >= 200.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The HTML file.")] = Path("drift.html"),
    as_json: AsJson = False,
) -> None:
    """Write one HTML file: has the traffic drifted, since when, and what moved? With a BUNDLE the
    traffic is texts, captured rows or scores, without one tables of numbers: csv, npz, parquet."""
    if reference is not None and baseline_rows is not None:
        raise typer.BadParameter("name either --reference or --baseline-rows")
    if bundle is None and reference is None and baseline_rows is None:
        raise typer.BadParameter("without --bundle name --reference or --baseline-rows")
    from edgeloop.drift_report import Asked, write_drift_report

    asked = Asked(bundle, reference, tuple(traffic), baseline_rows, window_rows)
    document = write_drift_report(asked, out, say)
    emit(document, as_json, show_monitor.reported)
