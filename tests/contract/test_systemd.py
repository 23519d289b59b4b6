"""The units of ops/systemd are valid, tight, and run what there is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from ops.cli import COMMANDS, penstock
from penstock.settings import SECRETS, Settings
from tests.roles import granted
from tests.tools import needs

pytestmark = pytest.mark.operations

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "ops" / "systemd").glob("*.service"))

EXPOSED = 2.0
"""The most that `systemd-analyze security` may say, of 10; below 2 it calls a unit OK."""


def test_there_are_units() -> None:
    """A worker and a gateway have one."""
    assert [unit.stem for unit in UNITS] == ["penstock-gateway", "penstock-worker@"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_runs_what_there_is(unit: Path) -> None:
    """Command, options, variables and credentials are those of the code, and the drain fits."""
    text = unit.read_text()
    line = re.search(r"^ExecStart=\S+/penstock (\w+) (.*)$", text, re.MULTILINE)
    assert line is not None
    assert line[1] in COMMANDS
    command = penstock.get_command(click.Context(penstock), line[1])
    assert command is not None
    options = {o for p in command.params if isinstance(p, click.Option) for o in p.opts}
    assert set(re.findall(r"--[a-z-]+", line[2])) <= options
    known = {f"PENSTOCK_{name.upper()}" for name in Settings.model_fields}
    known |= {f"{name}_FILE" for name in SECRETS}
    assert set(re.findall(r"^Environment=(\w+)=", text, re.MULTILINE)) <= known
    credentials = set(re.findall(r"^LoadCredential=([\w-]+):", text, re.MULTILINE))
    assert credentials == set(re.findall(r"=%d/([\w-]+)$", text, re.MULTILINE))
    (role,) = re.findall(r"^LoadCredential=redis-url:/etc/penstock/(\w+)/", text, re.MULTILINE)
    assert role in granted()
    (stop,) = re.findall(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
    assert int(stop) > Settings.model_fields["drain_timeout"].default + 10


@needs("systemd-analyze")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_agrees(unit: Path, tmp_path: Path) -> None:
    """systemd-analyze has nothing to say about a unit, and calls it well protected."""
    program = Path(sys.executable).with_name("penstock")
    here = tmp_path / unit.name
    here.write_text(re.sub(r"=\S+/penstock ", f"={program} ", unit.read_text(), count=1))
    verified = _analyze("verify", "--man=no", here)
    assert unit.name not in verified.stdout + verified.stderr, verified.stderr
    assert verified.returncode == 0
    judged = _analyze("security", "--offline=true", f"--threshold={int(EXPOSED * 10)}", here)
    assert judged.returncode == 0, judged.stdout[-600:]


def _analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
