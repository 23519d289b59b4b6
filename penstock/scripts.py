"""Loads the scripts in lua/: one transition a file.

A script is its file, with the pieces that its line `-- include: a, b` names (and those that they
name) from lua/include/. Redis runs the whole text at every call, so a script carries only what it
uses: functions that nothing calls are left out, and names of numbers and texts, such as `WINDOW`,
become what they stand for. What is called `KEY.job` becomes that key of the catalogue.

Running the text makes every function in it anew, which costs some 1,500 instructions each. What few
calls need is therefore included by the function that needs it, with a line of its own inside it:
the pieces go in there, and are made when that function runs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from textwrap import indent
from typing import NamedTuple

from penstock.keys import CATALOGUE

_KEY = re.compile(r"\bKEY\.(\w+)")
_INCLUDE = re.compile(r"^-- include: (.+)$", re.MULTILINE)
_CONSTANTS = re.compile(r"^local ([A-Z_]+(?:, [A-Z_]+)*) = (.+?)(?:  --.*)?\n", re.MULTILINE)
_LITERAL = re.compile(r"'[^']*'|[\d.()*/ ]+")
_DEFINITION = re.compile(
    r"^local (?:function )?(\w+)(?:\(.*?\nend| = [^\n]*)\n", re.MULTILINE | re.DOTALL
)
_INNER = re.compile(r"^( +)-- include: (.+)\n", re.MULTILINE)
_TOKEN = re.compile(r"'[^']*'|--[^\n]*|\w+")
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
    seen: list[str] = []
    *pieces, body = _folded([*_included(body, seen), _with_inner(body, seen)])
    text = "\n".join([shebang, _used("\n".join(pieces), body), body])
    source = _KEY.sub(lambda found: f"'{CATALOGUE[found[1]]}'", text)
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


def _included(source: str, seen: list[str]) -> list[str]:
    """The included pieces, each once, those that others need before them.

    seen: the names of all that come before, which grows.
    """
    pieces: list[str] = []
    for line in _INCLUDE.findall(source):
        for name in line.split(", "):
            if name not in seen:
                seen.append(name)
                piece = (_LUA / "include" / f"{name}.lua").read_text()
                pieces += [*_included(piece, seen), _with_inner(piece, seen)]
    return pieces


def _with_inner(source: str, seen: list[str]) -> str:
    """The source with the pieces that its functions include for themselves, where they do."""

    def fill(line: re.Match[str]) -> str:
        pieces = _folded(_included(f"-- include: {line[2]}\n", [*seen]))
        return indent(_used("\n".join(pieces), source), line[1])

    return _INNER.sub(fill, source)


def _folded(pieces: Iterable[str]) -> Iterator[str]:
    """The pieces with their constants, and those of the pieces before them, filled in."""
    known: dict[str, str] = {}

    def fold(line: re.Match[str]) -> str:
        texts = line[2].split(", ") if ", " in line[1] else [line[2]]
        values = [_grouped(_filled(text, known)) for text in texts]
        if not all(map(_LITERAL.fullmatch, values)):
            return line[0]
        known.update(zip(line[1].split(", "), values, strict=True))
        return ""

    for piece in pieces:
        yield _filled(_CONSTANTS.sub(fold, piece), known)


def _filled(source: str, known: Mapping[str, str]) -> str:
    return _TOKEN.sub(lambda found: known.get(found[0], found[0]), source)


def _grouped(value: str) -> str:
    return f"({value})" if " " in value and value[0] != "'" else value


def _used(library: str, body: str) -> str:
    """The library without the definitions that neither the body nor what it uses names."""
    definitions = {found[1]: found[0] for found in _DEFINITION.finditer(library)}
    used, names = set[str](), _names(_DEFINITION.sub("", library) + body)
    while names := (names & definitions.keys()) - used:
        used |= names
        names = set[str]().union(*(_names(definitions[name]) for name in names))
    return _DEFINITION.sub(lambda found: found[0] if found[1] in used else "", library)


def _names(source: str) -> set[str]:
    return set(_TOKEN.findall(source))
