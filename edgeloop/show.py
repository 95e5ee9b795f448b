"""Results of the commands: as one document for `--json`, and as text for a person."""

import dataclasses
from pathlib import Path
from typing import Any

import yaml

from edgeloop import show_certificate, show_findings, show_run
from edgeloop.bundle import Bundle
from edgeloop.columns import MEGABYTE, columns, percent
from edgeloop.ledger import Ledger

# What a run hands on, in the order of its stages.
RECORDS = (
    "dataset",
    "search",
    "adapter",
    "merged",
    "retention",
    "evaluation",
    "baselines",
    "certificate",
    "reference",
)
# The lists of a history document.
EVENTS = ("runs", "deployments", "verdicts", "decisions")


def audit_document(summary: Any) -> dict[str, Any]:
    """What finetune.dataset.summarise counted."""
    return dataclasses.asdict(summary)


def fixed_document(fixed: Any) -> dict[str, Any]:
    """What finetune.audit.fix_rows wrote."""
    return {**dataclasses.asdict(fixed), "folder": str(fixed.folder)}


def check(document: dict[str, Any]) -> str:
    """The resolved recipe, rows per split and label, then what the audit found and --fix wrote."""
    recipe = yaml.safe_dump(document["recipe"], sort_keys=False, allow_unicode=True)
    splits, counts = list(document["rows"]), document["labels"]
    labels = sorted({label for split in splits for label in counts[split]})
    rows = [[label, *(str(counts[split].get(label, 0)) for split in splits)] for label in labels]
    rows.append(["all", *(str(document["rows"][split]) for split in splits)])
    warnings = "".join(f"\nwarning: {line}" for line in document["warnings"])
    parts = [f"{recipe}\n{columns(['label', *splits], rows)}{warnings}"]
    parts.append(show_findings.findings(document["findings"]))
    if "fixed" in document:
        parts.append(show_findings.fixed(document["fixed"]))
    return "\n\n".join(parts)


def run_document(run: Any) -> dict[str, Any]:
    """What a run has come to, as far as it went."""
    document: dict[str, Any] = {"run": run.id, "folder": str(run.folder.root)}
    for stage in RECORDS:
        record = getattr(run, stage, None)
        if record is not None:
            document[stage] = record.model_dump(mode="json", exclude={"files", "inputs_digest"})
    if run.bundle is not None:
        document["bundle"] = {"path": str(run.bundle.path), "digest": run.bundle.digest}
    return document


def run(document: dict[str, Any]) -> str:
    """A run in lines: one per stage, the candidates as a table."""
    lines = [f"run        {document['folder']}"]
    if "search" in document:
        lines.append(show_run.search(document["search"]))
    if "adapter" in document:
        adapter = document["adapter"]
        best = next(e for e in adapter["epochs"] if e["epoch"] == adapter["best_epoch"])
        lines.append(
            f"adapter    {adapter['method']}, {adapter['trainable_parameters']:,} of "
            f"{adapter['total_parameters']:,} parameters, validation {adapter['metric']} "
            f"{best['validation_metric']:.3f} after epoch {best['epoch']}"
        )
    if "merged" in document:
        merged, parity = document["merged"], document["merged"]["parity"]
        lines.append(
            f"merged     {merged['adapter_tensors']} adapter tensors used; largest logit "
            f"difference {parity['max_abs_difference']:.1e} (allowed {parity['tolerance']:.0e}) "
            f"on {parity['rows']} rows"
        )
    if "retention" in document:
        lines.append(show_run.retention(document["retention"]))
    if "evaluation" in document:
        lines.append(show_run.evaluation(document["evaluation"]))
    if "baselines" in document:
        lines.append(f"\n{show_run.baselines(document['baselines'])}\n")
    if "certificate" in document:
        lines.append(show_certificate.certificate(document["certificate"]))
    if "reference" in document:
        lines.append(f"drift      {document['reference']['reason']}")
    if "bundle" in document:
        lines.append(
            f"bundle     {document['bundle']['path']}  ({document['bundle']['digest'][:12]})"
        )
        deployed = document.get("deployed")
        if deployed == document["bundle"]["digest"]:
            lines.append("deployed   yes")
        elif deployed is not None:
            lines.append(
                f"deployed   no: {deployed[:12]} stays; `edgeloop retrain` gates a new one"
            )
    return "\n".join(lines)


