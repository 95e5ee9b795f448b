"""deploy/ is read as its readers read it: what is named exists, what must be set is set."""

import re
import tomllib
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import typer
from cronsim import CronSim

from tests.deployed import (
    DEPLOY,
    INSTRUCTIONS,
    ROOT,
    commands,
    containers,
    cron_lines,
    dockerfile,
    documents,
    kubernetes,
    rules,
    unit,
)

DOCKERFILES = ("serve.Dockerfile", "train.Dockerfile")
YAML_FILES = sorted([*DEPLOY.rglob("*.yaml"), *DEPLOY.rglob("*.yml")])
COMPOSE = DEPLOY / "compose" / "compose.yaml"


def services() -> dict[str, dict[str, Any]]:
    (compose,) = documents(COMPOSE)
    found: dict[str, dict[str, Any]] = compose["services"]
    return found


def prometheus() -> dict[str, Any]:
    (document,) = documents(DEPLOY / "prometheus" / "prometheus.yml")
    return document


def images() -> list[str]:
    bases = [args.split()[0] for f in DOCKERFILES for name, args in dockerfile(f) if name == "FROM"]
    pods = [container["image"] for _, _, container in containers()]
    return bases + pods + [service["image"] for service in services().values()]


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda p: str(p.relative_to(DEPLOY)))
def test_every_yaml_file_holds_mappings(path: Path) -> None:
    found = documents(path)
    assert found
    assert all(isinstance(document, dict) for document in found)


@pytest.mark.parametrize("image", sorted(set(images())))
def test_images_are_pinned_and_name_no_registry(image: str) -> None:
    name, _, tag = image.partition(":")
    assert re.fullmatch(r"v?\d+\.\d+.*", tag)
    assert not re.search(r"[.:]|localhost", name.split("/")[0])


# Dockerfiles


@pytest.mark.parametrize("name", DOCKERFILES)
def test_dockerfiles_use_known_instructions_and_copy_what_exists(name: str) -> None:
    lines = dockerfile(name)
    assert lines[0][0] == "FROM"
    assert {instruction for instruction, _ in lines} <= INSTRUCTIONS
    copied = [args.split()[:-1] for i, args in lines if i == "COPY" and "--from" not in args]
    sources = [source for sources in copied for source in sources]
    allowed = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {"edgeloop", "finetune", "compress", "serve", "monitor"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), f"{name} copies {source}"
        assert f"!{source}" in allowed, f".dockerignore leaves {source} out"


@pytest.mark.parametrize("name", DOCKERFILES)
def test_images_run_as_one_numeric_user_that_is_not_root(name: str) -> None:
    lines = dockerfile(name)
    final = list(takewhile(lambda line: line[0] != "FROM", reversed(lines)))
    assert [args for instruction, args in final if instruction == "USER"] == ["10001:10001"]
    for _, pod, _ in containers():
        security = pod["securityContext"]
        assert (security["runAsUser"], security["runAsGroup"]) == (10001, 10001)


def test_server_image_installs_no_torch() -> None:
    installs = [args for name, args in dockerfile("serve.Dockerfile") if "pip install" in args]
    assert len(installs) == 1
    assert re.findall(r"\.\[([^]]*)\]", installs[0]) == ["${EXTRAS}"]
    assert ("ARG", "EXTRAS=cpu") in dockerfile("serve.Dockerfile")
    assert not re.search(r"torch|transformers", installs[0])


def test_training_image_installs_torch_before_anything_that_needs_it() -> None:
    installs = [args for name, args in dockerfile("train.Dockerfile") if "pip install" in args]
    assert "torch==2.13.*" in installs[0]
    assert "${EXTRAS}" in installs[1]
    assert ("ARG", "EXTRAS=cpu,train") in dockerfile("train.Dockerfile")


def test_server_image_is_healthy_only_when_health_answers() -> None:
    (check,) = [args for name, args in dockerfile("serve.Dockerfile") if name == "HEALTHCHECK"]
    assert "http://127.0.0.1:8080/health" in check


# Compose, Prometheus, Alertmanager, Grafana


def test_every_service_that_stays_up_has_a_health_check() -> None:
    running = {name: s for name, s in services().items() if "profiles" not in s}
    assert sorted(running) == ["alertmanager", "grafana", "prometheus", "server"]
    in_image = {"deploy/docker/serve.Dockerfile"}
    for name, service in running.items():
        has_own = "healthcheck" in service
        assert has_own or service["build"]["dockerfile"] in in_image, name


def test_compose_mounts_files_that_exist_and_declared_volumes() -> None:
    (compose,) = documents(COMPOSE)
    for service in services().values():
        for mount in service.get("volumes", []):
            source = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", mount).split(":")[0]
            if source.startswith("."):
                assert (COMPOSE.parent / source).exists(), mount
            else:
                assert source in compose["volumes"], mount


