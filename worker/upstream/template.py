"""Reads the next chunk of an answer by the last one: nearly always only one text in it is new.

Servers send the same bytes around each token: id, model, index, nulls. So when a chunk was read as
JSON, the next one is compared with it, in two calls into C, and only the text between is decoded.
Whatever does not fit byte by byte is for the JSON decoder: a template may be useless, never wrong.
"""

from __future__ import annotations

import re
from typing import Self

import msgspec

_CONTENT = re.compile(rb'"content":\s*("(?:[^"\\]|\\.)*")')
_decode_text = msgspec.json.Decoder(str).decode


class Template:
    """The bytes around the one content of a chunk."""

    __slots__ = ("_after", "_around", "_before")

    def __init__(self, before: bytes, after: bytes) -> None:
        self._before, self._after = before, after
        self._around = len(before) + len(after)

    @classmethod
    def learn(cls, data: bytes, content: str) -> Self | None:
        """From a chunk's data and the content it was found to have; None if there may be others."""
        found = _CONTENT.findall(data)
        match = _CONTENT.search(data)
        if match is None or len(found) != 1 or _decode_text(match[1]) != content:
            return None
        return cls(data[: match.start(1)], data[match.end(1) :])

    def read(self, data: bytes) -> str | None:
        """The content of a chunk that differs in nothing else; None for any other."""
        before, after = self._before, self._after
        if len(data) <= self._around or not (data.startswith(before) and data.endswith(after)):
            return None
        try:
            return _decode_text(data[len(before) : len(data) - len(after)])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
