"""The files in deploy/: what they start exists, what they mount is there, and nothing runs as root."""

from __future__ import annotations

import configparser
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
import yaml
from guarded import guarded
from running_guard import ask
from unruly import Unruly, serving

from memberscope.cli.main import app
from memberscope.guard import parse_guard_policy, read_policy

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
NAMES = {"type": "array", "items": {"type": "string"}, "minItems": 1}
SERVICE = {
    "type": "object",
    "required": ["image", "read_only", "cap_drop", "security_opt", "restart"],
    "properties": {
        "image": {"type": "string", "pattern": "^[a-z0-9/-]+(:[0-9a-z.-]+)?$"},
        "build": {"type": "object", "required": ["context", "dockerfile"]},
        "command": {"type": "array", "items": {"type": "string"}},
        "entrypoint": NAMES,
        "read_only": {"const": True},
        "cap_drop": {"const": ["ALL"]},
        "security_opt": {"const": ["no-new-privileges:true"]},
        "restart": {"enum": ["no", "unless-stopped"]},
        "tmpfs": NAMES,
        "user": {"type": "string", "pattern": "^[1-9][0-9]*:[1-9][0-9]*$"},
        # Nothing is published to other machines by an example
        "ports": {"type": "array", "items": {"pattern": r"^127\.0\.0\.1:[0-9]+:[0-9]+$"}},
        "volumes": {"type": "array", "items": {"pattern": "^[^:]+:/[^:]+(:ro)?$"}},
        "environment": {"type": "object", "additionalProperties": {"type": "string"}},
        "depends_on": {"type": ["object", "array"]},
        "healthcheck": {"type": "object", "required": ["test", "interval", "retries"]},
        "stop_grace_period": {"type": "string", "pattern": "^[0-9]+s$"},
    },
    "additionalProperties": False,
}
COMPOSE = {
    "type": "object",
    "required": ["name", "services", "volumes"],
    "properties": {
        "name": {"type": "string"},
        "services": {"type": "object", "additionalProperties": SERVICE},
        "volumes": {"type": "object", "additionalProperties": {"const": {}}},
    },
    "patternProperties": {"^x-": {}},
    "additionalProperties": False,
}
CONTAINER = {
    "type": "object",
    "required": ["name", "image", "args", "ports", "securityContext", "resources", "volumeMounts"],
    "properties": {
        "args": NAMES,
        "securityContext": {
            "const": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
        },
        "resources": {"type": "object", "required": ["requests", "limits"]},
    },
}
POD = {
    "type": "object",
    "required": ["metadata", "spec"],
    "properties": {
        "spec": {
            "type": "object",
            "required": ["automountServiceAccountToken", "securityContext", "containers"],
            "properties": {
                "automountServiceAccountToken": {"const": False},
                "securityContext": {
                    "type": "object",
                    "required": ["runAsUser", "runAsGroup", "fsGroup", "seccompProfile"],
                    "properties": {
                        "runAsNonRoot": {"const": True},
                        "runAsUser": {"type": "integer", "minimum": 1},
                    },
                },
                "containers": {"type": "array", "items": CONTAINER, "minItems": 1},
            },
        }
    },
}
WORKLOAD = {"required": ["replicas", "selector", "template"], "properties": {"template": POD}}
KINDS = {
    "ConfigMap": ("v1", "data", {"type": "object", "additionalProperties": {"type": "string"}}),
    "Deployment": ("apps/v1", "spec", WORKLOAD),
    "StatefulSet": ("apps/v1", "spec", WORKLOAD),
    "Service": ("v1", "spec", {"required": ["selector", "ports"]}),
    "PodDisruptionBudget": ("policy/v1", "spec", {"required": ["minAvailable", "selector"]}),
    "NetworkPolicy": (
        "networking.k8s.io/v1",
        "spec",
        {"required": ["podSelector", "policyTypes", "ingress"]},
    ),
}


def read_dockerfile(word: str) -> list[str]:
    """The arguments of the last instruction of this name."""
    text = (DEPLOY / "Dockerfile").read_text()
    return json.loads(re.findall(rf"^{word} (\[.*\])$", text, re.MULTILINE)[-1])