def compressed(document: dict[str, Any]) -> str:
    """The certificate of a folder, and where the chosen model lies."""
    text = show_certificate.certificate(document)
    return text if document["out"] is None else f"{text}\nmodel      {document['out']}"


def _marked(document: dict[str, Any]) -> str:
    if document["abstain_below"] is None:
        return "no answer as out of scope"
    return (
        f"answers of a score below {document['abstain_below']:.4f} as out of scope, at most "
        f"{percent(document['max_abstain_ratio'])} of ordinary requests"
    )


def bundle(document: dict[str, Any]) -> str:
    """A manifest in lines."""
    measured = document["measurement"]
    lines = [
        f"name       {document['name']} ({document['task']}, {document['candidate']})",
        f"digest     {document['digest']}",
        f"created    {document['created_at']}",
        f"labels     {', '.join(document['labels'])}",
        f"accuracy   {document['test_accuracy']:.3f} on the test rows",
        f"size       {measured['size_bytes'] / MEGABYTE:.1f} MB",
        f"latency    p50 {measured['latency_p50_ms']['value']:.2f} ms, "
        f"p95 {measured['latency_p95_ms']['value']:.2f} ms",
        f"drift      {document['reference']['reason']}",
        f"marks      {_marked(document)}",
    ]
    lines += [f"parent     {name} {digest[:12]}" for name, digest in document["parents"].items()]
    lines += [
        f"file       {entry['path']}  {entry['bytes']:,} bytes  {entry['sha256'][:12]}"
        for entry in document["files"]
    ]
    return "\n".join(lines)


def verified_document(bundle: Bundle, key: Path | None) -> dict[str, Any]:
    """What was checked or signed, and with which key."""
    return {
        "digest": bundle.digest,
        "files": len(bundle.manifest.files),
        "key": None if key is None else str(key),
        "ok": True,
    }


def verified(document: dict[str, Any]) -> str:
    """One line."""
    signed = "" if document["key"] is None else f"; signed for {document['key']}"
    return f"OK: {document['files']} files match the manifest ({document['digest'][:12]}){signed}"


def signed(document: dict[str, Any]) -> str:
    """One line."""
    return (
        f"signed: {document['files']} files and the manifest ({document['digest'][:12]}) "
        f"with {document['key']}"
    )


def replay(document: dict[str, Any]) -> str:
    """Whether the alarm fired, after how many requests, on what evidence, and what moved."""
    lines = [f"sent       {document['sent']} requests, {document['failed']} failed"]
    if document["accuracy"] is not None:
        lines.append(f"accuracy   {document['accuracy']:.3f} where the label is known")
    verdict = document["verdict"]
    if not document["armed"] and verdict is None:
        lines.append(
            "not armed  this model's monitor promises nothing, so this says nothing about drift; "
            "`edgeloop bundle inspect` tells why"
        )
        return "\n".join(lines)
    if verdict is None and document["alarmed_before"]:
        lines.append("no news    the alarm had fired before this traffic came")
        return "\n".join(lines)
    if verdict is None:
        lines.append(
            f"no alarm   ln evidence {document['log_evidence']:.2f}, the alarm is at "
            f"{document['threshold']:.2f}"
        )
        return "\n".join(lines)
    lines.append(f"ALARM      after {document['requests_until_alarm']} requests")
    return "\n".join([*lines, *_verdict(verdict)])


