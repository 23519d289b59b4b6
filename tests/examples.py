"""The code blocks of README and docs: found, filled in, and run as they are printed.

A page is one session: its Python blocks share a namespace, its shell blocks a shell, and both a
directory that looks like a clone. What stands in comments above a block, `<!-- name: value; … -->`,
says what a reader does by hand: `terminal`, the block stays in the foreground of a terminal of its
own; `until`, what it says when it is ready; `stop`, the terminals that were ended before; `run`,
what is done with the file that the block is; `then`, what another terminal comes to say.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt

from tests.waiting import until

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

LINKED = ("Makefile", "pyproject.toml", "requirements.lock", "ops", "docs", ".venv")
"""What a clone has that blocks name; links to ours, so that a directory costs nothing."""

PATIENCE = 60.0
"""Seconds for a block: a second or two on a machine that has nothing else to do."""

_NOTE = re.compile(r"<!--\s*(.*?)\s*-->")


class Block(NamedTuple):
    """One fenced block.

    Attributes:
        line: where it begins, from 1 on.
        language: the first word of its fence.
        notes: what the comments above it say; of several with the same name, all.
    """

    page: Path
    line: int
    language: str
    text: str
    notes: list[dict[str, str]]

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def first_line(self) -> str:
        return self.text.splitlines()[0]

    @property
    def file(self) -> str | None:
        """The name in its first line, for one that is a file of the reader's: `# shop.py`."""
        named = re.fullmatch(r"# ([a-z_-]+\.(py|toml))", self.first_line)
        return named[1] if named else None


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, those in lists too."""
    notes: list[dict[str, str]] = []
    for token in MarkdownIt().parse(page.read_text()):
        if token.type == "html_block":
            notes += [_read_note(note) for note in _NOTE.findall(token.content)]
        elif token.type == "fence":
            language = token.info.split(" ")[0]
            assert token.map is not None
            yield Block(page, token.map[0] + 1, language, token.content, notes)
            notes = []


def _read_note(text: str) -> dict[str, str]:
    pairs = (part.partition(":") for part in text.split(";"))
    return {name.strip(): value.strip() for name, _, value in pairs}


def clone(directory: Path) -> None:
    """Make a directory look like a clone."""
    for name in LINKED:
        (directory / name).symlink_to(ROOT / name)


class Session:
    """What runs a page's blocks: a shell, a Python, and terminals of their own.

    Args:
        directory: where they run.
        environment: on top of ours.
        fill_in: replaces what a reader would: addresses, ids.
        patience: seconds for a block.
    """

    def __init__(
        self,
        directory: Path,
        environment: Mapping[str, str],
        fill_in: Callable[[str], str],
        patience: float = PATIENCE,
    ) -> None:
        self.directory = directory
        self.fill_in = fill_in
        self.patience = patience
        self.environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", **environment}
        self.terminals: dict[str, Terminal] = {}
        self._shell: Terminal | None = None
        self._python: Terminal | None = None

    def run(self, block: Block) -> None:
        """Run one block to its end, or until it is ready."""
        notes = [{name: self.fill_in(text) for name, text in note.items()} for note in block.notes]
        self._stop(notes)
        text = self.fill_in(block.text)
        if block.file:
            (self.directory / block.file).write_text(text)
        elif any("terminal" in note for note in notes):
            self._stay(notes, text)
        else:
            (self.shell if block.language == "sh" else self.python).run(text)
        self._follow(notes)

    def _stop(self, notes: list[dict[str, str]]) -> None:
        for note in notes:
            for name in filter(None, note.get("stop", "").split(", ")):
                self.terminals.pop(name).interrupt()

    def _stay(self, notes: list[dict[str, str]], text: str) -> None:
        for note in notes:
            terminal = Terminal(["bash", "-e", "-c", text], self)
            self.terminals[note["terminal"]] = terminal
            terminal.until(note["until"])

    def _follow(self, notes: list[dict[str, str]]) -> None:
        for note in notes:
            if "run" in note:
                self.shell.run(note["run"])
            if "then" in note:
                name, _, awaited = note["then"].partition(" says ")
                self.terminals[name].until(awaited)

    @property
    def shell(self) -> Terminal:
        if self._shell is None:
            self._shell = Terminal(["bash", "-c", SHELL], self)
        return self._shell

    @property
    def python(self) -> Terminal:
        if self._python is None:
            self._python = Terminal([sys.executable, "-c", PYTHON], self)
        return self._python

    def close(self) -> None:
        """End all that still runs."""
        for terminal in (*self.terminals.values(), self._shell, self._python):
            if terminal is not None:
                terminal.kill()


SHELL = r"""
set -o pipefail
trap 'echo "@@failed: $BASH_COMMAND"' ERR
while IFS= read -r -d '' block; do eval "$block"; echo "@@done"; done
"""
"""Runs what comes, ended by NUL; a command that fails says so."""

PYTHON = r"""
import sys, traceback

def read():
    text = ""
    while (letter := sys.stdin.read(1)) not in ("", "\0"):
        text += letter
    return text if letter else None

scope = {"__name__": "__main__"}
sys.path.insert(0, "")
for block in iter(read, None):
    try:
        exec(compile(block, "<block>", "exec"), scope)
    except BaseException:
        print("@@failed:", traceback.format_exc())
    print("@@done", flush=True)
"""
"""The same for Python; what a block leaves behind is there for the next."""


class Terminal:
    """A program whose output is read while it runs."""

    def __init__(self, argv: Sequence[str | Path], session: Session) -> None:
        self._popen = subprocess.Popen(
            argv,
            cwd=session.directory,
            env=session.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.said = ""
        self._patience = session.patience
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._popen.stdout is not None
        while piece := os.read(self._popen.stdout.fileno(), 65_536):
            self.said += piece.decode(errors="replace")

    def until(self, text: str) -> None:
        """Wait until it has said this."""
        until(lambda: text in self.said or self._has_ended(), timeout=self._patience)
        assert text in self.said, f"it ended, and said:\n{self.said}"

    def _has_ended(self) -> bool:
        return self._popen.poll() is not None and not self._reader.is_alive()

    def run(self, text: str) -> None:
        """Give it a block and wait for its end."""
        assert self._popen.stdin is not None
        before = len(self.said)
        self._popen.stdin.write(text.encode() + b"\0")
        self._popen.stdin.flush()
        until(lambda: "@@done\n" in self.said[before:] or self._has_ended(), timeout=self._patience)
        said = self.said[before:]
        assert "@@done\n" in said, f"it ended, and said:\n{said}"
        assert "@@failed" not in said, said

    def interrupt(self) -> None:
        """Ctrl-C, and wait for the end."""
        os.killpg(self._popen.pid, signal.SIGINT)
        self._popen.wait(timeout=self._patience)
        self.kill()

    def kill(self) -> None:
        """End it and what it started."""
        with suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()
        self._reader.join(timeout=5)
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                pipe.close()


def parses(block: Block) -> None:
    """Raise where the block is no program, no shell script, no JSON."""
    match block.language:
        case "python":
            compile(block.text, block.place, "exec")
        case "json":
            json.loads(block.text)
        case "sh":
            checked = subprocess.run(
                ["bash", "-n"], input=block.text, capture_output=True, text=True, check=False
            )
            assert checked.returncode == 0, checked.stderr
