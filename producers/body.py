"""The request behind `penstock submit`: a prompt, or a whole chat-completions body from a file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from penstock.errors import InvalidRequest

STDIN = "-"


def compose(prompt: str | None, system: str | None, body: str | None) -> dict[str, Any]:
    """The body's fields, with the messages that PROMPT and --system make.

    Raises InvalidRequest if there is no prompt or one too many, or the body cannot be read.
    """
    if prompt == STDIN and body == STDIN:
        raise InvalidRequest("stdin can be PROMPT or --body, not both")
    request = read_body(body) if body is not None else {}
    if "messages" in request and (prompt is not None or system is not None):
        given = "PROMPT" if prompt is not None else "--system"
        raise InvalidRequest(f"{_name(body)} has messages already: leave {given} out, or them")
    if "messages" in request:
        return request
    if prompt is None:
        raise InvalidRequest(_nothing_to_say(body))
    return {**request, "messages": _messages(read_prompt(prompt), system)}


def read_prompt(prompt: str) -> str:
    """The prompt's text; `-` stands for all of stdin. Raises InvalidRequest if it is empty."""
    text = _decoded(_read_stdin("the prompt"), "stdin") if prompt == STDIN else prompt
    if not text.strip():
        raise InvalidRequest("the prompt is empty")
    return text


def read_body(source: str) -> dict[str, Any]:
    """The JSON object in a file, or on stdin for `-`; raises InvalidRequest that says where."""
    name = _name(source)
    text = _decoded(_read_stdin("the body") if source == STDIN else _read_file(source), name)
    try:
        body = json.loads(text, parse_constant=_not_json)
    except json.JSONDecodeError as error:
        place = f"{name}, line {error.lineno}, column {error.colno}"
        raise InvalidRequest(f"{place}: {error.msg[0].lower()}{error.msg[1:]}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{name}: {error}") from None
    if not isinstance(body, dict):
        kind = _KINDS[type(body)]
        raise InvalidRequest(f"{name}: a request body is a JSON object, and this is {kind}")
    return body


_KINDS: dict[type, str] = {
    list: "an array",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


def _messages(prompt: str, system: str | None) -> list[dict[str, str]]:
    before = [{"role": "system", "content": system}] if system is not None else []
    return [*before, {"role": "user", "content": prompt}]


def _nothing_to_say(body: str | None) -> str:
    if body is not None:
        return f"{_name(body)} has no messages: add them, or give a PROMPT"
    return "nothing to submit: give a PROMPT, - to read it from stdin, or --body FILE"


def _name(source: str | None) -> str:
    return "stdin" if source == STDIN else str(source)


def _read_file(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror or error}") from None


def _read_stdin(what: str) -> bytes:
    if sys.stdin.isatty():
        click.echo(f"type {what}, then Ctrl-D on a new line", err=True)
    return sys.stdin.buffer.read()


def _decoded(raw: bytes, name: str) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - (raw.rfind(b"\n", 0, error.start) + 1) + 1
        raise InvalidRequest(
            f"{name}, line {line}, column {column}: byte {raw[error.start]:#04x} is not UTF-8"
        ) from None


def _not_json(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