def parse_command(arguments: list[str]) -> dict[str, Any]:
    """The options that the command line reads from `guard …`."""
    command, rest = typer.main.get_command(app).commands["guard"], arguments
    while hasattr(command, "commands"):
        command, rest = command.commands[rest[0]], rest[1:]
    return command.make_context("guard", [*rest]).params


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


@pytest.fixture(scope="module")
def manifest() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))


def test_compose_is_of_its_schema_and_hardened(compose):
    jsonschema.validate(compose, COMPOSE)
    services = compose["services"]
    assert set(services) == {"secrets", "guard", "model", "redis", "prometheus", "grafana"}
    for name, service in services.items():
        after = service.get("depends_on", {})
        assert set(after) <= set(services)
        for one, how in after.items() if isinstance(after, dict) else ():
            assert how["condition"] != "service_healthy" or "healthcheck" in services[one]
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            found = (
                (DEPLOY / source).is_file() if source[0] == "." else source in compose["volumes"]
            )
            assert found, (name, volume)
    # Prometheus may read the token, not the key
    assert not any(entry.startswith("guard:") for entry in services["prometheus"]["volumes"])
    assert (DEPLOY / services["secrets"]["build"]["context"] / "deploy/Dockerfile").is_file()


def test_compose_starts_what_there_is_with_a_policy_that_its_files_fit(compose):
    services = compose["services"]
    given = parse_command(services["guard"]["command"])
    policy = read_policy(DEPLOY / "guard.toml")
    assert (given["workers"], given["admin_host"]) == (2, "0.0.0.0")
    assert policy.state.redis == "redis://redis:6379/0" and policy.upstreams.urls == (
        "http://model:8080",
    )
    script = services["secrets"]["command"][0]
    assert policy.monitor.key in script and "admin.token" in script
    assert parse_command(re.search(r"memberscope guard (.*)", script)[1].split())
    assert "noeviction" in services["redis"]["command"]
    scrape = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"][0]
    assert scrape["authorization"]["credentials_file"] == policy.admin.token_file
    seconds = int(services["guard"]["stop_grace_period"].removesuffix("s"))
    assert seconds > given["drain"] + 30.0


def test_the_sample_is_served_by_the_policy_beside_it():
    spec = importlib.util.spec_from_file_location("sample_model", DEPLOY / "sample_model.py")
    sample = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sample)
    with guarded(sample.app, read_policy(DEPLOY / "guard.toml")) as guard:
        answer = guard.score({"records": [[5.1, 3.5, 1.4, 0.2]]})
        assert answer.json == {"predictions": [{"setosa": 1.0}]}
        assert guard.ask("GET", "/health").json == {"up": True}


def test_the_manifest_is_of_its_schema_and_its_parts_fit(manifest):
    by_name = {(entry["kind"], entry["metadata"]["name"]): entry for entry in manifest}
    assert len(by_name) == len(manifest)
    for entry in manifest:
        version, part, schema = KINDS[entry["kind"]]
        assert entry["apiVersion"] == version
        jsonschema.validate(entry[part], schema)
    pods = [entry["spec"]["template"] for entry in manifest if "template" in entry.get("spec", {})]
    labels = [pod["metadata"]["labels"]["app"] for pod in pods]
    for entry in manifest:
        wanted = entry.get("spec", {}).get("selector", {})
        wanted = wanted.get("matchLabels", wanted)
        assert not wanted or wanted["app"] in labels
    for pod in pods:
        (container,) = pod["spec"]["containers"]
        ports = {port["name"] for port in container["ports"]}
        probes = [container[name] for name in container if name.endswith("Probe")]
        assert len(probes) >= 2
        assert all(probe["httpGet"]["port"] in ports for probe in probes if "httpGet" in probe)
        there = {volume["name"] for volume in pod["spec"].get("volumes", ())} | {"data"}
        assert {mount["name"] for mount in container["volumeMounts"]} <= there


def test_the_manifest_is_what_kubernetes_itself_takes(manifest):
    """By the strict schemas of its API, where the package that has them is installed: 111 MB."""
    validator = pytest.importorskip("kubernetes_validate")
    for entry in manifest:
        assert validator.validate(entry, "1.31", strict=True) == "1.31"


