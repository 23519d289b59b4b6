"""Where the tables and values of a TOML text stand: tomllib reads them, but forgets the lines."""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left
from typing import TypeAlias

Path: TypeAlias = tuple[str | int, ...]
"""Keys, and numbers of the elements of arrays from 0 on."""

_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}\n#]*")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?""""{0,2}'  # a multi-line string may end with quotes of its own
    r"|'''.*?''''{0,2}"
    r'|"(?:\\.|[^"\\])*"'
    r"|'[^']*'",
    re.DOTALL,
)


def positions(text: str) -> dict[Path, int]:
    """The line, counted from 1, on which each table, key and element is first named.

    The text must be one that tomllib takes.
    """
    return _Walk(text.replace("\r\n", "\n")).found()


class _Walk:
    """One way through a text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._ends = [match.start() for match in re.finditer("\n", text)]
        self._found: dict[Path, int] = {}
        self._elements: dict[Path, int] = {}  # of arrays of tables

    def found(self) -> dict[Path, int]:
        table: Path = ()
        while self._next():
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)
        return self._found

    def _next(self) -> str:
        """Skip blanks, line ends and comments; what comes then, "" at the end."""
        self._skip(_BLANK)
        return self._text[self._at : self._at + 1]

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        assert match is not None  # noqa: S101 - tomllib has read this text
        self._at = match.end()
        return match.group()

    def _mark(self, path: Path, at: int) -> None:
        self._found.setdefault(path, bisect_left(self._ends, at) + 1)

    def _header(self) -> Path:
        start, brackets = self._at, 2 if self._text.startswith("[[", self._at) else 1
        self._at += brackets
        *parents, last = self._keys()
        self._at += brackets
        path: Path = ()
        for key in parents:
            path = self._inside((*path, key), start)
        path = (*path, last)
        if brackets == 2:
            self._elements[path] = self._elements.get(path, -1) + 1
        return self._inside(path, start)

    def _inside(self, path: Path, start: int) -> Path:
        """The table of this name; the newest of them where it is an array."""
        self._mark(path, start)
        if path in self._elements:
            path = (*path, self._elements[path])
            self._mark(path, start)
        return path

    def _pair(self, table: Path) -> None:
        start = self._at
        for key in self._keys():
            table = (*table, key)
            self._mark(table, start)
        self._at += 1  # the equals sign
        self._value(table)

    def _keys(self) -> list[str]:
        keys = [self._key()]
        while self._text[self._at] == ".":
            self._at += 1
            keys.append(self._key())
        return keys

    def _key(self) -> str:
        self._skip(_SPACE)
        quoted = self._text[self._at] in "\"'"
        key = self._skip(_STRING if quoted else _BARE)
        self._skip(_SPACE)
        return next(iter(tomllib.loads(f"{key} = 0"))) if quoted else key

    def _value(self, path: Path) -> None:
        self._skip(_SPACE)
        match self._text[self._at]:
            case "[":
                self._array(path)
            case "{":
                self._inline_table(path)
            case '"' | "'":
                self._skip(_STRING)
            case _:
                self._skip(_SCALAR)

    def _array(self, path: Path) -> None:
        self._at += 1
        number = 0
        while self._next() != "]":
            self._mark((*path, number), self._at)
            self._value((*path, number))
            self._comma()
            number += 1
        self._at += 1

    def _inline_table(self, path: Path) -> None:
        self._at += 1
        while self._next() != "}":
            self._pair(path)
            self._comma()
        self._at += 1

    def _comma(self) -> None:
        if self._next() == ",":
            self._at += 1