def _verdict(verdict: dict[str, Any]) -> list[str]:
    """On what evidence, since when, and what moved."""
    parts = ", ".join(f"{name} {value:.1f}" for name, value in verdict["parts"].items())
    lines = []
    if verdict["advisory"]:
        lines.append("advice     nothing is promised about how often this alarm is false")
    lines.append(
        f"evidence   {verdict['detector']}: ln {verdict['log_evidence']:.2f} above "
        f"{verdict['threshold']:.2f} ({parts})"
    )
    if verdict["onset_observation"] is not None:
        lines.append(f"began      about observation {verdict['onset_observation']}")
    for kind in ("words", "classes"):
        lines += [
            f"{kind:<10} {m['name']}: {m['reference_ratio']:.1%} of reference rows, "
            f"{m['recent_ratio']:.1%} of recent ones"
            for m in verdict[kind]
        ]
    lines += [
        f"features   {f['name']}: median {f['reference_median']:.3g} in the reference, "
        f"{f['recent_median']:.3g} now, {f['distance']:.0%} apart"
        for f in verdict["features"]
        if f["name"] in verdict["detectors"]
    ]
    if verdict["reference_rows"]:
        lines.append(f"most like  reference rows {', '.join(verdict['reference_rows'])}")
    return lines


def labelled(document: dict[str, Any]) -> str:
    """How many labels came in."""
    return (
        f"stored     {document['added']} new labels of {document['drawn']} drawn; "
        f"{document['known']} rows of {document['model']} are labelled now\n"
        f"skipped    {document['skipped']} rows of the file that were labelled already"
    )


def retrained(document: dict[str, Any]) -> str:
    """The decision with its reasons, and the gate where it came to one."""
    decision = document["decision"]
    lines = [f"decision   {decision['action']}"]
    lines += [f"because    {reason}" for reason in decision["reasons"]]
    gate = document.get("gate")
    if gate is not None:
        for name in ("golden", "fresh"):
            drop = gate[name]
            lines.append(
                f"{name:<10} champion {drop['reference_accuracy']:.3f}, challenger "
                f"{drop['candidate_accuracy']:.3f} on {drop['rows']} rows"
            )
        lines += [f"gate       {reason}" for reason in gate["reasons"]]
        lines.append("promoted   yes" if gate["promoted"] else "promoted   no")
    if "retention" in document:
        lines.append(show_run.retention(document["retention"]))
    if document.get("infeasible"):
        lines.append(show_certificate.certificate(document["certificate"]))
    if document.get("deployed"):
        lines.append(f"deployed   {document['deployed'][:12]}")
    return "\n".join(lines)


def rolled_back(document: dict[str, Any]) -> str:
    """One line."""
    return f"deployed   {document['deployed'][:12]} ({document['path']})"


def history_document(ledger: Ledger, model: str) -> dict[str, Any]:
    """Everything that the ledger knows of a model."""
    return {
        "model": model,
        "runs": [dataclasses.asdict(entry) for entry in ledger.runs(model)],
        "deployments": [
            {**dataclasses.asdict(entry), "path": str(entry.path)}
            for entry in ledger.deployments(model)
        ],
        "verdicts": [verdict.model_dump(mode="json") for verdict in ledger.verdicts(model)],
        "decisions": [decision.model_dump(mode="json") for decision in ledger.decisions(model)],
    }


def history(document: dict[str, Any]) -> str:
    """One line per event, oldest first."""
    events = [
        *((r["started_at"], "run", f"{r['id']} by {r['trigger']}") for r in document["runs"]),
        *(
            (r["finished_at"], "result", f"{r['id']}: {r['result']}")
            for r in document["runs"]
            if r["finished_at"]
        ),
        *(
            (d["at"], "deployed", f"{d['bundle_digest'][:12]} ({d['reason']})")
            for d in document["deployments"]
        ),
        *(
            (v["at"], "alarm", f"at request {v['observation']}, {v['detector']}")
            for v in document["verdicts"]
        ),
        *((d["at"], d["action"], "; ".join(d["reasons"])) for d in document["decisions"]),
    ]
    return columns(
        ["at (UTC)", "what", "which"],
        [[at[:19], what, which] for at, what, which in sorted(events)],
    )
