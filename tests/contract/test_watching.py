"""What ops/prometheus and ops/grafana ask for is there, and ops/runbook.md says what to do."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.cli import COMMANDS
from producers.gateway import census
from producers.gateway import telemetry as gateway
from tests.tools import needs
from worker import telemetry as worker

pytestmark = pytest.mark.operations

OPERATIONS = Path(__file__).parents[2] / "ops"
PROMETHEUS = OPERATIONS / "prometheus"
DASHBOARDS = sorted((OPERATIONS / "grafana" / "dashboards").glob("*.json"))
RUNBOOK = (OPERATIONS / "runbook.md").read_text()
RUNBOOK_IS_AT = '{{ or $externalLabels.runbook "ops/runbook.md" }}'
"""Nobody but who runs it knows the address; without one the link is the file's place here."""

NAME = re.compile(r"\b(?:\w+:[\w:]+|(?:penstock|redis)_\w+|up)\b")

OTHERS = {
    "up", "redis_up", "redis_memory_used_bytes", "redis_memory_max_bytes", "redis_aof_enabled",
    "redis_aof_last_write_status", "redis_aof_last_bgrewrite_status",
    "redis_commands_processed_total", "redis_cpu_user_main_thread_seconds_total",
    "redis_cpu_sys_main_thread_seconds_total",
}  # fmt: skip
"""Prometheus's own, and those of redis_exporter: see exporter/exporter.go there."""


def rules(file: str) -> list[dict[str, Any]]:
    """The rules of a file of ops/prometheus."""
    groups = yaml.safe_load((PROMETHEUS / file).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def targets() -> list[tuple[str, str]]:
    """Each dashboard's and rule's name with an expression of it."""
    found = [(r.get("alert") or r["record"], r["expr"]) for r in rules("alerts.yml")]
    found += [(r["record"], r["expr"]) for r in rules("recording.yml")]
    for path in DASHBOARDS:
        board = json.loads(path.read_text())
        for panel in board["panels"]:
            found += [(f"{path.name}: {panel['title']}", t["expr"]) for t in panel["targets"]]
        for variable in board["templating"]["list"]:
            found.append((f"{path.name}: ${variable['name']}", variable["query"]))
    return found


def metrics() -> list[Any]:
    """Every metric of a worker and of a gateway."""
    return [
        v for page in (worker, gateway) for v in vars(page).values() if hasattr(v, "_labelnames")
    ]


def served() -> set[str]:
    """Every series that a worker or a gateway serves."""
    found: set[str] = set(census.GAUGES)
    for metric in metrics():
        ends = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
        found |= {f"{metric._name}{end}" for end in ends[metric._type]}
    return found


def test_every_metric_asked_for_exists() -> None:
    """No panel, alert or recording rule asks for a series that nobody serves or records."""
    known = served() | OTHERS | {rule["record"] for rule in rules("recording.yml")}
    asked = {(where, name) for where, text in targets() for name in NAME.findall(text)}
    assert len(asked) > 50
    missing = {(where, name) for where, name in asked if name not in known}
    assert missing == set()


def test_every_metric_is_on_a_dashboard() -> None:
    """What is counted is shown somewhere."""
    shown = {name for where, text in targets() if ".json" in where for name in NAME.findall(text)}
    shown |= {name for rule in rules("recording.yml") for name in NAME.findall(rule["expr"])}
    names = [metric._name for metric in metrics()] + list(census.GAUGES)
    assert len(names) > 25
    assert [n for n in names if not any(name.startswith(n) for name in shown)] == []


def test_every_alert_has_its_section_in_the_runbook() -> None:
    """The link of an alert leads to the section of its name, with what to do, and back."""
    names = [rule["alert"] for rule in rules("alerts.yml")]
    for rule in rules("alerts.yml"):
        link = rule["annotations"]["runbook_url"]
        assert link == f"{RUNBOOK_IS_AT}#{rule['alert'].lower()}"
        section = RUNBOOK.partition(f"\n## {rule['alert']}\n")[2].partition("\n## ")[0]
        assert "**Look at**" in section or "**Do**" in section, rule["alert"]
        assert rule["labels"]["severity"] in ("page", "ticket")
    camel = re.findall(r"^## ([A-Z]\w*[a-z][A-Z]\w*)$", RUNBOOK, re.MULTILINE)
    assert sorted(camel) == sorted(names)


def test_the_runbook_names_what_is_there() -> None:
    """Its links lead to sections, its commands are commands, its files and log lines exist."""
    heads = [line[3:].lower() for line in RUNBOOK.splitlines() if line.startswith("## ")]
    anchors = {head.replace(" ", "-") for head in heads}
    assert set(re.findall(r"\]\(#([^)]+)\)", RUNBOOK)) <= anchors
    commands = set(re.findall(r"(?:^|`)penstock ([a-z]+)", RUNBOOK, re.MULTILINE))
    assert commands - set(COMMANDS) == set()
    for path in re.findall(r"`(ops/[\w/.-]+)`", RUNBOOK):
        assert (OPERATIONS.parent / path).exists(), path
    actions = set(re.findall(r"`((?:job|route|request)_[a-z]+)` (?:in|and)", RUNBOOK))
    assert actions - {*worker.ACTIONS, *gateway.ACTIONS} == set()


def test_each_dashboard_is_well_formed() -> None:
    """Ids and places of panels do not collide, and each says what it shows."""
    assert len(DASHBOARDS) == 4
    for path in DASHBOARDS:
        panels = json.loads(path.read_text())["panels"]
        places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in panels]
        assert len(set(places)) == len({p["id"] for p in panels}) == len(panels)
        assert all(p["description"] and p["targets"] for p in panels)


@needs("promtool")
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "--syntax-only", "prometheus.yml"),
        ("check", "rules", "recording.yml", "alerts.yml"),
        ("test", "rules", "tests.yml"),
    ],
    ids=lambda arguments: arguments[0] + "-" + arguments[1],
)
def test_promtool_agrees(arguments: tuple[str, ...]) -> None:
    """Configuration and rules are valid, and fire when the unit tests say so."""
    done = subprocess.run(
        ["promtool", *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_unit_test() -> None:
    """Each alert is shown to fire in ops/prometheus/tests.yml."""
    tests = yaml.safe_load((PROMETHEUS / "tests.yml").read_text())["tests"]
    fired = {
        case["alertname"]
        for test in tests
        for case in test.get("alert_rule_test", ())
        if case["exp_alerts"]
    }
    assert fired == {rule["alert"] for rule in rules("alerts.yml")}
