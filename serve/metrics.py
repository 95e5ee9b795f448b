"""Every metric of the server. All series exist from the start at 0; labels are bounded.

The registry is an argument. Digests and versions stand only in edgeloop_model_info.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from edgeloop.bundle import Bundle
from edgeloop.cascade import STAGES
from edgeloop.naming import metric_name
from edgeloop.runtime import best_of
from edgeloop.tasks import TASKS
from serve.jobs import Scored
from serve.trial_metrics import TrialMetrics

VARIANT = "stable"
CANARY = "canary"
SHADOW = "shadow"
OTHER = "other"
CLASS_LIMIT = 100
# Where labels come from.
FEEDBACK, AUDIT = "feedback", "audit"
# 0.5 ms to 10 s: a small classifier answers in about a millisecond.
SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
# What may go wrong with a request for answers; other dialects say 400 for 422.
KEY_CODES = (401, 403, 429)  # of every route that a key opens
ANSWER_CODES = (200, 400, *KEY_CODES, 405, 413, 415, 422, 424, 499, 500, 503, 504)
NAMED_CODES = (200, 400, *KEY_CODES, 404, 405, 413, 415, 424, 499, 500, 503, 504)
# By route, as templates: what a path names is no label. What is told of server and models is
# counted together: it is asked seldom, and each label costs thirty series.
ROUTE_CODES = {
    "/predict": ANSWER_CODES,
    "/embed": ANSWER_CODES,
    "/v1/predict": ANSWER_CODES,
    "/": (*ANSWER_CODES, 404),
    "/hf/{model}": (*ANSWER_CODES, 404),
    "/v1/embeddings": NAMED_CODES,
    "/v1/models": (200, *KEY_CODES, 404, 405, 500),
    "/classify": NAMED_CODES,
    "/pooling": NAMED_CODES,
    "/v2/models/{model}/infer": NAMED_CODES,
    "/v2": (200, *KEY_CODES, 404, 405, 500, 503),
    "/v2/repository": (200, 400, *KEY_CODES, 405, 413, 415, 499, 500),
    "/feedback": (200, 400, *KEY_CODES, 405, 413, 415, 422, 499, 500, 503),
    "/health": (200, 405, 500, 503),
    "/info": (200, *KEY_CODES, 405, 500),
    "/metrics": (200, *KEY_CODES, 405, 500),
    "/drift": (200, *KEY_CODES, 405, 500),
    "/openapi.json": (200, *KEY_CODES, 405, 500),
    "/console/state": (200, *KEY_CODES, 404, 405, 500),
    OTHER: (*KEY_CODES, 404, 405, 500),
}
CANCELLATIONS = ("client_gone",)
REJECTIONS = (
    "invalid",
    "unknown_model",
    "body_too_large",
    "queue_full",
    "deadline",
    "engine",
    "ledger",
    "unauthorized",
    "forbidden",
    "rate_limited",
    "malformed",
    "request_timeout",
    "slow_reader",
    "too_many_connections",
)
CAPTURE_DROPS = ("ring_full", "too_large", "redaction", "disk")
SWAP_OUTCOMES = ("ok", "path", "verify", "signature", "load", "golden", "latency", "busy", "ledger")
ROLLBACK_REASONS = ("asked", "errors", "latency", "agreement", "unhealthy")


@dataclass(frozen=True)
class _Variant:
    """The series of one variant that every answered text touches."""

    queue_wait: Histogram
    inference: Histogram
    abstained: Counter
    stages: dict[str, Counter]
    durations: dict[str, Histogram]


class ServeMetrics:
    """The server's metrics for one model name."""

    def __init__(self, registry: CollectorRegistry, model: str) -> None:
        self.registry = registry
        self.model = model
        self._define_http(registry)
        self._define_model(registry)
        self._define_lifecycle(registry)
        self.trials = TrialMetrics(registry, model, (CANARY, SHADOW))
        self._define_monitor(registry)
        self._define_capture(registry)
        self._classes: dict[tuple[str, str], Counter] = {}
        self._info: dict[str, tuple[str, ...]] = {}
        self._variants: dict[str, _Variant] = {}
        self._answers: dict[tuple[str, str, int], Counter] = {}
        self._start_at_zero()

    def _define_http(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            metric_name("requests", total=True),
            "Answered HTTP requests",
            ("model", "variant", "route", "code"),
            registry=registry,
        )
        self._duration = Histogram(
            metric_name("request_duration", "seconds"),
            "From the request's head to the last byte of its answer",
            ("model", "variant", "route"),
            buckets=SECONDS,
            registry=registry,
        )
        self._inflight = Gauge(
            metric_name("inflight_requests"),
            "Requests that are being answered",
            ("model",),
            registry=registry,
        )
        self._rejected = Counter(
            metric_name("rejected", total=True),
            "Requests that were refused, and connections that were closed by a limit",
            ("model", "reason"),
            registry=registry,
        )
        self._cancelled = Counter(
            metric_name("cancelled", total=True),
            "Requests whose texts were taken out of the queue, unanswered",
            ("model", "reason"),
            registry=registry,
        )
        self._labels = Counter(
            metric_name("labels", total=True),
            "Labels that were stored by /feedback, and taken from the ledger's audits",
            ("model", "source"),
            registry=registry,
        )

    def _define_model(self, registry: CollectorRegistry) -> None:
        self._queue_wait = Histogram(
            metric_name("queue_wait", "seconds"),
            "A text's wait for an inference thread",
            ("model", "variant"),
            buckets=SECONDS,
            registry=registry,
        )
        self._inference = Histogram(
            metric_name("inference", "seconds"),
            "Tokenizing and scoring one text",
            ("model", "variant"),
            buckets=SECONDS,
            registry=registry,
        )
        self._predictions = Counter(
            metric_name("predictions", total=True),
            "Answered texts by their best class",
            ("model", "variant", "class"),
            registry=registry,
        )
        self._abstained = Counter(
            metric_name("abstained", total=True),
            "Answered texts that were marked as out of scope",
            ("model", "variant"),
            registry=registry,
        )
        self._stage_answers = Counter(
            metric_name("stage_answers", total=True),
            "Answered texts by the stage of the cascade that answered; none of other models",
            ("model", "variant", "stage"),
            registry=registry,
        )
        self._model_info = Gauge(
            metric_name("model", "info"),
            "1 for the bundle that is served",
            ("model", "variant", "version", "digest"),
            registry=registry,
        )
        self._isa_differs = Gauge(
            metric_name("isa_differs"),
            "1 where the served bundle was certified on a machine with other instructions",
            ("model", "variant"),
            registry=registry,
        )

    def _define_lifecycle(self, registry: CollectorRegistry) -> None:
        self._workers = Gauge(
            metric_name("worker_processes"),
            "Inference processes that answer; 0 where threads do",
            ("model",),
            registry=registry,
        )
        self._worker_restarts = Counter(
            metric_name("worker_restarts", total=True),
            "Inference processes that ended and were started again",
            ("model",),
            registry=registry,
        )
        self._swaps = Counter(
            metric_name("swaps", total=True),
            "Attempts to swap the bundle: ok, or the step that failed",
            ("model", "reason"),
            registry=registry,
        )
        self._rollbacks = Counter(
            metric_name("rollbacks", total=True),
            "Returns to the bundle that served before: asked for, or why a canary was stopped",
            ("model", "reason"),
            registry=registry,
        )

    def _define_monitor(self, registry: CollectorRegistry) -> None:
        self._dropped = Counter(
            metric_name("monitor_dropped", total=True),
            "Answered texts that the drift monitor did not see because it was behind",
            ("model",),
            registry=registry,
        )
        self._monitor_errors = Counter(
            metric_name("monitor_errors", total=True),
            "Exceptions of the drift monitor",
            ("model",),
            registry=registry,
        )

    def _define_capture(self, registry: CollectorRegistry) -> None:
        self._captured = Counter(
            metric_name("captured_rows", total=True),
            "Answered texts that were written by the capture",
            ("model",),
            registry=registry,
        )
        self._capture_dropped = Counter(
            metric_name("capture_dropped", total=True),
            "Answered texts that were to be captured and were not",
            ("model", "reason"),
            registry=registry,
        )

    def _start_at_zero(self) -> None:
        self.start_variant(VARIANT)
        for reason in REJECTIONS:
            self._rejected.labels(self.model, reason)
        for reason in CANCELLATIONS:
            self._cancelled.labels(self.model, reason)
        for reason in SWAP_OUTCOMES:
            self._swaps.labels(self.model, reason)
        for reason in ROLLBACK_REASONS:
            self._rollbacks.labels(self.model, reason)
        for reason in CAPTURE_DROPS:
            self._capture_dropped.labels(self.model, reason)
        self.workers = self._workers.labels(self.model)
        self.worker_restarts = self._worker_restarts.labels(self.model)
        self.captured = self._captured.labels(self.model)
        self.inflight = self._inflight.labels(self.model)
        self.labels_stored = self._labels.labels(self.model, FEEDBACK)
        self.labels_audited = self._labels.labels(self.model, AUDIT)
        self.dropped = self._dropped.labels(self.model)
        self.monitor_errors = self._monitor_errors.labels(self.model)

    def start_variant(self, variant: str) -> None:
        """Start the series of a variant at 0; those of a canary start with the first one."""
        if variant in self._variants:
            return
        # No request is answered by a shadow.
        routes = {} if variant == SHADOW else ROUTE_CODES
        for route, codes in routes.items():
            for code in codes:
                self._answer(variant, route, code)
        self._variants[variant] = _Variant(
            self._queue_wait.labels(self.model, variant),
            self._inference.labels(self.model, variant),
            self._abstained.labels(self.model, variant),
            {stage: self._stage_answers.labels(self.model, variant, stage) for stage in STAGES},
            {route: self._duration.labels(self.model, variant, route) for route in routes},
        )

    def answered(self, route: str, code: int, seconds: float, variant: str = VARIANT) -> None:
        """Count one HTTP answer; `route` must be a key of ROUTE_CODES."""
        self._answer(variant, route, code).inc()
        self._variants[variant].durations[route].observe(seconds)

    def _answer(self, variant: str, route: str, code: int) -> Counter:
        """Kept by what a request knows: labels() takes a lock and three microseconds."""
        found = self._answers.get((variant, route, code))
        if found is None:
            found = self._requests.labels(self.model, variant, route, str(code))
            self._answers[variant, route, code] = found
        return found

    def scored(
        self, answers: Sequence[Scored], class_names: Sequence[str], variant: str = VARIANT
    ) -> None:
        """Count answered texts by the class name of the highest probability."""
        series = self._variants[variant]
        for answer in answers:
            series.queue_wait.observe(answer.queue_seconds)
            series.inference.observe(answer.inference_seconds)
            self._class(variant, class_names[best_of(answer.probabilities)]).inc()
            if answer.abstained:
                series.abstained.inc()
            if answer.stage in series.stages:
                series.stages[answer.stage].inc()

    def rejected(self, reason: str) -> None:
        """Count a refused request; `reason` is one of REJECTIONS."""
        self._rejected.labels(self.model, reason).inc()

    def capture_dropped(self, reason: str, rows: int = 1) -> None:
        """Count rows that the capture lost; `reason` is one of CAPTURE_DROPS."""
        self._capture_dropped.labels(self.model, reason).inc(rows)

    def cancelled(self, reason: str) -> None:
        """Count a request that nobody waits for any more; `reason` is one of CANCELLATIONS."""
        self._cancelled.labels(self.model, reason).inc()

    def swapped(self, reason: str) -> None:
        """Count an attempt to swap; `reason` is one of SWAP_OUTCOMES."""
        self._swaps.labels(self.model, reason).inc()

    def rolled_back(self, reason: str) -> None:
        """Count a return to the bundle from before; `reason` is one of ROLLBACK_REASONS."""
        self._rollbacks.labels(self.model, reason).inc()

    def show_bundle(
        self, bundle: Bundle, isa_differs: bool = False, variant: str = VARIANT
    ) -> None:
        """Make a bundle its variant's in edgeloop_model_info, and start its classes at 0."""
        self.start_variant(variant)
        self.hide_bundle(variant)
        self._isa_differs.labels(self.model, variant).set(isa_differs)
        self._info[variant] = (self.model, variant, bundle.manifest.created_at, bundle.digest)
        self._model_info.labels(*self._info[variant]).set(1)
        for name in TASKS[bundle.manifest.task].class_names(bundle.manifest.labels):
            self._class(variant, name)

    def hide_bundle(self, variant: str) -> None:
        """Take the variant's bundle out of edgeloop_model_info."""
        known = self._info.pop(variant, None)
        if known is not None:
            self._model_info.remove(*known)
            self._isa_differs.labels(self.model, variant).set(0)

    def _class(self, variant: str, label: str) -> Counter:
        """The series of a class; labels beyond the first CLASS_LIMIT share one."""
        found = self._classes.get((variant, label))
        if found is None:
            known = sum(own == variant for own, _ in self._classes)
            name = label if known < CLASS_LIMIT else OTHER
            found = self._predictions.labels(self.model, variant, name)
            if name == label:
                self._classes[variant, label] = found
        return found
