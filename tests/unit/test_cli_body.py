"""What `penstock submit` makes of PROMPT, --system and --body, and what it says of mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from penstock.errors import InvalidRequest
from producers.body import compose

MESSAGES = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def body(tmp_path: Path) -> Path:
    """A file for a body."""
    return tmp_path / "body.json"


def test_a_prompt_becomes_a_user_message_behind_the_systems() -> None:
    """PROMPT and --system are the two messages, in that role and order."""
    assert compose("Hi", None, None) == {"messages": MESSAGES}
    system = {"role": "system", "content": "Be brief."}
    assert compose("Hi", "Be brief.", None) == {"messages": [system, *MESSAGES]}


def test_a_body_is_taken_as_it_is(body: Path) -> None:
    """Every field of a body is kept, also those nobody knows."""
    given = {"messages": MESSAGES, "temperature": 0.2, "unheard_of": {"a": [1, None]}}
    body.write_text(json.dumps(given))
    assert compose(None, None, str(body)) == given


def test_a_prompt_fills_a_body_without_messages(body: Path) -> None:
    """A file of parameters can be used with many prompts."""
    body.write_text('{"temperature": 0}')
    assert compose("Hi", None, str(body)) == {"temperature": 0, "messages": MESSAGES}


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (b'{"messages": [}', "line 1, column 15: expecting value"),
        (b'{\n  "a": 1\n  "b": 2\n}', "line 3, column 3: expecting ',' delimiter"),
        (b"", "line 1, column 1: expecting value"),
        (b'{"a": "\xff"}', "line 1, column 8: byte 0xff is not UTF-8"),
        (b'\n{"a": NaN}', "NaN is not JSON"),
        (b"[1]", "a request body is a JSON object, and this is an array"),
        (b"null", "a request body is a JSON object, and this is null"),
        (b'{"temperature": 1}', "has no messages: add them, or give a PROMPT"),
    ],
)
def test_a_wrong_body_is_told_with_file_and_place(body: Path, raw: bytes, complaint: str) -> None:
    """The error names the file, and line and column where there is such a place."""
    body.write_bytes(raw)
    with pytest.raises(InvalidRequest) as raised:
        compose(None, None, str(body))
    assert complaint in str(raised.value)
    assert str(body) in str(raised.value)


def test_a_missing_body_is_named(body: Path) -> None:
    """A file that is not there is told as such."""
    with pytest.raises(
        InvalidRequest, match=r"body.json cannot be read: No such file or directory"
    ):
        compose(None, None, str(body))


@pytest.mark.parametrize(
    ("prompt", "system", "complaint"),
    [
        ("Hi", None, "has messages already: leave PROMPT out, or them"),
        (None, "Be brief.", "has messages already: leave --system out, or them"),
    ],
)
def test_messages_come_from_one_place(
    body: Path, prompt: str | None, system: str | None, complaint: str
) -> None:
    """What is said twice is refused, not merged."""
    body.write_text(json.dumps({"messages": MESSAGES}))
    with pytest.raises(InvalidRequest, match=complaint):
        compose(prompt, system, str(body))


@pytest.mark.parametrize(
    ("prompt", "body", "complaint"),
    [
        (None, None, "nothing to submit: give a PROMPT, - to read it from stdin, or --body FILE"),
        ("-", "-", "stdin can be PROMPT or --body, not both"),
        (" \n", None, "the prompt is empty"),
    ],
)
def test_what_cannot_be_a_request_is_refused(
    prompt: str | None, body: str | None, complaint: str
) -> None:
    """Each way to ask for nothing has its own answer."""
    with pytest.raises(InvalidRequest) as raised:
        compose(prompt, None, body)
    assert str(raised.value) == complaint
