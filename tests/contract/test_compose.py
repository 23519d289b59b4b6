"""docker-compose.yml and ops/docker fit the specification, the code and each other."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
import yaml

from ops.cli import COMMANDS, penstock
from ops.simulator.server import DEFAULT_PORT
from penstock.settings import SECRETS, Settings
from tests.roles import granted
from tests.tools import needs

pytestmark = pytest.mark.operations

ROOT = Path(__file__).parents[2]
FILE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
OURS = {name for name, service in SERVICES.items() if service["image"].startswith("penstock")}
SERVERS = {"redis", "worker", "gateway", "flower", "redis-exporter", "prometheus", "grafana"}
DOCKERFILE = (ROOT / "ops" / "docker" / "Dockerfile").read_text()
ENTRYPOINT = (ROOT / "ops" / "docker" / "entrypoint.sh").read_text()


def named(service: str) -> list[tuple[str, str]]:
    """What a service mounts of named volumes, and where."""
    mounts = [mount.split(":") for mount in SERVICES[service].get("volumes", ())]
    return [(mount[0], mount[1]) for mount in mounts if not mount[0].startswith(".")]


def test_it_is_valid() -> None:
    """It fits the schema of the Compose specification."""
    schema = json.loads((Path(__file__).parent / "schemas" / "compose-spec.json").read_text())
    validator = jsonschema.Draft7Validator(schema)
    validator.validate(FILE)
    assert not validator.is_valid({**FILE, "services": {"x": {"imago": "x"}}})


def test_our_services_run_commands_that_there_are() -> None:
    """Each command and option of a service is one of `penstock`."""
    for name in OURS & {"worker", "gateway", "simulator", "operator"}:
        command, *arguments = SERVICES[name]["command"]
        assert command in COMMANDS
        found = penstock.get_command(click.Context(penstock), command)
        assert found is not None
        options = {o for p in found.params if isinstance(p, click.Option) for o in p.opts}
        assert {a for a in arguments if a.startswith("--")} <= options
    assert re.search(r'^exec penstock "\$@"$', ENTRYPOINT, re.MULTILINE)


def test_our_variables_are_settings() -> None:
    """Each variable given to our services is one that the settings read, with a value they take."""
    known = {f"PENSTOCK_{name.upper()}" for name in Settings.model_fields}
    known |= {f"{name}_FILE" for name in SECRETS}
    for name in OURS:
        given = SERVICES[name].get("environment", {})
        assert set(given) <= known, name
        plain = {
            n.removeprefix("PENSTOCK_").lower(): v for n, v in given.items() if "FILE" not in n
        }
        Settings.load(**plain)
    in_image = set(re.findall(r"\b(PENSTOCK_\w+)=", DOCKERFILE + ENTRYPOINT))
    assert in_image
    assert in_image <= known


def test_other_images_variables_are_told() -> None:
    """What is not ours and not Redis's is given nothing of which the docs do not speak."""
    page = (ROOT / "docs" / "operations.md").read_text()
    others = set(SERVICES) - set(OURS) - {"users"}
    given = {variable for name in others for variable in SERVICES[name].get("environment", {})}
    assert len(given) >= 8
    assert {variable for variable in given if f"`{variable}`" not in page} == set()


def test_each_service_has_its_own_users_files_only() -> None:
    """A container sees the password of its role and of no other, and the role exists."""
    roles = set(granted()) - {"default"}
    assert {volume for volume, _ in named("users")} == {f"users-{r}" for r in roles | {"redis"}}
    for name in set(SERVICES) - {"users"}:
        service = SERVICES[name]
        users = [(v, path) for v, path in named(name) if v.startswith("users-")]
        url = service.get("environment", {}).get("PENSTOCK_REDIS_URL_FILE")
        if url:
            role = Path(url).parent.name
            assert role in roles
            assert users == [(f"users-{role}", f"/run/penstock/{role}")]
            assert url == f"/run/penstock/{role}/redis-url"
        else:
            assert len(users) <= 1, name
    directories = re.search(r"for role in ([\w ]+);", DOCKERFILE)
    assert directories is not None
    assert set(directories[1].split()) == roles | {"redis"}


def test_what_is_mounted_is_there() -> None:
    """Files and folders of the project, volumes, configs and secrets are all declared and exist."""
    for name, service in SERVICES.items():
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            assert (ROOT / source).exists() if source[0] == "." else source in FILE["volumes"], name
        assert {config["source"] for config in service.get("configs", ())} <= set(FILE["configs"])
        assert set(service.get("secrets", ())) <= set(FILE["secrets"])
    used = {volume for name in SERVICES for volume, _ in named(name)}
    assert used == set(FILE["volumes"])
    assert (ROOT / FILE["configs"]["redis.conf"]["file"]).exists()
    acl = re.search(r"^aclfile (\S+)/users.acl$", (ROOT / "ops/redis/redis.conf").read_text(), re.M)
    assert acl is not None
    assert ("users-redis", acl[1]) in named("redis")


