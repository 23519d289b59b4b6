"""`penstock` itself: help that costs no import, and a list that does not lie."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from ops.cli import COMMANDS, penstock

HEAVY = ("penstock", "redis", "pydantic", "celery", "httpx", "rich", "asyncio")


def test_help_imports_nothing_heavy() -> None:
    """`penstock --help` answers at once: no command, and not even the library, is imported."""
    code = (
        "import sys\nfrom ops.cli import penstock\n"
        "penstock.main(['--help'], standalone_mode=False)\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_mounted_under_its_name(name: str) -> None:
    """Each place in the table leads to a command, and that has a help of its own."""
    command = penstock.get_command(click.Context(penstock), name)
    assert command is not None
    assert command.name == name
    assert command.help


@pytest.mark.parametrize("name", COMMANDS)
def test_each_option_explains_itself(name: str) -> None:
    """No option is without a help text, but for those whose name and type say all."""
    command = penstock.get_command(click.Context(penstock), name)
    assert command is not None
    silent = {
        parameter.name
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.help
    }
    assert silent <= {"limit", "workers", "port"}


@pytest.mark.parametrize(("module", "arguments"), [("click", []), ("redis", ["list"])])
def test_ctrl_c_during_an_import_is_no_traceback(
    module: str, arguments: list[str], tmp_path: Path
) -> None:
    """Neither while the command line itself is imported nor, pressed twice, while a command is."""
    (tmp_path / f"{module}.py").write_text("import signal; signal.raise_signal(signal.SIGINT)\n")
    code = "import sys; from ops.start import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (130, -signal.SIGINT)
    assert (done.stdout, done.stderr.strip()) == ("", "")
