"""Loads the scripts in lua/: one transition a file.

A script is its file, with the pieces that its line `-- include: a, b` names (and those that they
name) from lua/include/. What it calls `KEY.job` is that key of the catalogue: a constant, because a
table would be made anew at every call.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from penstock.keys import CATALOGUE

_KEY = re.compile(r"\bKEY\.(\w+)")
_INCLUDE = re.compile(r"^-- include: (.+)$", re.MULTILINE)
_LUA = files("penstock") / "lua"


class Script(NamedTuple):
    """A Lua script as Redis gets it, and the SHA-1 it is called by."""

    name: str
    source: str
    sha: str


@cache
def load(name: str) -> Script:
    """The script of lua/<name>.lua with everything it includes."""
    shebang, _, body = (_LUA / f"{name}.lua").read_text().partition("\n")
    text = "\n".join([shebang, *_included(body, []), body])
    source = _KEY.sub(lambda found: f"'{CATALOGUE[found[1]]}'", text)
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


def _included(source: str, seen: list[str]) -> list[str]:
    """The included pieces, each once, those that others need before them."""
    pieces: list[str] = []
    for line in _INCLUDE.findall(source):
        for name in line.split(", "):
            if name not in seen:
                seen.append(name)
                piece = (_LUA / "include" / f"{name}.lua").read_text()
                pieces += [*_included(piece, seen), piece]
    return pieces
