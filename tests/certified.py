"""Records of a compression, with figures that a test changes where it cares."""

from typing import Any

from edgeloop.records import Interval, Measurement, PairedDrop, Parity
from edgeloop.records_compress import Candidate, Certificate
from edgeloop.records_measured import ClassQuality, Quality, SliceQuality
from edgeloop.statistics import drop_upper_bound
from tests import tiny


def measurement(**changes: Any) -> Measurement:
    figures: dict[str, Any] = {
        "rows": 200,
        "repeats": 3,
        "latency_p50_ms": Interval(value=2.0, low=1.9, high=2.1),
        "latency_p95_ms": Interval(value=4.0, low=3.8, high=4.5),
        "size_bytes": 23_000_000,
        "rss_bytes": 120_000_000,
        "cold_start_seconds": 0.4,
    }
    return Measurement(**figures | changes)


def drop(lost: int = 0, gained: int = 0, rows: int = 800, confidence: float = 0.95) -> PairedDrop:
    return PairedDrop(
        rows=rows,
        reference_accuracy=0.9,
        candidate_accuracy=0.9 - (lost - gained) / rows,
        lost=lost,
        gained=gained,
        drop_ratio=(lost - gained) / rows,
        upper_bound_ratio=drop_upper_bound(lost, gained, rows, confidence),
        confidence=confidence,
    )


def quality(
    *drops: tuple[str, int, float, float], slices: tuple[SliceQuality, ...] = ()
) -> Quality:
    """Classes as (name, rows, recall of the merged model, recall of the candidate)."""
    classes = tuple(
        ClassQuality(
            name=name,
            support=support,
            recall=after,
            f1=after,
            merged_recall=before,
            merged_f1=before,
        )
        for name, support, before, after in drops
    )
    return Quality(
        rows=800,
        ece=0.02,
        merged_ece=0.02,
        agreement_ratio=0.99,
        flip_ratio=0.01,
        classes=classes,
        slices=slices,
    )


def candidate(kind: str = "onnx-int8", **changes: Any) -> Candidate:
    figures: dict[str, Any] = {
        "inputs_digest": "0" * 64,
        "files": (),
        "kind": kind,
        "source": "merged",
        "exporter": "dynamo",
        "merged_digest": "e" * 64,
        "parity": Parity(
            rows=1, max_abs_difference=0.0, argmax_agreement_ratio=1.0, tolerance=1e-4
        ),
        "measurement": measurement(),
        "screening": drop(),
        "accuracy": drop(),
        "test_accuracy": 0.9,
        "finalist": True,
        "misses": (),
        "excess_ratio": 0.0,
        "quality": quality(),
        "throughput": None,
        "lint": None,
        "invariance": None,
    }
    return Candidate(**figures | changes)


def certificate(
    chosen: str | None = None, candidates: tuple[Candidate, ...] = (), **changes: Any
) -> Certificate:
    figures: dict[str, Any] = {
        "inputs_digest": "0" * 64,
        "files": (),
        "labels": tiny.LABELS,
        "budget": {},
        "confidence": 0.95,
        "prefer": "size",
        "chosen": chosen,
        "finalists": tuple(found.kind for found in candidates if found.finalist),
        "finalist_confidence": 0.95,
        "choosing_rows": 100,
        "candidates": candidates,
        "left_out": {},
        "machine": tiny.figures()[2],
    }
    return Certificate(**figures | changes)
