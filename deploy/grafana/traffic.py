"""Panels about requests, which more than one board shows."""

from deploy.grafana.panels import MODEL, Panel, Query, quantile, rate

# Probes and scrapes come every few seconds; beside them real traffic would not be seen.
WORK = f'{MODEL}, route!~"/health|/metrics"'
PREDICT = f'{MODEL}, route="/predict"'
DURATION = "edgeloop_request_duration_seconds"

REQUESTS = Panel(
    "Requests per second by code",
    "Answers by HTTP code without probes and scrapes. 4xx is a client's mistake, 5xx ours.",
    (
        Query(
            f"sum by (model, code) (rate(edgeloop_requests_total{{{WORK}}}[$__rate_interval]))"
            # Every possible code is a series from the start; those that never came say nothing.
            " > 0",
            "{{model}} {{code}}",
        ),
    ),
    width=8,
    unit="reqps",
    stacked=True,
)
LATENCY = Panel(
    "Latency of /predict",
    "From the head of the request to the last byte of the answer.",
    tuple(quantile(DURATION, q, "model", "{{model}}", PREDICT) for q in (0.5, 0.95, 0.99)),
    width=8,
    unit="s",
)
REJECTED = Panel(
    "Rejected, and in flight",
    "Requests turned away per second by reason, and requests being answered right now.",
    (
        rate("edgeloop_rejected_total", "model, reason", "rejected: {{reason}}"),
        Query(f"sum by (model) (edgeloop_inflight_requests{{{MODEL}}})", "in flight {{model}}"),
    ),
    width=8,
)
CLASSES = Panel(
    "Predicted classes",
    "The share of each class in the answers of the last hour, over all replicas.",
    (Query(f"model_class:edgeloop_predictions:ratio1h{{{MODEL}}}", "{{model}} {{class}}"),),
    width=12,
    unit="percentunit",
    stacked=True,
)