def test_ports_are_those_that_are_listened_on() -> None:
    """What is published, scraped or checked is where the service listens, on this machine only."""
    assert SERVICES["gateway"]["ports"] == [
        f"127.0.0.1:8000:{SERVICES['gateway']['environment']['PENSTOCK_GATEWAY_PORT']}"
    ]
    page = (ROOT / "docs" / "operations.md").read_text()
    told = page.partition("The gateway is on port ")[2].partition("on this machine only")[0]
    published = [port.split(":") for each in SERVICES.values() for port in each.get("ports", ())]
    assert {host for host, _, _ in published} == {"127.0.0.1"}
    assert {port for _, port, _ in published} == set(re.findall(r"\d+", told))
    for name in ("worker", "gateway"):
        given = SERVICES[name]["environment"]
        assert (given["PENSTOCK_METRICS_HOST"], given["PENSTOCK_METRICS_PORT"]) == (
            "0.0.0.0",  # noqa: S104 - whoever asks is in another container
            "9100",
        )
    assert "PENSTOCK_METRICS_HOST=0.0.0.0 PENSTOCK_METRICS_PORT=9100\n" in DOCKERFILE
    assert str(DEFAULT_PORT) in SERVICES["simulator"]["command"]
    (alias,) = SERVICES["simulator"]["networks"]["default"]["aliases"]
    assert f"simulator={alias}\n" in ENTRYPOINT
    assert f"http://$simulator:{DEFAULT_PORT}/v1/openai" in ENTRYPOINT
    scraped = (ROOT / "ops" / "prometheus" / "prometheus.yml").read_text()
    hosts = re.findall(r"names: \[([\w-]+)\]|targets: \[\"([\w-]+):", scraped)
    assert {a or b for a, b in hosts} <= set(SERVICES)


def test_servers_stop_in_good_order_and_come_back() -> None:
    """A worker has its drain and 10 s more; all are restarted, limited, and checked."""
    for name in ("worker", "gateway"):
        drain = float(SERVICES[name]["environment"]["PENSTOCK_DRAIN_TIMEOUT"])
        assert float(SERVICES[name]["stop_grace_period"].removesuffix("s")) > drain + 10
    checked = {"worker", "gateway", "flower"}  # by the image
    for name in SERVERS:
        service = SERVICES[name]
        assert service["restart"] == "unless-stopped"
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
        assert service["cap_drop"] == ["ALL"]
        assert name in checked or "healthcheck" in service or name == "redis-exporter"
    assert DOCKERFILE.count("\nHEALTHCHECK") == 2
    assert all(SERVICES[name]["init"] for name in OURS)


def test_images_are_pinned_and_ours_run_as_nobody_special() -> None:
    """No image is `latest`, no process of ours is root, and the entry points take signals."""
    images = [s["image"] for s in SERVICES.values()] + re.findall(
        r"^FROM (\S+:\S+)", DOCKERFILE, re.M
    )
    for image in images:
        assert re.search(r":v?\d+\.\d+\.\d+", image), image
    stages = DOCKERFILE.split("\nFROM ")[3:]
    assert len(stages) == 2
    for stage in stages:
        assert "\nUSER 10001:10001\n" in stage
        assert re.search(r"^ENTRYPOINT \[", stage, re.MULTILINE)
    assert "embedded" not in DOCKERFILE
    assert '"penstock[worker,gateway,tracing]"' in DOCKERFILE, "PENSTOCK_TRACING works there"


def test_what_the_image_copies_is_sent_to_it() -> None:
    """.dockerignore lets through what the Dockerfile copies, and nothing else."""
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    for line in re.findall(r"^COPY (?!--from)(?:--chmod=\d+ )?(.+) \S+$", DOCKERFILE, re.MULTILINE):
        for source in line.split():
            assert (ROOT / source).exists(), source
            assert f"!{source.split('/')[0]}" in ignored, source


@pytest.mark.parametrize(
    ("resolves", "given", "expected"),
    [
        ("0", "", "http://simulator.penstock.internal:8090/v1/openai"),
        ("0", "https://mine/v1", "https://mine/v1"),
        ("2", "", ""),
    ],
)
def test_the_simulator_answers_where_there_is_one(
    resolves: str, given: str, expected: str, tmp_path: Path
) -> None:
    """The entry point asks for its name; an upstream that was given goes before."""
    for name, body in {
        "getent": f'[ "$*" = "hosts simulator.penstock.internal" ] && exit {resolves}',
        "penstock": 'echo "$PENSTOCK_UPSTREAM_URL|$*"',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        [ROOT / "ops" / "docker" / "entrypoint.sh", "worker", "--strict"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "PENSTOCK_UPSTREAM_URL": given},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{expected}|worker --strict\n"


def test_hadolint_agrees() -> None:
    """The Dockerfile is clean."""
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [hadolint, ROOT / "ops" / "docker" / "Dockerfile"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@needs("shellcheck")
def test_shellcheck_agrees() -> None:
    """Every shell script is clean."""
    scripts = [ROOT / ".ci" / "run", *sorted((ROOT / "ops").rglob("*.sh"))]
    assert len(scripts) >= 5
    done = subprocess.run(["shellcheck", *scripts], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