def test_the_manifest_starts_what_there_is_and_ends_in_time(manifest):
    deployment = next(entry for entry in manifest if entry["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    given = parse_command(pod["containers"][0]["args"])
    assert pod["terminationGracePeriodSeconds"] > given["drain"] + given["grace"] + 10
    text = next(entry for entry in manifest if entry["kind"] == "ConfigMap")["data"]["guard.toml"]
    policy = parse_guard_policy(tomllib.loads(text))
    mounts = {entry["name"]: entry["mountPath"] for entry in pod["containers"][0]["volumeMounts"]}
    assert str(given["policy"]).startswith(mounts["policy"])
    for name in (policy.monitor.key, policy.admin.token_file):
        assert name.startswith(mounts["secrets"] + "/")


def test_the_unit_starts_what_there_is_with_few_rights():
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(DEPLOY / "memberscope-guard.service")
    service = unit["Service"]
    program, group, *arguments = shlex.split(service["ExecStart"])
    given = parse_command(arguments)
    assert program.endswith("/memberscope") and group == "guard"
    assert int(service["TimeoutStopSec"]) > given["drain"] + given["grace"] + 10
    assert service["DynamicUser"] == service["NoNewPrivileges"] == "yes"
    assert service["ProtectSystem"] == "strict" and service["CapabilityBoundingSet"] == ""
    assert "-HUP" in service["ExecReload"] and unit["Install"]["WantedBy"]


def test_the_image_has_what_its_build_copies_and_its_command_serves(tmp_path):
    """The steps of the Dockerfile in a clean environment, whose other packages are those of here."""
    text = (DEPLOY / "Dockerfile").read_text()
    source = tmp_path / "source"
    source.mkdir()
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line[0] == "!"]
    for line in re.findall(r"^COPY (?!--from)(.*) \./?.*$", text, re.MULTILINE):
        for name in line.split():
            assert name in allowed
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, source / name)
    offline = ["--no-deps", "--no-index", "--quiet"]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    wheel = [*pip, "wheel", "--no-build-isolation", *offline, "-w", str(tmp_path), str(source)]
    subprocess.run(wheel, check=True)
    clean = tmp_path / "clean"
    venv.create(clean, symlinks=True)
    (built,) = tmp_path.glob("memberscope-*.whl")
    python = clean / "bin" / "python"
    subprocess.run([*pip, "--python", str(python), "install", *offline, str(built)], check=True)
    here = clean / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    others = [entry for entry in sys.path if entry.endswith("site-packages")]
    (here / "others.pth").write_text("\n".join(others) + "\n")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PATH"] = f"{clean / 'bin'}:{environment['PATH']}"
    policy = tmp_path / "guard.toml"
    policy.write_text(
        '[serving]\nn_classes = 3\nprotocol = "mlflow"\n[default]\nrestrict = "label"\n'
    )
    command = [*read_dockerfile("ENTRYPOINT"), *read_dockerfile("CMD")]
    command = [part.replace("/etc/memberscope/guard.toml", str(policy)) for part in command]
    with serving(Unruly()) as upstream:
        options = ["--upstream", upstream, "--port", "0", "--admin-port", "0"]
        guard = subprocess.Popen(
            [str(clean / "bin" / command[0]), *command[1:], *options],
            stderr=subprocess.PIPE,
            env=environment,
            cwd=tmp_path,
        )
        try:
            assert guard.stderr is not None
            lines = map(json.loads, guard.stderr)
            ports = next(line for line in lines if line["event"] == "serving")
            status, body = ask(ports["port"], "POST", "/invocations", {"inputs": [[0.5, 0.25]]})
            assert status == 200 and set(json.loads(body)) == {"predictions"}
            check = [part.replace("9464", str(ports["admin_port"])) for part in read_health_check()]
            assert subprocess.run(check, env=environment, check=False).returncode == 0
        finally:
            guard.terminate()
            assert guard.wait(30) == 0
            guard.stderr.close()
    assert subprocess.run(check, env=environment, stderr=subprocess.DEVNULL, check=False).returncode
    dashboard = [str(clean / "bin" / "memberscope"), "guard", "dashboard", "--out", "grafana"]
    subprocess.run(dashboard, env=environment, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    assert (tmp_path / "grafana" / "rules.yml").is_file()
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", text, re.MULTILINE)


def read_health_check() -> list[str]:
    """The command of the image's health check."""
    text = (DEPLOY / "Dockerfile").read_text()
    return json.loads(re.search(r"^HEALTHCHECK .*\\\n\s+CMD (\[.*\])$", text, re.MULTILINE)[1])
