"""The whole loop on real text, through the command line, as a person would type it.

    make demo        (or: python examples/support_tickets/demo.py)

Fine-tunes, merges, compresses, serves, sends ordinary and then shifted traffic, labels a sample,
retrains, and swaps the model under load. Everything it writes goes to build/demo.
"""

import csv
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from edgeloop import show

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OUT = ROOT / "build" / "demo"
RECIPE = HERE / "recipe.yaml"
DATA = HERE / "data"
NAME = "support-tickets"
SWAP_WAIT_SECONDS = 60.0
START_WAIT_SECONDS = 30.0
PAUSE_BETWEEN_REQUESTS_SECONDS = 0.02
STARTED = time.monotonic()


def heading(text: str) -> None:
    print(f"\n== {text}  [{time.monotonic() - STARTED:.0f} s]", flush=True)


def edgeloop(*words: str) -> str:
    """Run one command, show it, and return what it printed. A failure ends the demo."""
    print(f"$ edgeloop {' '.join(words)}", flush=True)
    command = [sys.executable, "-m", "edgeloop", *words]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        print(done.stdout)
        sys.exit(done.returncode)
    return done.stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(port: int) -> Iterator[str]:
    """`edgeloop serve --follow`, stopped with SIGTERM at the end."""
    words = ["serve", "--follow", NAME, "--port", str(port)]
    print(f"$ edgeloop {' '.join(words)} &", flush=True)
    with (OUT / "server.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "edgeloop", *words], cwd=ROOT, stdout=log, stderr=log
        )
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until_healthy(url, process)
            yield url
        finally:
            process.terminate()
            print(f"server ended with exit code {process.wait(timeout=30)}")


def wait_until_healthy(url: str, process: subprocess.Popen[bytes]) -> None:
    started = time.monotonic()
    while time.monotonic() - started < START_WAIT_SECONDS:
        if process.poll() is not None:
            break
        try:
            if httpx.get(f"{url}/health").status_code == 200:
                print(f"server answers after {time.monotonic() - started:.1f} s")
                return
        except httpx.TransportError:
            time.sleep(0.05)
    sys.exit(f"the server did not start; see {OUT / 'server.log'}")


@dataclass
class Client:
    """A customer who keeps asking while the model is swapped."""

    url: str
    texts: list[str]
    sent: int = 0
    failed: int = 0
    bundles: set[str] = field(default_factory=set)
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with httpx.Client() as client:
            while not self._stop.is_set():
                text = self.texts[self.sent % len(self.texts)]
                self.sent += 1
                try:
                    answer = client.post(f"{self.url}/predict", json={"inputs": text})
                    self.failed += answer.status_code != 200
                    self.bundles.add(answer.headers.get("x-edgeloop-bundle", ""))
                except httpx.TransportError:
                    self.failed += 1
                time.sleep(PAUSE_BETWEEN_REQUESTS_SECONDS)

    @contextmanager
    def asking(self) -> Iterator["Client"]:
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join()


