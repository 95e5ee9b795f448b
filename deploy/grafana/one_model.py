"""The board of one model: is it still right, what moved, how is its monitor, what is on trial."""

from deploy.grafana.panels import MODEL, Board, Panel, Query, Section, greatest, quantile, rate
from deploy.grafana.traffic import CLASSES, LATENCY, REJECTED, REQUESTS

STATE_WORDS = "ok, suspect, harmful, recovering"
FLOOR = greatest("edgeloop_accuracy_floor_ratio", "model", "floor")

NOW = Section(
    "Now",
    (
        Panel(
            "State",
            f"The monitor's verdict over time: {STATE_WORDS}.",
            (greatest("edgeloop_drift_state", "state", "{{state}}"),),
            width=10,
            kind="state-timeline",
            amber=1,
        ),
        Panel(
            "Days since the reference was made",
            "And with it the bundle.",
            (
                Query(
                    "(time() - max by (model) "
                    f"(edgeloop_drift_reference_timestamp_seconds{{{MODEL}}})) / 86400",
                    "{{model}}",
                    instant=True,
                ),
            ),
            width=4,
            kind="stat",
            unit="d",
            red=180,
        ),
        Panel(
            "Bundle",
            "Version and digest of what answers and of what is on trial.",
            (Query(f"edgeloop_model_info{{{MODEL}}} == 1", "", instant=True),),
            width=10,
            kind="table",
        ),
    ),
)
ACCURACY = Section(
    "Accuracy",
    (
        Panel(
            "Estimated and labelled accuracy",
            "Estimates without labels (atc, cbpe), anchored by labels where there are some, the "
            "bounds that labels prove, and the recipe's floor. The gap between the estimates says "
            "how far they are to be trusted. 0: not known yet.",
            (
                greatest("edgeloop_estimated_accuracy_ratio", "method", "{{method}}"),
                greatest("edgeloop_labelled_accuracy_ratio", "bound", "labelled, {{bound}}"),
                FLOOR,
            ),
            width=12,
            unit="percentunit",
        ),
        Panel(
            "Calibration error",
            "How far score and accuracy lie apart on labelled rows.",
            (greatest("edgeloop_calibration_error_ratio", "model", "{{model}}"),),
            width=6,
            unit="percentunit",
            red=0.1,
        ),
        Panel(
            "Labels",
            "Labels that arrived within an hour, by where they came from.",
            (
                Query(
                    f"sum by (source) (increase(edgeloop_labels_total{{{MODEL}}}[1h]))",
                    "{{source}}",
                ),
            ),
            width=6,
        ),
        Panel(
            "Golden rows: changed answers",
            "The bundle's own texts, answered again: the share with another answer, and the "
            "largest difference of a score. Not 0: the machine changed, not the traffic.",
            (
                greatest("edgeloop_golden_flip_ratio", "instance", "flips {{instance}}"),
                greatest("edgeloop_golden_largest_difference", "instance", "largest {{instance}}"),
            ),
            width=12,
            unit="percentunit",
        ),
        Panel(
            "Golden rows: runs",
            "How often they were answered again within an hour, and where they differ (1).",
            (
                Query(
                    f"sum by (instance) (increase(edgeloop_golden_runs_total{{{MODEL}}}[1h]))",
                    "runs {{instance}}",
                ),
                greatest("edgeloop_runtime_changed", "instance", "changed {{instance}}"),
            ),
            width=12,
        ),
    ),
)
DRIFT = Section(
    "Drift",
    (
        Panel(
            "Evidence against its threshold, by detector",
            "1 is the alarm, whatever the detector. How rare an alarm without drift is: the panel "
            "of run lengths.",
            (greatest("edgeloop_drift_evidence_ratio", "detector", "{{detector}}"),),
            width=12,
            red=1,
        ),
        Panel(
            "Evidence by slice",
            "The strongest detector of each slice; `all` is the whole traffic.",
            (greatest("edgeloop_drift_evidence_ratio", "slice", "{{slice}}"),),
            width=6,
            red=1,
        ),
        Panel(
            "Effect size",
            "How far recent texts lie from the reference, whatever the evidence for it.",
            (greatest("edgeloop_drift_effect_size", "model", "{{model}}"),),
            width=6,
        ),
        Panel(
            "What moved: PSI over its threshold",
            "Each feature over six hours and all replicas. 1 is what chance passes once in a "
            "hundred windows; a ticket comes at 2.",
            (Query(f"model_feature:edgeloop_psi:threshold_ratio6h{{{MODEL}}}", "{{feature}}"),),
            width=12,
            kind="status-history",
            amber=1,
            red=2,
        ),
        CLASSES,
    ),
)
HEALTH = Section(
    "Health of the monitor",
    (
        Panel(
            "Observations between false alarms",
            "What the recipe asks for, and what was verified on the bundle's own reference.",
            (
                greatest(
                    "edgeloop_drift_target_run_length_observations",
                    "model",
                    "asked for",
                    instant=True,
                ),
                greatest(
                    "edgeloop_drift_verified_run_length_observations",
                    "model",
                    "verified",
                    instant=True,
                ),
                greatest("edgeloop_drift_reference_rows", "model", "reference rows", instant=True),
            ),
            width=8,
            kind="stat",
        ),
        Panel(
            "Smallest shift that can be seen",
            "The share of the traffic that a new topic needs before the detector can see it.",
            (greatest("edgeloop_drift_smallest_shift_ratio", "model", "{{model}}", instant=True),),
            width=4,
            kind="stat",
            unit="percentunit",
        ),
        Panel(
            "Time per text",
            "What the monitor takes for one text.",
            tuple(
                quantile("edgeloop_monitor_update_seconds", q, "model", "{{model}}")
                for q in (0.5, 0.99)
            ),
            width=6,
            unit="s",
        ),
        Panel(
            "State",
            "Bytes that the monitor keeps and saves.",
            (greatest("edgeloop_monitor_state_bytes", "model", "{{model}}"),),
            width=6,
            unit="bytes",
        ),
        Panel(
            "What the monitor saw",
            "Texts per second that it took, passed over, lost because it was behind, failed on.",
            (
                rate("edgeloop_drift_observations_total", "instance", "observed {{instance}}"),
                rate("edgeloop_drift_skipped_total", "instance", "skipped {{instance}}"),
                rate("edgeloop_monitor_dropped_total", "instance", "dropped {{instance}}"),
                rate("edgeloop_monitor_errors_total", "instance", "errors {{instance}}"),
            ),
            width=12,
        ),
        Panel(
            "Captured rows",
            "Texts per second that were written for people to label, and those that were lost.",
            (
                rate("edgeloop_captured_rows_total", "model", "captured"),
                rate("edgeloop_capture_dropped_total", "reason", "lost: {{reason}}"),
            ),
            width=12,
        ),
    ),
)
TRIALS = Section(
    "Canary and shadow",
    (
        Panel(
            "Evidence of the trial",
            "`worse` and `fine`, alone and by question (errors, latency, agreement). A verdict "
            "stands at 1 / alpha, 20 where serve.yaml does not say otherwise.",
            (greatest("edgeloop_trial_evidence", "variant, question", "{{variant}} {{question}}"),),
            width=12,
            red=20,
            log=True,
            # A logarithm has no 0.
            least=None,
        ),
        Panel(
            "Compared texts",
            "Texts whose two answers were compared, and per second those that were not because the "
            "trial was behind.",
            (
                greatest("edgeloop_trial_compared_texts", "variant", "compared {{variant}}"),
                rate("edgeloop_trial_dropped_total", "variant", "not compared {{variant}}"),
            ),
            width=6,
        ),
        Panel(
            "Stopped canaries",
            "Within a day, by the question that stopped them.",
            (
                Query(
                    f"sum by (reason) (increase(edgeloop_rollbacks_total{{{MODEL}}}[1d]))",
                    "{{reason}}",
                ),
            ),
            width=6,
        ),
    ),
)
SERVING = Section(
    "Serving",
    (
        REQUESTS,
        LATENCY,
        REJECTED,
        Panel(
            "Where the time goes",
            "Mean seconds per text: waiting for an inference thread, and tokenizing and scoring.",
            tuple(
                Query(
                    f"sum by (variant) (rate({metric}_sum{{{MODEL}}}[$__rate_interval])) / "
                    f"sum by (variant) (rate({metric}_count{{{MODEL}}}[$__rate_interval]))",
                    f"{name} {{{{variant}}}}",
                )
                for metric, name in (
                    ("edgeloop_queue_wait_seconds", "queue"),
                    ("edgeloop_inference_seconds", "model"),
                )
            ),
            width=8,
            unit="s",
        ),
        Panel(
            "Out of scope, and cascade stages",
            "Answers per second that were marked as out of scope, and those of a cascade's stages.",
            (
                rate("edgeloop_abstained_total", "variant", "out of scope {{variant}}"),
                rate("edgeloop_stage_answers_total", "stage", "stage {{stage}}"),
            ),
            width=8,
        ),
        Panel(
            "Another machine than certified",
            "1 where the bundle was certified on a CPU with other instructions.",
            (greatest("edgeloop_isa_differs", "instance, variant", "{{instance}} {{variant}}"),),
            width=8,
            red=1,
        ),
    ),
)
ONE_MODEL = Board(
    "edgeloop-model",
    "edgeloop: one model",
    "Is it still right, what moved, how is its monitor, what is on trial.",
    (NOW, ACCURACY, DRIFT, HEALTH, TRIALS, SERVING),
    many=False,
)
