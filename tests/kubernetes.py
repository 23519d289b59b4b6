"""ops/kubernetes as kustomize builds it, and ops/prometheus as its operator takes it.

`python -m tests.kubernetes` writes ops/kubernetes/monitoring/rules.yaml anew.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
OPERATIONS = ROOT / "ops"
RULES = OPERATIONS / "kubernetes" / "monitoring" / "rules.yaml"

PLACES = ("overlays/simulate", "overlays/production", "operator")
"""What is applied, below ops/kubernetes."""

HEADER = """\
# recording.yml and alerts.yml of ops/prometheus; `python -m tests.kubernetes` writes this anew.
"""

Resource = dict[str, Any]


def build(directory: Path) -> dict[str, list[Resource]]:
    """What kustomize makes of each place, in a copy with passwords of its own."""
    for part in ("kubernetes", "redis"):
        shutil.copytree(OPERATIONS / part, directory / part, ignore=shutil.ignore_patterns("users"))
    users = directory / "kubernetes" / "overlays" / "simulate" / "users"
    script = OPERATIONS / "redis" / "make-users.sh"
    subprocess.run([script, users, "penstock-redis:6379"], check=True)
    return {place: list(_kustomize(directory / "kubernetes" / place)) for place in PLACES}


def _kustomize(place: Path) -> Iterator[Resource]:
    command = ["kustomize", "build"] if shutil.which("kustomize") else ["kubectl", "kustomize"]
    done = subprocess.run([*command, place], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr, done.stderr
    yield from yaml.safe_load_all(done.stdout)


def pods(resources: list[Resource]) -> dict[str, Resource]:
    """By name of what makes them: the Pods, each with `metadata` and `spec`."""
    found = {}
    for resource in resources:
        if resource["kind"] == "Pod":
            found[resource["metadata"]["name"]] = resource
        elif "template" in resource.get("spec", {}):
            found[resource["metadata"]["name"]] = resource["spec"]["template"]
    return found


def rules() -> str:
    """The rules of ops/prometheus as resources; a name of a group may stand once in each."""
    resources = []
    for part in ("recording", "alerts"):
        groups = yaml.safe_load((OPERATIONS / "prometheus" / f"{part}.yml").read_text())["groups"]
        resources.append({
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": f"penstock-{part}"},
            "spec": {"groups": groups},
        })  # fmt: skip
    return HEADER + yaml.dump_all(resources, Dumper=_Dumper, sort_keys=False, width=1000)


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as such."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        style = "|" if "\n" in data else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _Dumper.represent_str)


if __name__ == "__main__":
    RULES.write_text(rules())
