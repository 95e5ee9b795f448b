"""python -m bench.compress [--quick] [--data ../shared/data] [--only PART ...] [--keep FOLDER]

Trains the teacher (LoRA on banking77) where it is not kept, runs the parts one after another, keeps
each one's figures in a folder (so that a part that is done need not be run again: --only), and ends
with one line of JSON. Peers need environments of their own: bench/compress/peers.sh makes them.
"""

from typing import Any

from bench.compress.parts import PARTS, Setting
from bench.report import finish, read_options, run_parts, table

PACKAGES = ("torch", "transformers", "onnx", "onnxruntime", "scikit-learn", "scipy")
MEGABYTE = 1_000_000
FP32, INT8, TRIMMED = "onnx-fp32", "onnx-int8", "trimmed-int8"
STUDENTS = ("student-third-int8", "student-half-int8", "student-third-trimmed-int8")
STATIC_KINDS = ("static-embedding-int8", "static-embedding")
STUDENT_ACCURACY_RATIO = 0.98
CAVEATS = (
    "## Caveats\n\nOne training seed. Students are taught with settings that were tuned on "
    "validation rows of the same data. Milliseconds are those of a shared virtual machine: compare "
    "within a table, whose models took turns. 3,080 test rows have a standard error of 0.45 points "
    "at 0.93; paired bounds are narrower than that."
)


def main() -> None:
    """See the module."""
    options = read_options("compress", PARTS, "build/bench/compress")
    home = (options.keep / "quick" if options.quick else options.keep).resolve()
    found = run_parts(PARTS, options.only, Setting(options.data, home, options.quick), home)
    sections = [SECTIONS[name](found[name]) for name in found] + [CAVEATS]
    finish("compress", sections, PACKAGES, summary(found))


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """The figures that the benchmark promises; null where its part was not run."""
    kinds, cascade = found.get("kinds", {}), found.get("cascade", {})
    fp32, int8, trimmed = (kinds.get(kind) for kind in (FP32, INT8, TRIMMED))
    student, static = _best_student(kinds), _first(kinds, STATIC_KINDS)
    return {
        "int8_speedup": _ratio(fp32, int8, "p50_ms"),
        "int8_size_ratio": _ratio(int8, fp32, "size_bytes"),
        "int8_accuracy_drop": int8 and int8["drop"],
        "int8_drop_bound": int8 and int8["drop_bound"],
        "student_speedup": _ratio(int8, student, "p50_ms"),
        "student_accuracy_ratio": _ratio(student, int8, "accuracy"),
        "static_speedup": _ratio(int8, static, "p50_ms"),
        "static_accuracy_ratio": _ratio(static, int8, "accuracy"),
        "cascade_speedup": cascade.get("speedup"),
        "cascade_drop_bound": cascade.get("drop_bound_alone"),
        "trimmed_size_ratio": _ratio(trimmed, fp32, "size_bytes"),
        "auto_minutes": found["auto"]["seconds"] / 60 if "auto" in found else None,
        "peers": found.get("peers"),
    }


def _ratio(over: dict[str, Any] | None, under: dict[str, Any] | None, key: str) -> float | None:
    return over[key] / under[key] if over and under else None


def _first(kinds: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any] | None:
    return next((kinds[name] for name in names if name in kinds), None)


def _best_student(kinds: dict[str, Any]) -> dict[str, Any] | None:
    """The fastest of those that keep enough of the int8 teacher's accuracy, else the best."""
    there = [kinds[name] for name in STUDENTS if name in kinds]
    if not there or INT8 not in kinds:
        return None
    least = STUDENT_ACCURACY_RATIO * kinds[INT8]["accuracy"]
    enough = [student for student in there if student["accuracy"] >= least]
    if enough:
        return min(enough, key=lambda student: student["p50_ms"])
    return max(there, key=lambda student: student["accuracy"])


