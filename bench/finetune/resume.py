"""A hyperparameter search that is killed with SIGKILL in the middle of a trial, and goes on."""

import json
import os
import re
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

from edgeloop.processes import module_command, module_environment

TRIAL_ENDS = re.compile(r"trial \d+: .* s\)$")
INTO_THE_NEXT_SECONDS = 3.0


def killed_search(recipe: Path, home: Path, finished_before_kill: int) -> dict[str, Any]:
    """Run the search, kill it once so many trials are finished and another is running, run it
    again. Counts of trials by their ends, and what was found."""
    command = module_command("edgeloop", "finetune", str(recipe), "--json")
    environment = module_environment(EDGELOOP_HOME=str(home))
    first = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert first.stderr is not None
    seen = 0
    for line in first.stderr:
        seen += bool(TRIAL_ENDS.search(line))
        if seen >= finished_before_kill:
            break
    time.sleep(INTO_THE_NEXT_SECONDS)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    second = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found = json.loads(second.stdout)["search"]
    return {
        "killed_after_trials": seen,
        "trials": dict(Counter(trial["state"] for trial in found["trials"])),
        "parameters": found["parameters"],
        "metric": found["metric"],
    }
