"""What deploy/ says, read back for its tests: documents, Dockerfiles, units, command lines."""

import json
import shlex
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
PROGRAM = "edgeloop"
INSTRUCTIONS = {"ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM"} | {
    *("HEALTHCHECK", "LABEL", "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR")
}


@dataclass(frozen=True)
class Command:
    """One call of edgeloop: where it is written, and what follows the program's name."""

    where: str
    arguments: tuple[str, ...]


def documents(path: Path) -> list[dict[str, Any]]:
    """Every document of a YAML file."""
    return [d for d in yaml.safe_load_all(path.read_text(encoding="utf-8")) if d is not None]


def dockerfile(name: str) -> list[tuple[str, str]]:
    """(instruction, arguments) of deploy/docker/<name>, continued lines joined."""
    text = (DEPLOY / "docker" / name).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    pairs = [line.split(None, 1) for line in joined if line.strip()]
    return [(pair[0], " ".join(pair[1].split())) for pair in pairs]


def unit(name: str) -> dict[str, dict[str, list[str]]]:
    """Section -> key -> values of deploy/systemd/<name>, in the order they are written."""
    sections: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    section = ""
    for line in (DEPLOY / "systemd" / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, value = line.split("=", 1)
            sections[section][key].append(value)
    return sections


def cron_lines() -> list[tuple[str, str, str]]:
    """(schedule, user, command) of deploy/cron/edgeloop."""
    text = (DEPLOY / "cron" / "edgeloop").read_text(encoding="utf-8")
    jobs = [line for line in text.splitlines() if line[:1].isdigit() or line[:1] == "*"]
    fields = [line.split(None, 6) for line in jobs]
    return [(" ".join(f[:5]), f[5], f[6]) for f in fields]


def kubernetes(name: str, kind: str) -> dict[str, Any]:
    """The one object of this kind in deploy/kubernetes/<name>."""
    (found,) = [d for d in documents(DEPLOY / "kubernetes" / name) if d["kind"] == kind]
    return found


def containers() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(where, pod spec, container) of the Deployment and of the CronJob."""
    pods = {
        "deployment.yaml": kubernetes("deployment.yaml", "Deployment")["spec"],
        "cronjob.yaml": kubernetes("cronjob.yaml", "CronJob")["spec"]["jobTemplate"]["spec"],
    }
    for where, spec in pods.items():
        pod = spec["template"]["spec"]
        for container in pod["containers"]:
            yield where, pod, container


def commands() -> list[Command]:
    """Every call of edgeloop in deploy/ and in docs/operations.md."""
    return [
        *_image_commands(),
        *_shell_commands("cron/edgeloop", "\n".join(c for _, _, c in cron_lines())),
        *_unit_commands(),
        *_kubernetes_commands(),
        *_shell_commands("docs/operations.md", shell_blocks(ROOT / "docs" / "operations.md")),
    ]


def shell_blocks(page: Path) -> str:
    """The text of a page's ```sh blocks."""
    parts = page.read_text(encoding="utf-8").split("```sh\n")[1:]
    return "\n".join(part.split("```", 1)[0] for part in parts)


def _image_commands() -> Iterator[Command]:
    for name in ("serve.Dockerfile", "train.Dockerfile"):
        instructions = dict(dockerfile(name))
        words = json.loads(instructions["ENTRYPOINT"]) + json.loads(instructions["CMD"])
        yield from _calls(f"docker/{name}", words)
    (compose,) = documents(DEPLOY / "compose" / "compose.yaml")
    for name, service in compose["services"].items():
        if "build" in service:
            yield Command(f"compose.yaml: {name}", tuple(service["command"]))


def _unit_commands() -> Iterator[Command]:
    for path in sorted((DEPLOY / "systemd").glob("*.service")):
        for line in unit(path.name)["Service"]["ExecStart"]:
            yield from _calls(path.name, shlex.split(line))


def _kubernetes_commands() -> Iterator[Command]:
    for where, _, container in containers():
        if "command" in container:
            yield from _shell_commands(where, container["args"][0])
        else:
            yield Command(where, tuple(container["args"]))


def _shell_commands(where: str, script: str) -> Iterator[Command]:
    for line in script.replace("\\\n", " ").splitlines():
        yield from _calls(where, shlex.split(line, comments=True))


def _calls(where: str, words: list[str]) -> Iterator[Command]:
    """`PROGRAM word ...` up to the shell's next operator; a path or a user of that name is none."""
    for position, word in enumerate(words[:-1]):
        if word.rsplit("/", 1)[-1] == PROGRAM and words[position + 1].isalpha():
            rest = words[position + 1 :]
            end = next((n for n, w in enumerate(rest) if w[0] in "|&;<>" or w[:2] == "2>"), None)
            yield Command(where, tuple(rest[:end]))


def boards() -> dict[str, dict[str, Any]]:
    """The committed boards by file name."""
    files = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
    return {file.name: json.loads(file.read_text(encoding="utf-8")) for file in files}


def board_expressions() -> list[str]:
    """Every PromQL expression of the boards: panels and annotations."""
    found: list[str] = []
    for board in boards().values():
        targets = [target for panel in board["panels"] for target in panel.get("targets", ())]
        found += [query["expr"] for query in [*targets, *board["annotations"]["list"]]]
    return found


def rules(name: str) -> list[dict[str, Any]]:
    """Every rule of deploy/prometheus/<name>."""
    (document,) = documents(DEPLOY / "prometheus" / name)
    return [rule for group in document["groups"] for rule in group["rules"]]


def recorded() -> set[str]:
    """The names that the recording rules make."""
    return {rule["record"] for rule in rules("recording.yml")}


def expressions() -> list[str]:
    """Every PromQL expression of the boards and the rules."""
    queries = [*rules("recording.yml"), *rules("rules.yml")]
    return [*board_expressions(), *(str(rule["expr"]) for rule in queries)]
