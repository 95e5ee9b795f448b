"""The board of all models on all boxes: what answers, what is the matter, where."""

from deploy.grafana.panels import MODEL, Board, Panel, Query, Section, greatest, rate
from deploy.grafana.traffic import LATENCY, REJECTED, REQUESTS

ALERTS = 'ALERTS{alertstate="firing", severity!="none"}'

NOW = Section(
    "Now",
    (
        Panel(
            "Alerts",
            "How many fire now. 0 is what it should be.",
            # No alert is no series.
            (Query(f"count({ALERTS}) or vector(0)", "firing", instant=True),),
            width=4,
            kind="stat",
            red=1,
        ),
        Panel(
            "Which alerts",
            "What fired, and when; deploy/prometheus/rules.yml says what each means.",
            (Query(f"count by (alertname) ({ALERTS}) or vector(0)", "{{alertname}}"),),
            width=20,
            kind="state-timeline",
            red=1,
        ),
        Panel(
            "Models",
            "What answers now on which box, whether its monitor is armed (1), has alarmed (1), and "
            "whether its golden rows are answered as certified (0).",
            (
                Query(f"edgeloop_model_info{{{MODEL}}} == 1", "", instant=True),
                Query(f"edgeloop_drift_armed{{{MODEL}}}", "", instant=True),
                Query(f"edgeloop_drift_alarmed{{{MODEL}}}", "", instant=True),
                Query(f"edgeloop_runtime_changed{{{MODEL}}}", "", instant=True),
            ),
            width=24,
            kind="table",
        ),
    ),
)
TRAFFIC = Section(
    "Traffic",
    (
        REQUESTS,
        LATENCY,
        REJECTED,
        Panel(
            "Errors",
            "The share of 5xx in the answers of five minutes, over all replicas.",
            (Query(f"model:edgeloop_request_errors:ratio5m{{{MODEL}}}", "{{model}}"),),
            width=8,
            unit="percentunit",
            red=0.05,
        ),
        Panel(
            "Memory",
            "Resident memory of each server.",
            (
                Query(
                    "max by (model, instance) (process_resident_memory_bytes "
                    "* on (instance) group_left (model) "
                    f'edgeloop_model_info{{{MODEL}, variant="stable"}})',
                    "{{model}} {{instance}}",
                ),
            ),
            width=8,
            unit="bytes",
        ),
        Panel(
            "Swaps and rollbacks",
            "Bundles that were taken or refused, by outcome, and canaries that were stopped.",
            (
                Query(
                    f"sum by (model, reason) (increase(edgeloop_swaps_total{{{MODEL}}}[1h]))",
                    "{{model}} swap {{reason}}",
                ),
                Query(
                    f"sum by (model, reason) (increase(edgeloop_rollbacks_total{{{MODEL}}}[1h]))",
                    "{{model}} rollback {{reason}}",
                ),
            ),
            width=8,
        ),
    ),
)
DRIFT = Section(
    "Drift",
    (
        Panel(
            "Drift evidence against its threshold",
            "The strongest detector of each box; 1 is the alarm.",
            (
                greatest(
                    "edgeloop_drift_evidence_ratio", "model, instance", "{{model}} {{instance}}"
                ),
            ),
            width=12,
            red=1,
        ),
        Panel(
            "What the monitors saw",
            "Texts per second that they took, passed over, lost because they were behind, and "
            "failed on.",
            (
                rate("edgeloop_drift_observations_total", "model", "observed {{model}}"),
                rate("edgeloop_drift_skipped_total", "model", "skipped {{model}}"),
                rate("edgeloop_monitor_dropped_total", "model", "dropped {{model}}"),
                rate("edgeloop_monitor_errors_total", "model", "errors {{model}}"),
            ),
            width=12,
        ),
    ),
)
FLEET = Board(
    "edgeloop",
    "edgeloop: fleet",
    "Every model on every box: what answers, what is the matter, where.",
    (NOW, TRAFFIC, DRIFT),
)
