"""The board of the loop: alarms, labels, decisions, trainings, gates, promotions, rollbacks. All of
it is the ledger's, which every server that follows it shows: the greatest, never the sum."""

from deploy.grafana.panels import MODEL, Board, Panel, Query, Section, greatest


def _today(metric: str, by: str, legend: str) -> Query:
    """How many came within a day; replicas show the same."""
    return Query(f"max by ({by}) (increase({metric}{{{MODEL}}}[1d]))", legend)


def _since(metric: str, legend: str) -> Query:
    """Days since a time that the ledger knows; nothing where it never was."""
    return Query(
        f"(time() - max by (model) ({metric}{{{MODEL}}})) / 86400 "
        f"* on (model) (max by (model) ({metric}{{{MODEL}}}) > bool 0)",
        legend,
        instant=True,
    )


NOW = Section(
    "Now",
    (
        Panel(
            "Days since the last new bundle",
            "0: none was made yet.",
            (_since("edgeloop_retrain_last_success_timestamp_seconds", "{{model}}"),),
            width=6,
            kind="stat",
            unit="d",
        ),
        Panel(
            "Days since the last decision",
            "The nightly job decides every night, if only to wait. 0: it never ran.",
            (_since("edgeloop_retrain_last_decision_timestamp_seconds", "{{model}}"),),
            width=6,
            kind="stat",
            unit="d",
            red=2.1,
        ),
        Panel(
            "Labels that are still wanted",
            "What the last decision asked people for.",
            (greatest("edgeloop_retrain_missing_labels", "model", "{{model}}", instant=True),),
            width=6,
            kind="stat",
            amber=1,
        ),
        Panel(
            "Cooldown",
            "How long no training begins, after the last one.",
            (
                Query(
                    "clamp_min(max by (model) "
                    f"(edgeloop_retrain_cooldown_until_timestamp_seconds{{{MODEL}}}) - time(), 0)",
                    "{{model}}",
                    instant=True,
                ),
            ),
            width=6,
            kind="stat",
            unit="s",
        ),
    ),
)
TIMELINE = Section(
    "What happened",
    (
        Panel(
            "Trainings",
            "A training runs; one was begun and left; the ledger cannot be read.",
            (
                greatest("edgeloop_retrain_in_progress", "model", "{{model}} runs"),
                greatest("edgeloop_retrain_unfinished_runs", "model", "{{model}} left"),
                Query(
                    f"1 - min by (model) (edgeloop_ledger_readable{{{MODEL}}})",
                    "{{model}} unreadable",
                ),
            ),
            width=24,
            kind="state-timeline",
            amber=1,
        ),
        Panel(
            "Alarms and decisions",
            "Within a day: drift alarms, and what `edgeloop retrain` decided.",
            (
                _today("edgeloop_retrain_verdicts_total", "model", "{{model}} alarm"),
                _today("edgeloop_retrain_decisions_total", "model, action", "{{model}} {{action}}"),
            ),
            width=12,
        ),
        Panel(
            "Labels",
            "Within a day, by where they came from: a sample that was drawn, or feedback.",
            (_today("edgeloop_retrain_labels_total", "model, source", "{{model}} {{source}}"),),
            width=12,
        ),
        Panel(
            "Runs",
            "Within a day, by who started them and how they ended.",
            (
                _today(
                    "edgeloop_retrain_runs_total",
                    "model, trigger, result",
                    "{{model}} {{trigger}}: {{result}}",
                ),
            ),
            width=12,
        ),
        Panel(
            "Promotions and rollbacks",
            "Bundles that were deployed for the first time, and those that were gone back to.",
            (
                greatest("edgeloop_promotions_total", "model", "{{model}} promoted"),
                greatest("edgeloop_retrain_rollbacks_total", "model", "{{model}} gone back"),
            ),
            width=12,
        ),
    ),
)
GATE = Section(
    "Gate",
    (
        Panel(
            "Accuracy that the last challenger lost",
            "On golden rows and on fresh labelled ones: the estimate and its upper bound, negative "
            "where the challenger was better.",
            (
                greatest(
                    "edgeloop_gate_drop_ratio",
                    "model, check, bound",
                    "{{model}} {{check}} {{bound}}",
                ),
            ),
            width=12,
            unit="percentunit",
            least=None,
        ),
        Panel(
            "Served and deployed",
            "Swaps of the servers by outcome, within a day: what the ledger deploys and a server "
            "refuses is not served.",
            (
                Query(
                    f"sum by (model, reason) (increase(edgeloop_swaps_total{{{MODEL}}}[1d]))",
                    "{{model}} {{reason}}",
                ),
            ),
            width=12,
        ),
    ),
)
RETRAINING = Board(
    "edgeloop-retraining",
    "edgeloop: retraining",
    "Alarms, labels, decisions, trainings, gates, promotions and rollbacks.",
    (NOW, TIMELINE, GATE),
)