def replay(name: str, file: Path, url: str, *options: str) -> dict[str, Any]:
    """`edgeloop monitor replay`, its result kept for the report."""
    words = ("monitor", "replay", shown(file), "--url", url, *options, "--json")
    document: dict[str, Any] = json.loads(edgeloop(*words))
    (OUT / f"{name}.json").write_text(json.dumps(document))
    print(show.replay(document))
    return document


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def rows_without(file: Path, ids: set[str], out: Path) -> Path:
    """Copy a csv without the rows whose answers were given away."""
    with file.open(newline="", encoding="utf-8") as source:
        reader = csv.DictReader(source)
        kept = [row for row in reader if row["id"] not in ids]
        names = list(reader.fieldnames or ())
    with out.open("w", newline="", encoding="utf-8") as target:
        writer = csv.DictWriter(target, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
    return out


def wait_for_swap(url: str, digest: str) -> float:
    started = time.monotonic()
    while time.monotonic() - started < SWAP_WAIT_SECONDS:
        if httpx.get(f"{url}/info").json()["bundle_digest"] == digest:
            return time.monotonic() - started
        time.sleep(0.05)
    sys.exit(f"the server did not take the new bundle; see {OUT / 'server.log'}")


def main() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    os.environ["EDGELOOP_HOME"] = str(OUT / "home")
    os.environ["HF_HUB_OFFLINE"] = "1"
    recipe = shown(RECIPE)

    heading("1. Check the recipe and its rows")
    print(edgeloop("check", recipe))
    heading("2. Fine-tune, merge with proof, compress under the budget, ship")
    run = json.loads(edgeloop("run", recipe, "--json"))
    print(show.run(run))
    print(edgeloop("bundle", "verify", shown(Path(run["bundle"]["path"]))))

    heading("3. Serve, and send ordinary traffic")
    with server(free_port()) as url:
        ordinary = replay("ordinary traffic", DATA / "test.csv", url)
        heading("4. A new product is launched: the traffic shifts")
        shifted = replay("shifted traffic", DATA / "shifted.csv", url, "--stop-at-alarm")
        heading("5. A person labels a sample; the rest stays unseen")
        answers = shown(DATA / "shifted.csv")
        labelled = json.loads(edgeloop("label", recipe, "--answers", answers, "--json"))
        print(show.labelled(labelled))
        unseen = rows_without(DATA / "shifted.csv", set(labelled["ids"]), OUT / "unseen.csv")
        before = replay("unseen before", unseen, url)
        heading("6. Decide, retrain, gate, promote; the server swaps while requests flow")
        with (DATA / "test.csv").open(newline="", encoding="utf-8") as source:
            client = Client(url, [row["text"] for row in csv.DictReader(source)])
        with client.asking():
            retrained = json.loads(edgeloop("retrain", recipe, "--json"))
            print(show.retrained(retrained))
            seconds = wait_for_swap(url, retrained["deployed"])
            time.sleep(1.0)
        heading("7. The same traffic on the new model")
        ordinary_after = replay("ordinary after", DATA / "test.csv", url)
        after = replay("unseen after", unseen, url)

    figures = {
        "accuracy on ordinary traffic": accuracies(ordinary, ordinary_after),
        f"accuracy on shifted traffic ({before['sent']} unseen rows)": accuracies(before, after),
        "alarms on ordinary traffic": "none" if ordinary["verdict"] is None else "1",
        "requests until the alarm, all traffic shifted": until_alarm(shifted),
        "requests while retraining and swapping": f"{client.sent} sent, {client.failed} failed",
        "bundles that answered them": str(len(client.bundles)),
        "pointer moved to server swapped": f"{seconds:.1f} s",
        **candidate_figures(run),
        "whole demo": f"{time.monotonic() - STARTED:.0f} s",
    }
    (OUT / "summary.json").write_text(json.dumps(figures))
    heading("8. What came of it")
    print(show.columns(["what", "figure"], list(figures.items())))
    edgeloop("history", NAME)
    print(write_report())


def accuracies(before: dict[str, Any], after: dict[str, Any]) -> str:
    return f"{before['accuracy']:.3f} before, {after['accuracy']:.3f} after retraining"


def until_alarm(replayed: dict[str, Any]) -> str:
    return "no alarm" if replayed["verdict"] is None else str(replayed["requests_until_alarm"])


def candidate_figures(run: dict[str, Any]) -> dict[str, str]:
    """Size and latency of every candidate of the first run, as measured."""
    return {
        f"{c['kind']}": f"{c['measurement']['size_bytes'] / 1e6:.1f} MB, "
        f"p50 {c['measurement']['latency_p50_ms']['value']:.2f} ms, "
        f"p95 {c['measurement']['latency_p95_ms']['value']:.2f} ms"
        for c in run["certificate"]["candidates"]
    }


def write_report() -> str:
    words = ["report", NAME, "--out", shown(OUT / "report.html")]
    words += ["--summary", shown(OUT / "summary.json")]
    for name in ("ordinary traffic", "shifted traffic"):
        words += ["--replay", shown(OUT / f"{name}.json")]
    return edgeloop(*words)


if __name__ == "__main__":
    main()
