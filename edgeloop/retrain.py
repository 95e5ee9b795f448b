"""Decide, train, gate, promote: what the nightly job runs. Command: `edgeloop retrain`.

The decision is a pure function of the ledger's state (monitor.decide). Training is the same loop
that made the champion, on the old rows and the labelled ones; the gate compares the two artefacts;
the promotion is one transaction. A killed job is simply run again: the ledger then gives the same
decision, and the run goes on in the same folder.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgeloop.bundle import Bundle, open_bundle
from edgeloop.errors import LedgerError
from edgeloop.gate import compare, correct
from edgeloop.labelling import check_labelled_by_word
from edgeloop.lease import held
from edgeloop.ledger import (
    FEEDBACK,
    Deployment,
    LabelledRow,
    Lease,
    Ledger,
    RunEntry,
    RunResult,
)
from edgeloop.loop import Run, run_inputs, run_loop
from edgeloop.recipe import Recipe
from edgeloop.records import Decision, Gate
from edgeloop.rows import Row, read_rows
from edgeloop.rundir import digest_of
from edgeloop.tasks import TASKS
from finetune.extra import MIN_ROWS_PER_LABEL
from monitor.decide import LoopState, decide, schedule_due

logger = logging.getLogger(__name__)

TRIGGER = "edgeloop retrain"
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What a call of `retrain` came to."""

    decision: Decision
    run: Run | None = None
    gate: Gate | None = None
    deployed: Deployment | None = None

    @property
    def refused(self) -> bool:
        """A challenger was trained and is not served: its gate or its budget said no."""
        return self.run is not None and self.deployed is None

    def document(self) -> dict[str, Any]:
        """The outcome as plain values."""
        document: dict[str, Any] = {"decision": self.decision.model_dump(mode="json")}
        if self.run is not None:
            document["run"] = self.run.id
            document["infeasible"] = self.run.infeasible
            if self.run.retention is not None:
                document["retention"] = self.run.retention.model_dump(
                    mode="json", exclude={"files", "inputs_digest"}
                )
            if self.run.certificate is not None:
                document["certificate"] = self.run.certificate.model_dump(
                    mode="json", exclude={"files", "inputs_digest"}
                )
        if self.gate is not None:
            document["gate"] = self.gate.model_dump(mode="json")
        if self.deployed is not None:
            document["deployed"] = self.deployed.bundle_digest
        return document


@dataclass(frozen=True)
class Material:
    """What a retraining would be made of. `new`: labels that no retraining was made of yet."""

    champion: Bundle
    deployment: Deployment
    labels: Sequence[LabelledRow]
    new: Sequence[LabelledRow]
    disagreeing: Sequence[str]
    inputs_digest: str

    @property
    def sampled(self) -> list[LabelledRow]:
        """New rows that tell the champion's accuracy. People report what was answered wrongly:
        feedback is no uniform sample, it is only trained on."""
        return [row for row in self.new if row.source != FEEDBACK]

    def unknown_classes(self) -> tuple[str, ...]:
        """Labels that the champion does not know, with enough rows to be trained on: one mistyped
        label must not train."""
        task = TASKS[self.champion.manifest.task]
        counts = Counter(label for row in self.new for label in task.read_label(row.label) or ())
        known = set(self.champion.manifest.labels)
        return tuple(
            sorted(
                label
                for label, count in counts.items()
                if count >= MIN_ROWS_PER_LABEL and label not in known
            )
        )


def explain(recipe: Recipe, ledger: Ledger) -> Decision:
    """The decision as it would be made now; nothing is written."""
    check_labelled_by_word(recipe)
    return _decide(recipe, ledger, _gather(recipe, ledger))


def retrain(recipe: Recipe, home: Path, ledger: Ledger, progress: Progress) -> Outcome:
    """Decide and, where it is worth it, train, gate and promote.

    Raises RecipeError where the task's rows cannot be labelled through the ledger, LedgerError
    where nothing is deployed, or another process is retraining this model, or took the lease over
    before the promotion.
    """
    check_labelled_by_word(recipe)
    with held(ledger, recipe.name) as lease:
        if lease is None:
            raise LedgerError(
                f"another process is retraining {recipe.name}; `edgeloop history {recipe.name}` "
                "shows its run"
            )
        material = _gather(recipe, ledger)
        decision = _decide(recipe, ledger, material)
        ledger.add_decision(decision)
        progress(f"decision: {decision.action} ({'; '.join(decision.reasons)})")
        if decision.action != "retrain":
            return Outcome(decision)
        return _train(recipe, home, ledger, lease, decision, material, progress)


