"""python -m bench.serve [--quick] [--data ../shared/data] [--only PART ...] [--keep FOLDER]

Serves the model that bench.compress trains (and trains it where it is not kept) as int8 and as a
cascade, beside peers in environments of their own (bench/serve/peers.sh makes them), under load by
wrk on the same cores; keeps each part's figures in a folder, and ends with one line of JSON.
"""

from typing import Any

from bench.compress.parts import Setting as Compressed
from bench.report import finish, read_options, run_parts, table
from bench.serve.parts import (
    BY_PROCESSES,
    CASCADE,
    CASCADE_BY_PROCESSES,
    CONNECTIONS,
    OURS,
    OWN,
    PARTS,
    Setting,
)

PACKAGES = ("onnxruntime", "tokenizers", "uvicorn", "uvloop", "msgspec")
MEGABYTE = 1_000_000
WATCHED = "drift and capture"
CAVEATS = (
    "## Caveats\n\nwrk runs on the same cores as the server. Requests per second are medians over "
    "rounds in which all sides take turns, each in a process tree of its own; milliseconds are "
    "those of a shared virtual machine: compare within a table."
)


def main() -> None:
    """See the module."""
    options = read_options("serve", PARTS, "build/bench")
    suffix = "quick" if options.quick else ""
    model, home = ((options.keep / name / suffix).resolve() for name in ("compress", "serve"))
    setting = Setting(Compressed(options.data, model, options.quick), home, options.quick)
    found = run_parts(PARTS, options.only, setting, home)
    sections = [SECTIONS[name](found[name]) for name in found] + [CAVEATS]
    finish("serve", sections, PACKAGES, summary(found))


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """The figures that the benchmark promises; null where their part was not run."""
    http = found.get("http", {})
    return {
        **_ratios(http),
        "p99_over_p50": _ratio(found.get("tail", {}), "p99_ms", "p50_ms"),
        "install_mb": _megabytes(found.get("install", {}).get("bytes")),
        "overload_reject_p99_ms": found.get("overload", {}).get("reject_p99_ms"),
        "observed_rps_ratio": found.get("observed", {}).get("ratio", {}).get(WATCHED),
        "swap_failures": found.get("swaps", {}).get("failures"),
        "drain_resets": found.get("drain", {}).get("resets"),
        "soak_rss_growth": found.get("soak", {}).get("growth"),
        "peers": {n: s["8"]["rps"] for n, s in _peers(http).items()},
    }


def _ratios(http: dict[str, Any]) -> dict[str, Any]:
    keys = ("ceiling_rps", "http_rps", "http_ceiling_ratio", "best_peer", "best_peer_ratio")
    if not http:
        return dict.fromkeys(keys)
    own, peers = http["sides"][OURS], _peers(http)
    best = max(peers, key=lambda name: peers[name]["8"]["rps"], default=None)
    return {
        "ceiling_rps": http["ceiling_rps"],
        "http_rps": {c: own[str(c)]["rps"] for c in CONNECTIONS},
        "http_ceiling_ratio": _of_ceiling(http, OURS),
        "best_peer": best,
        "best_peer_ratio": _over_best_loaded(http, OURS),
        "best_peer_ratio_single": _over_best(http, OURS, "1"),
        "cascade_best_peer_ratio": _over_best_loaded(http, CASCADE),
        "processes": {
            "http_ceiling_ratio": _of_ceiling(http, BY_PROCESSES),
            "best_peer_ratio": _over_best_loaded(http, BY_PROCESSES),
            "best_peer_ratio_single": _over_best(http, BY_PROCESSES, "1"),
            "cascade_best_peer_ratio": _over_best_loaded(http, CASCADE_BY_PROCESSES),
        },
        "cold_start_seconds": own["cold_start_seconds"],
        "rss_mb": _megabytes(own["rss_bytes"]),
    }


def _of_ceiling(http: dict[str, Any], name: str) -> float:
    """Requests per second at 8 or 32, whichever are fewer, over the ceiling."""
    side = http["sides"][name]
    return float(min(side["8"]["rps"], side["32"]["rps"]) / http["ceiling_rps"])


def _over_best_loaded(http: dict[str, Any], name: str) -> float:
    """At 8 or 32, whichever is less."""
    return min(_over_best(http, name, connections) for connections in ("8", "32"))


def _over_best(http: dict[str, Any], name: str, connections: str) -> float:
    """Requests per second over those of the best peer at the same load; nan without any."""
    rps = [peer[connections]["rps"] for peer in _peers(http).values()]
    return float(http["sides"][name][connections]["rps"] / max(rps, default=float("nan")))