def test_only_the_server_is_published_beyond_loopback() -> None:
    for name, service in services().items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:") == (name != "server"), port


def test_build_arguments_are_extras_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = services()["train"]["build"]["args"]["EXTRAS"].split(",")
    assert set(extras) <= set(project["optional-dependencies"])


def test_prometheus_scrapes_and_alerts_the_services_of_the_compose_file() -> None:
    config = prometheus()
    jobs = {job["job_name"]: job["static_configs"][0] for job in config["scrape_configs"]}
    alertmanagers = config["alerting"]["alertmanagers"][0]["static_configs"][0]
    assert jobs["edgeloop"]["targets"] == ["server:8080"]
    assert alertmanagers["targets"] == ["alertmanager:9093"]
    assert {"server", "alertmanager"} <= set(services())
    assert set(config["rule_files"]) == {"rules.yml", "recording.yml"}
    for file in config["rule_files"]:
        assert (DEPLOY / "prometheus" / file).is_file()
        mount = f"../prometheus/{file}:/etc/prometheus/{file}:ro"
        assert mount in services()["prometheus"]["volumes"]


ALERTS = rules("rules.yml")


def headings(page: str) -> set[str]:
    """The anchors of a page's headings."""
    found = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(encoding="utf-8"), re.M)
    return {heading.lower().replace(" ", "-") for heading in found}


def test_alerts_have_names_of_their_own() -> None:
    names = [rule["alert"] for rule in ALERTS]
    assert len(set(names)) == len(names)
    assert {"DriftSuspected", "DriftHarmful", "MonitorSilent", "RetrainStuck"} <= set(names)


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: str(rule["alert"]))
def test_each_alert_has_plain_words_and_a_runbook_that_exists(rule: dict[str, Any]) -> None:
    page, anchor = rule["annotations"]["runbook"].split("#")
    assert anchor == rule["alert"].lower()
    assert anchor in headings(page)
    assert rule["labels"]["severity"] in {"page", "ticket", "none"}
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["description"].endswith(".")


def test_every_runbook_is_of_an_alert_that_exists() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^### ([A-Z][a-z]+[A-Z]\w+)$", text, re.M))
    assert told == {rule["alert"] for rule in ALERTS}


def test_the_drift_alert_does_not_wait_a_second_time() -> None:
    (rule,) = [rule for rule in ALERTS if rule["alert"] == "DriftSuspected"]
    assert "for" not in rule
    assert rule["keep_firing_for"] == "30m"


def alertmanager() -> dict[str, Any]:
    (config,) = documents(DEPLOY / "alertmanager" / "alertmanager.yml")
    return config


def test_alertmanager_routes_to_receivers_that_exist() -> None:
    config = alertmanager()
    routes = [config["route"], *config["route"]["routes"]]
    receivers = {receiver["name"] for receiver in config["receivers"]}
    assert {route["receiver"] for route in routes} == receivers


def test_alertmanager_inhibits_by_alerts_and_labels_that_exist() -> None:
    names = {rule["alert"] for rule in ALERTS}
    for rule in alertmanager()["inhibit_rules"]:
        for matcher in (*rule["source_matchers"], *rule["target_matchers"]):
            found = re.fullmatch(r'alertname=~?"([\w|]+)"', matcher)
            assert found is not None, matcher
            assert set(found[1].split("|")) <= names
        assert set(rule["equal"]) in ({"model"}, {"instance", "model"})


def test_what_keeps_drift_tickets_back_after_a_swap_ends_before_they_do() -> None:
    by_name = {rule["alert"]: rule for rule in ALERTS}
    (minutes,) = re.findall(r"\[(\d+)m\]", by_name["LoopAtWork"]["expr"])
    kept = by_name["DriftSuspected"]["keep_firing_for"]
    assert int(minutes) < int(kept.removesuffix("m"))


def test_grafana_reads_the_board_where_compose_mounts_it() -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    (boards,) = documents(provisioning / "dashboards" / "edgeloop.yaml")
    (sources,) = documents(provisioning / "datasources" / "prometheus.yaml")
    path = boards["providers"][0]["options"]["path"]
    assert f"../grafana/dashboards:{path}:ro" in services()["grafana"]["volumes"]
    assert sources["datasources"][0]["url"] == "http://prometheus:9090"


# Kubernetes


