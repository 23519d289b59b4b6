"""What a person sees of a feed: which text goes to stdout, and what is said beside it."""

from __future__ import annotations

from typing import Any

import pytest

from penstock import Event
from penstock.events import decode
from producers.narration import CompletionLine, EventLines, Narration, Teller
from producers.screen import Screen, harmless

USAGE = {"prompt_tokens": 7, "completion_tokens": 20, "estimated_cost": 0.00001}


class Told:
    """Tells events and keeps what came of it."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, kind: Any, *events: Event) -> tuple[str, str]:
        """Stdout and stderr after these events."""
        with Screen() as screen:
            teller: Teller = kind(screen)
            for event in events:
                teller.tell(event)
        return self._capsys.readouterr()


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    """See Told."""
    return Told(capsys)


def event(kind: str, time: float = 0.0, **data: Any) -> Event:
    """An event of a job."""
    return Event("1-1", "job_1", kind, time, data)


def delta(index: int = 0, time: float = 0.0, **fields: Any) -> Event:
    """A delta of one choice."""
    return event("delta", time, choices=[{"index": index, "delta": fields}])


def choice(text: str, index: int = 0, finish: str = "stop") -> dict[str, Any]:
    """A choice of a completion."""
    message = {"role": "assistant", "content": text}
    return {"index": index, "message": message, "finish_reason": finish}


def test_only_the_answer_goes_to_stdout(told: Told) -> None:
    """Reasoning and the closing figures are told on stderr, so stdout can be piped."""
    out, err = told(
        Narration,
        event("queued", 10.0),
        event("started", 10.5, attempt=1),
        delta(time=10.8, reasoning_content="Hm."),
        delta(time=11.0, content="Hello"),
        delta(time=11.2, content=" there"),
        event("completed", 12.8, choices=[choice("Hello there")], usage=USAGE),
    )
    assert out == "Hello there\n"
    assert err == (
        "Hm.\ndone in 2.8 s: 7 + 20 tokens, $0.000010, first token after 0.30 s, 10 tokens/s\n"
    )


def test_a_restart_says_that_the_text_above_is_void(told: Told) -> None:
    """The void text gets its own line, and the notice says why and when the answer begins anew."""
    out, err = told(
        Narration,
        event("started", attempt=1),
        delta(content="Hel"),
        event("restarted", 5.0, attempt=1, reason="connection_broken", retry_at=7.0),
        event("started", attempt=2),
        delta(content="Hello"),
    )
    assert out == "Hel\nHello\n"
    assert err == (
        "attempt 1 broke off (connection_broken): the text above is void, the answer begins anew "
        "in 2.0 s\nattempt 2\n"
    )


def test_tool_calls_are_told_as_they_build(told: Told) -> None:
    """Names and arguments in pieces make one line a call; interleaved calls are kept apart."""
    out, err = told(
        Narration,
        delta(tool_calls=[{"index": 0, "id": "a", "function": {"name": "get_"}}]),
        delta(tool_calls=[{"index": 0, "function": {"name": "weather"}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": '{"city":'}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": '"Zug"}'}}]),
        delta(tool_calls=[{"index": 1, "function": {"name": "now", "arguments": "{}"}}]),
    )
    assert out == ""
    assert err == 'tool call 1: get_weather {"city":"Zug"}\ntool call 2: now {}\n'


def test_further_choices_follow_when_the_first_is_told(told: Told) -> None:
    """With n > 1 only the first choice is streamed; the others come whole at the end."""
    out, err = told(
        Narration,
        delta(0, content="one"),
        delta(1, content="two"),
        event("completed", choices=[choice("one"), choice("two", 1)], usage=USAGE),
    )
    assert out == "one\ntwo\n"
    assert err.startswith("choice 2:\n")


def test_an_answer_that_was_cut_is_called_so(told: Told) -> None:
    """A finish_reason of `length` is not passed over."""
    completed = event("completed", choices=[choice("one", finish="length")], usage=USAGE)
    _, err = told(Narration, completed)
    assert err.startswith("the answer was cut: it reached max_tokens\n")


def test_figures_that_were_not_seen_are_left_out(told: Told) -> None:
    """Who joins late gets tokens and cost, and no invented times."""
    _, err = told(Narration, event("completed", choices=[choice("x")], usage=USAGE))
    assert err == "done: 7 + 20 tokens, $0.000010\n"


def test_json_lines_are_the_events(told: Told) -> None:
    """Each line is an event as it stands on Redis, and nothing else is said."""
    events = [event("queued", 1.5, route="default"), delta(content="a\n\u2028b")]
    out, err = told(EventLines, *events)
    assert [decode(line.encode()) for line in out.rstrip("\n").split("\n")] == events
    assert err == ""


def test_waiting_prints_the_completion_only(told: Told) -> None:
    """One line of JSON, for a program; deltas are not told."""
    completed = event("completed", choices=[choice("Hi")], usage=USAGE)
    out, err = told(CompletionLine, delta(content="Hi"), completed)
    assert out.count("\n") == 1
    assert '"content":"Hi"' in out
    assert err == ""


def test_what_a_model_says_cannot_drive_a_terminal() -> None:
    """Control characters are shown as such, but for tabs and line ends."""
    assert harmless("a\x1b[2Jb\x9b1mc\td\r\ne\x07") == "a\ufffd[2Jb\ufffd1mc\td\ne\ufffd"