def _peers(http: dict[str, Any]) -> dict[str, Any]:
    sides: dict[str, Any] = http.get("sides", {})
    return {name: side for name, side in sides.items() if name not in OWN}


def _ratio(found: dict[str, Any], over: str, under: str) -> float | None:
    return found[over] / found[under] if found else None


def _megabytes(size_bytes: float | None) -> float | None:
    return None if size_bytes is None else size_bytes / MEGABYTE


def _http(found: dict[str, Any]) -> str:
    rows: list[tuple[object, ...]] = [
        (
            name,
            *(
                f"{s[str(c)]['rps']:.0f} ({s[str(c)]['p50_ms']:.1f} / {s[str(c)]['p99_ms']:.1f})"
                for c in CONNECTIONS
            ),
            f"{s['8']['cpu_ms']:.2f}",
            f"{s['rss_bytes'] / MEGABYTE:.0f}",
            f"{s['pss_bytes'] / MEGABYTE:.0f}",
            f"{s['cold_start_seconds']:.2f}",
            s["errors"],
        )
        for name, s in found["sides"].items()
    ]
    rows += [(name, why, *[""] * 7) for name, why in found["problems"].items()]
    head = (
        *("server", *(f"at {c}: requests/s (p50 / p99 ms)" for c in CONNECTIONS)),
        *("CPU ms per request at 8", "RSS MB", "PSS MB", "cold start s", "errors"),
    )
    return (
        "## One text per request, the same int8 model\n\nThe ceiling, two sessions of one thread "
        f"in process, tokenizing included: {found['ceiling_rps']:.0f} texts/s "
        f"({', '.join(f'{value:.0f}' for value in found['ceilings'])}).\n\n{table(head, rows)}"
    )


def _tail(found: dict[str, Any]) -> str:
    return (
        f"## Latency at 70% load\n\n{found['rate']:.0f} requests/s at random times: p50 "
        f"{found['p50_ms']:.2f} ms, p99 {found['p99_ms']:.2f} ms from when each was due "
        f"({found['answered']} answered, {found['other']} not)."
    )


def _overload(found: dict[str, Any]) -> str:
    return (
        f"## Four times too much\n\n{found['rate']:.0f} requests/s: {found['answered']} answered "
        f"(p99 {found['answer_p99_ms']:.0f} ms), {found['refused']} refused with 503 (p50 "
        f"{found['reject_p50_ms']:.1f} ms, p99 {found['reject_p99_ms']:.1f} ms), "
        f"{found['expired']} expired, {found['broken']} connections broken."
    )


def _install(found: dict[str, Any]) -> str:
    largest = ", ".join(f"{n} {size / MEGABYTE:.0f}" for n, size in found["largest"].items())
    torch = "with torch" if found["has_torch"] else "without torch"
    return (
        f"## Install\n\n`edgeloop[cpu]`: {found['bytes'] / MEGABYTE:.0f} MB, {torch}. Largest, MB: "
        f"{largest}."
    )


def _observed(found: dict[str, Any]) -> str:
    rows = [(n, f"{found['rps'][n]:.0f}", f"{r:.3f}") for n, r in found["ratio"].items()]
    head = ("watching", "requests/s at 32", "ratio, median of turns")
    return f"## Drift monitor and capture\n\n{table(head, rows)}"


def _swaps(found: dict[str, Any]) -> str:
    return (
        f"## Swaps under load\n\n{found['swaps']} swaps in {found['seconds']:.0f} s "
        f"({found['refused']} refused), {found['answers']} answers, {found['failures']} of them "
        f"not 200, broken or another bundle's; p99 {found['p99_ms']:.1f} ms."
    )


def _drain(found: dict[str, Any]) -> str:
    return (
        f"## SIGTERM under load\n\n{found['rounds']} times: {found['answered']} answered, "
        f"{found['resets']} reset or refused, {found['found_the_port_closed']} attempts found the "
        f"port closed afterwards; exit codes {found['exit_codes']}."
    )


def _soak(found: dict[str, Any]) -> str:
    sizes = [size / MEGABYTE for size in found["rss_bytes"]]
    return (
        f"## Soak\n\n{15 * len(sizes)} s of mixed lengths at concurrency 32: memory from "
        f"{sizes[0]:.1f} to {sizes[-1]:.1f} MB ({100 * found['growth']:+.1f}%), most "
        f"{max(sizes):.1f}."
    )


SECTIONS = {
    "http": _http,
    "tail": _tail,
    "overload": _overload,
    "install": _install,
    "observed": _observed,
    "swaps": _swaps,
    "drain": _drain,
    "soak": _soak,
}


if __name__ == "__main__":
    main()