def test_the_service_reaches_the_deployments_pods() -> None:
    spec = kubernetes("deployment.yaml", "Deployment")["spec"]
    labels = spec["template"]["metadata"]["labels"]
    service = kubernetes("deployment.yaml", "Service")["spec"]
    ports = {port["name"] for port in spec["template"]["spec"]["containers"][0]["ports"]}
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    assert service["selector"].items() <= labels.items()
    assert {port["targetPort"] for port in service["ports"]} <= ports


def test_the_server_pod_is_probed_at_health() -> None:
    (container,) = [c for where, _, c in containers() if where == "deployment.yaml"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/health", "port": "http"}


@pytest.mark.parametrize(("where", "pod", "container"), list(containers()))
def test_pods_are_confined_and_mount_what_they_declare(
    where: str, pod: dict[str, Any], container: dict[str, Any]
) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    security = container["securityContext"]
    assert security["allowPrivilegeEscalation"] is False
    assert security["readOnlyRootFilesystem"] is True
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert container["resources"]["requests"]["memory"]
    assert container["resources"]["limits"]["memory"]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}, where


def test_both_pods_share_the_declared_volume() -> None:
    claim = kubernetes("deployment.yaml", "PersistentVolumeClaim")["metadata"]["name"]
    for _, pod, _ in containers():
        claims = [
            v["persistentVolumeClaim"] for v in pod["volumes"] if "persistentVolumeClaim" in v
        ]
        assert claims == [{"claimName": claim}]


def test_the_nightly_job_neither_overlaps_nor_hangs_nor_starts_much_too_late() -> None:
    spec = kubernetes("cronjob.yaml", "CronJob")["spec"]
    assert CronSim(spec["schedule"], datetime.now(UTC))
    assert spec["timeZone"] == "Etc/UTC"
    assert spec["concurrencyPolicy"] == "Forbid"
    # Below 10 seconds a CronJob may never start: the controller looks every ten.
    assert spec["startingDeadlineSeconds"] > 10
    job = spec["jobTemplate"]["spec"]
    assert job["backoffLimit"] <= 1
    assert job["activeDeadlineSeconds"] < 24 * 3600


# systemd and cron


def test_the_timer_catches_up_and_spreads_a_fleet() -> None:
    timer = unit("edgeloop-retrain.timer")["Timer"]
    assert timer["Persistent"] == ["true"]
    assert timer["RandomizedDelaySec"] == ["30min"]
    assert timer["OnCalendar"] == ["*-*-* 03:00:00"]


def test_a_failed_gate_does_not_fail_the_unit() -> None:
    from edgeloop.cli import EXIT_GATE

    service = unit("edgeloop-retrain.service")["Service"]
    assert service["Type"] == ["oneshot"]
    assert service["SuccessExitStatus"] == [str(EXIT_GATE)]


@pytest.mark.parametrize("name", ["edgeloop-serve.service", "edgeloop-retrain.service"])
def test_units_read_the_box_settings_after_their_own(name: str) -> None:
    lines = (DEPLOY / "systemd" / name).read_text(encoding="utf-8").splitlines()
    own = [n for n, line in enumerate(lines) if line.startswith("Environment=")]
    file = lines.index("EnvironmentFile=-/etc/edgeloop/edgeloop.env")
    assert own
    assert max(own) < file
    assert unit(name)["Service"]["User"] == ["edgeloop"]


def test_the_cron_job_never_runs_twice_at_once() -> None:
    ((schedule, user, command),) = cron_lines()
    assert CronSim(schedule, datetime.now(UTC))
    assert user == "edgeloop"
    assert command.startswith("flock -n /var/lib/edgeloop/")
    assert "%" not in command, "cron reads % as a line end"


# Command lines


def test_command_lines_are_found_in_every_kind_of_file() -> None:
    found = {command.where for command in commands()}
    assert found == {
        "docker/serve.Dockerfile",
        "docker/train.Dockerfile",
        "compose.yaml: server",
        "compose.yaml: train",
        "cron/edgeloop",
        "edgeloop-serve.service",
        "edgeloop-retrain.service",
        "deployment.yaml",
        "cronjob.yaml",
        "docs/operations.md",
    }


@pytest.mark.parametrize(
    ("where", "arguments"), [pytest.param(c.where, c.arguments, id=str(c)) for c in commands()]
)
def test_command_lines_name_commands_and_options_that_exist(
    where: str, arguments: tuple[str, ...]
) -> None:
    from edgeloop.cli import app

    command: Any = typer.main.get_command(app)
    words = list(arguments)
    while hasattr(command, "commands"):
        name = words.pop(0)
        assert name in command.commands, f"{where}: edgeloop has no command {name}"
        command = command.commands[name]
    # The command's own parser: unknown options and superfluous arguments are usage errors.
    context = command.make_context(command.name, words)
    assert context.params.keys() >= {p.name for p in command.params if p.required}
