"""Scripts are read strictly, and what is wrong with one is said in the upstream's form."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ops.simulator import Fault, Script, ToolCall
from ops.simulator.playlist import Playlist
from ops.simulator.rejection import invalid
from ops.simulator.request import coerce, read

WRONG: list[tuple[dict[str, Any], list[str], str]] = [
    ({"simulate": {"tokns": 1}}, ["body", "simulate", "tokns"], "extra_forbidden"),
    (
        {"simulate": {"fault": {"kind": "reset", "at": 1}}},
        ["body", "simulate", "fault", "at"],
        "extra_forbidden",
    ),
    ({"simulate": {"fault": {}}}, ["body", "simulate", "fault", "kind"], "missing"),
    ({"simulate": {"fault": {"kind": "x"}}}, ["body", "simulate", "fault", "kind"], "value_error"),
    ({"simulate": {"tokens": -1}}, ["body", "simulate", "tokens"], "value_error"),
    ({"messages": []}, ["body", "messages"], "value_error"),
    ({"n": 0}, ["body", "n"], "value_error"),
]


@pytest.mark.parametrize(("fields", "loc", "kind"), WRONG)
def test_a_wrong_field_is_named(fields: dict[str, Any], loc: list[str], kind: str) -> None:
    """A 422 says where in the body the mistake is and of which sort."""
    request = {"messages": [{"role": "user", "content": "hello"}], **fields}
    with pytest.raises(msgspec.ValidationError) as caught:
        read(msgspec.json.encode(request))
    rejection = invalid(caught.value)
    (detail,) = msgspec.json.decode(rejection.body)["detail"]
    assert rejection.status == 422
    assert (detail["loc"], detail["type"]) == (loc, kind)
    assert detail["msg"]


def test_a_script_survives_the_request_body() -> None:
    """`as_dict` gives the `simulate` field that asks for the same script."""
    script = Script(
        tokens=3,
        tool_calls=(ToolCall(name="f", arguments="{}"),),
        newline="\r\n",
        fault=Fault(kind="reset", byte=7),
    )
    body = msgspec.json.encode({"messages": [{}], "simulate": script.as_dict()})
    assert read(body).simulate == script


def test_unknown_request_fields_are_ignored() -> None:
    """An upstream takes sampling parameters; so does the simulator."""
    assert coerce({"messages": [{}], "temperature": 1.0, "top_p": 0.95}).simulate is None


def test_a_playlist_plays_in_order_and_as_often_as_said() -> None:
    """Queued scripts are used up one request at a time, then answers are healthy again."""
    playlist, played = Playlist(), []
    playlist.add(Script(seed=1))
    playlist.add(Script(seed=2), times=2)
    for _ in range(4):
        played.append(playlist.current.seed)
        playlist.advance()
    assert played == [1, 2, 2, 0]


def test_a_script_without_a_count_plays_until_cleared() -> None:
    """`times=None` holds for every request until `clear`."""
    playlist = Playlist()
    playlist.add(Script(seed=1), times=None)
    for _ in range(3):
        playlist.advance()
    assert playlist.current.seed == 1
    playlist.clear()
    assert playlist.current == Script()
