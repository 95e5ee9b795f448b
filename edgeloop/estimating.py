"""`edgeloop estimate`: what a run will need, by running a part of it, each method in a process of
its own that imports what a run imports.

Run as `python -m edgeloop.estimating METHOD STARTED`: reads a recipe, writes a probe as JSON.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from pydantic import ValidationError

from edgeloop import errors
from edgeloop.errors import EdgeloopError, TrainingError
from edgeloop.processes import last_line, module_command, module_environment
from edgeloop.recipe import Recipe
from edgeloop.records import Estimate, MethodEstimate, Probe

COMPARED = ("full", "lora", "qlora")

Progress = Callable[[str], None]


def estimate(recipe: Recipe, progress: Progress, methods: Sequence[str] = COMPARED) -> Estimate:
    """The recipe's own method beside the others.

    Raises DatasetError and RecipeError as `edgeloop check` does, and what training by the recipe's
    own method would raise; another method that cannot be trained is said to be so.
    """
    from finetune.estimate import estimate_method, estimate_search

    own, found = recipe.finetune.method, list[MethodEstimate]()
    search = None
    for method in dict.fromkeys([*methods, own]):
        progress(f"trying {method}")
        try:
            probed = probe(recipe, method)
        except TrainingError as problem:
            if method == own:
                raise
            found.append(MethodEstimate(method=method, problem=str(problem)))
            continue
        found.append(estimate_method(recipe, probed))
        if method == own:
            search = estimate_search(recipe, probed)
    epochs = recipe.finetune.training.num_train_epochs
    return Estimate(own=own, epochs=epochs, methods=tuple(found), search=search)


def probe(recipe: Recipe, method: str) -> Probe:
    """finetune.probe in a process of its own. Raises what it raised there, TrainingError where the
    process did not end by itself."""
    process = subprocess.run(
        module_command("edgeloop.estimating", method, str(time.time())),
        env=module_environment(),
        input=recipe.to_bytes(),
        capture_output=True,
        check=False,
    )
    try:
        return Probe.model_validate_json(process.stdout)
    except ValidationError:
        pass
    said = last_line(process.stderr.decode(errors="replace"))
    kind, _, message = said.partition(": ")
    raised = getattr(errors, kind, None)
    if process.returncode == 1 and raised is not None:
        raise raised(json.loads(message))
    raise TrainingError(
        f"trying method {method} ended with {process.returncode} ({said}); -9 is the kernel's when "
        "memory runs out"
    )


def main() -> int:
    """The process; its answer is on standard output, its error the last line of standard error."""
    import edgeloop.loop  # noqa: F401  what a run imports is in its memory and its time
    from finetune.probe import probe as measure

    recipe = Recipe.model_validate_json(sys.stdin.buffer.read())
    try:
        found = measure(recipe, sys.argv[1], float(sys.argv[2]))
    except EdgeloopError as problem:
        print(f"{type(problem).__name__}: {json.dumps(str(problem))}", file=sys.stderr)
        return 1
    sys.stdout.buffer.write(found.to_bytes())
    return 0


if __name__ == "__main__":
    sys.exit(main())