def _auto(found: dict[str, Any]) -> str:
    certificate = found["certificate"]
    rows = [(kind, reason.replace("|", "/")) for kind, reason in certificate["left_out"].items()]
    return (
        f"## `auto`\n\nBudget: {certificate['budget']}. {found['seconds'] / 60:.1f} minutes for "
        f"{len(certificate['candidates'])} candidates measured to the end, {len(rows)} left out. "
        f"Finalists {', '.join(certificate['finalists'])}, each tested at "
        f"{certificate['finalist_confidence']:.4f}; chosen: {certificate['chosen']}.\n\n"
        f"{table(('left out', 'why'), rows)}"
    )


def _kinds(found: dict[str, Any]) -> str:
    int8 = found.get(INT8, next(iter(found.values())))
    rows = [
        (
            kind,
            f"{f['accuracy']:.4f}",
            f"{f['drop']:+.4f}",
            f"{f['drop_bound']:.4f}",
            f"{f['p50_ms']:.3f}",
            f"{f['p95_ms']:.3f}",
            f"{int8['p50_ms'] / f['p50_ms']:.2f}",
            f"{f['size_bytes'] / MEGABYTE:.2f}",
            f"{f['rss_bytes'] / MEGABYTE:.0f}",
            f"{f['cold_start_seconds']:.2f}",
        )
        for kind, f in sorted(found.items(), key=lambda item: item[1]["p50_ms"])
    ]
    head = "kind|test accuracy|drop|bound, 95%|p50 ms|p95 ms|x int8|MB|RSS MB|cold start s"
    return (
        "## Every kind, the same test rows, timed in turns\n\nDrop and bound against fp32, each by "
        "itself (a certificate corrects for the number of finalists). One text, one thread; "
        f"tokens and n-grams included.\n\n{table(head.split('|'), rows)}"
    )


def _cascade(found: dict[str, Any]) -> str:
    if not found["offered"]:
        return f"## Cascade\n\nNot offered: {found['reason']}"
    predicted = found["predicted"]
    rows = [
        ("first stage answers", f"{predicted['hit_ratio']:.3f}", f"{found['hit_ratio']:.3f}"),
        ("ms per text", f"{predicted['cost_ms']:.3f}", f"{found['cost_ms']:.3f}"),
        ("second stage alone, ms", f"{predicted['second_ms']:.3f}", f"{found['second_ms']:.3f}"),
        ("drop", f"{predicted['drop_ratio']:+.4f}", f"{found['drop']:+.4f}"),
        ("drop at most, 95%", "", f"{found['drop_bound_alone']:.4f}"),
    ]
    head = ("", f"predicted on {predicted['rows']} choosing rows", "seen on the test rows")
    return (
        f"## Cascade\n\n{found['kind']}: threshold "
        f"{found['threshold']:.3f}; "
        f"budget half a point. {found['speedup']:.2f} x the throughput of the int8 model on one "
        f"core. Chosen: {found['chosen']} (finalists {', '.join(found['finalists'])} at "
        f"{found['finalist_confidence']:.4f}; its bound there {found['drop_bound']:.4f}).\n\n"
        f"{table(head, rows)}"
    )


def _peers(found: dict[str, Any]) -> str:
    rows = [
        (name, entry["problem"], *[""] * 5)
        if "problem" in entry
        else (
            name,
            f"{entry['accuracy']:.4f}",
            f"{entry['size_bytes'] / MEGABYTE:.2f}",
            f"{entry['p50_ms']:.2f}",
            f"{entry['seconds']:.0f}",
            f"{entry['peak_rss_bytes'] / MEGABYTE:.0f}",
            entry["note"],
        )
        for name, entry in found.items()
    ]
    head = ("peer", "test accuracy", "MB", "p50 ms", "s taken", "peak RSS MB", "how")
    return f"## Peers, int8 of the same model\n\n{table(head, rows)}"


SECTIONS = {"auto": _auto, "kinds": _kinds, "cascade": _cascade, "peers": _peers}


if __name__ == "__main__":
    main()