def _gather(recipe: Recipe, ledger: Ledger) -> Material:
    deployment = ledger.deployed(recipe.name)
    if deployment is None:
        raise LedgerError(f"nothing is deployed for {recipe.name}; `edgeloop run` makes the first")
    labels, disagreeing = ledger.labels(recipe.name)
    used = {row_id for entry in _retrainings(ledger, recipe) for row_id in entry.document["labels"]}
    return Material(
        champion=open_bundle(deployment.path),
        deployment=deployment,
        labels=labels,
        new=[row for row in labels if row.id not in used],
        disagreeing=disagreeing,
        inputs_digest=digest_of(run_inputs(recipe, labels)),
    )


def _retrainings(ledger: Ledger, recipe: Recipe) -> list[RunEntry]:
    """Retrainings that came to an end, oldest first."""
    return [
        entry
        for entry in ledger.runs(recipe.name)
        if entry.trigger == TRIGGER and entry.finished_at is not None
    ]


def _decide(recipe: Recipe, ledger: Ledger, material: Material) -> Decision:
    now = datetime.now(UTC)
    finished = _retrainings(ledger, recipe)
    last = datetime.fromisoformat(finished[-1].finished_at or "") if finished else None
    since = last or datetime.fromisoformat(material.deployment.at)
    schedule = recipe.retrain.schedule
    sampled = material.sampled
    right = correct(material.champion, _rows(recipe, sampled)) if sampled else None
    state = LoopState(
        model=recipe.name,
        now=now,
        alarms=_alarms(ledger, material.deployment),
        new_labels=len(sampled),
        labels_per_round=recipe.retrain.labels_per_round,
        labelled_correct=None if right is None else int(right.sum()),
        unknown_classes=material.unknown_classes(),
        accuracy_floor=recipe.monitor.accuracy_floor,
        last_training_finished=last,
        cooldown_hours=recipe.retrain.cooldown_hours,
        scheduled=schedule is not None and schedule_due(schedule, since, now),
        trained_already=any(
            entry.document["inputs_digest"] == material.inputs_digest for entry in finished
        ),
    )
    return decide(state)


def _rows(recipe: Recipe, labelled: Sequence[LabelledRow]) -> list[Row]:
    task = TASKS[recipe.task]
    return [Row(row.id, row.text, task.read_label(row.label) or ()) for row in labelled]


def _alarms(ledger: Ledger, deployment: Deployment) -> int:
    """Alarms of this deployment: an older one of the same bundle was answered already."""
    since = datetime.fromisoformat(deployment.at)
    return sum(
        verdict.bundle_digest == deployment.bundle_digest
        and datetime.fromisoformat(verdict.at) >= since
        for verdict in ledger.verdicts(deployment.model)
    )


def _train(
    recipe: Recipe,
    home: Path,
    ledger: Ledger,
    lease: Lease,
    decision: Decision,
    material: Material,
    progress: Progress,
) -> Outcome:
    if material.disagreeing:
        logger.warning("rows=%d left out: their labels disagree", len(material.disagreeing))

    def note(run: Run) -> None:
        assert run.dataset is not None
        ledger.start_run(run.id, recipe.name, TRIGGER, run.folder.root, run.dataset.digest)

    run = run_loop(
        recipe, home, progress, "bundle", material.labels, note, previous=material.champion
    )
    document: dict[str, Any] = {
        "inputs_digest": material.inputs_digest,
        "labels": [row.id for row in material.labels],
    }
    if run.bundle is None:
        ledger.finish_run(RunResult(run.id, run.result, document))
        return Outcome(decision, run)
    rows = run.folder.folder("dataset")
    verdict = compare(
        recipe,
        material.champion,
        run.bundle,
        golden=read_rows(rows, "test"),
        fresh=read_rows(rows, "fresh"),
    )
    document["gate"] = verdict.model_dump(mode="json")
    if not verdict.promoted:
        ledger.finish_run(RunResult(run.id, "rejected", document))
        return Outcome(decision, run, verdict)
    deployed = ledger.promote(
        recipe.name,
        run.bundle.digest,
        run.bundle.path,
        "; ".join(verdict.reasons),
        lease,
        RunResult(run.id, "promoted", document),
        expected=material.deployment,
    )
    return Outcome(decision, run, verdict, deployed)
