"""Tells a job's events to a person as they come, or to a program."""

from __future__ import annotations

from typing import Any, Protocol

from penstock import Event, EventType
from penstock.events import encode
from producers.duration import spoken
from producers.screen import Screen


class Teller(Protocol):
    """Takes the events of one job, in order."""

    def tell(self, event: Event) -> None:
        """Show this event."""


class Narration:
    """The answer's text goes to stdout; reasoning, tool calls and what happened go to stderr."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._times: dict[str, float] = {}
        self._calls = ToolCalls(screen)

    def tell(self, event: Event) -> None:
        """Show this event."""
        self._times.setdefault(event.type, event.time)
        match event.type:
            case EventType.STARTED:
                self._started(event)
            case EventType.DELTA:
                self._delta(event.data["choices"])
            case EventType.RESTARTED:
                self._restarted(event)
            case EventType.COMPLETED:
                self._completed(event)
            case _:
                pass  # queued: the status line says it; the other ends are errors

    def _started(self, event: Event) -> None:
        self._times["started"] = event.time
        self._times.pop("delta", None)
        if event.data["attempt"] > 1:
            self._screen.note(f"attempt {event.data['attempt']}", dim=True)

    def _delta(self, choices: list[dict[str, Any]]) -> None:
        """The first choice as it comes; several at once would be a babble."""
        for delta in (choice["delta"] for choice in choices if choice["index"] == 0):
            self._screen.aside(delta.get("reasoning_content") or "")
            for call in delta.get("tool_calls") or ():
                self._calls.tell(call)
            self._screen.aside(delta.get("refusal") or "")
            if text := delta.get("content"):
                self._screen.result(text)

    def _restarted(self, event: Event) -> None:
        self._calls = ToolCalls(self._screen)
        self._screen.end_line()  # on stdout too, where the void text may be in a pipe already
        wait = event.data["retry_at"] - event.time
        when = f"in {spoken(wait)}" if wait >= 0.1 else "now"
        self._screen.note(
            f"attempt {event.data['attempt']} broke off ({event.data['reason']}): the text above "
            f"is void, the answer begins anew {when}"
        )

    def _completed(self, event: Event) -> None:
        first, *others = event.data["choices"]
        for choice in others:
            self._screen.end_line()
            self._screen.note(f"choice {choice['index'] + 1}:", dim=True)
            self._screen.result(choice["message"].get("content") or "")
        self._screen.end_line()
        if first["finish_reason"] == "length":
            self._screen.note("the answer was cut: it reached max_tokens")
        self._screen.note(closing(event, self._times), dim=True)


class ToolCalls:
    """The tool calls of one attempt as they build; models may interleave several."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._current: int | None = None
        self._named: set[int] = set()

    def tell(self, call: dict[str, Any]) -> None:
        """Show a piece: of the name, then of the arguments, with a label where the call changes."""
        index, function = call.get("index", 0), call.get("function") or {}
        if index != self._current:
            self._current = index
            self._screen.end_line()
            self._screen.aside(f"tool call {index + 1}: ")
        self._screen.aside(function.get("name") or "")
        if arguments := function.get("arguments"):
            self._screen.aside(arguments if index in self._named else f" {arguments}")
            self._named.add(index)


class EventLines:
    """Each event as one line of JSON on stdout."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def tell(self, event: Event) -> None:
        """Show this event."""
        self._screen.result(encode(event).decode() + "\n")


class CompletionLine:
    """Only the final chat.completion, as one line of JSON on stdout."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def tell(self, event: Event) -> None:
        """Show this event if it is the completion."""
        if event.type == EventType.COMPLETED:
            self._screen.result(encode(event.data).decode() + "\n")


def closing(event: Event, times: dict[str, float]) -> str:
    """The last line: tokens, cost and times, as far as the events seen tell; by Redis's clock."""
    usage = event.data["usage"]
    parts = [f"{usage['prompt_tokens']} + {usage['completion_tokens']} tokens", *_cost(usage)]
    started, first = times.get("started"), times.get("delta")
    if started is not None and first is not None:
        parts.append(f"first token after {first - started:.2f} s")
    if first is not None and event.time - first > 0.05:
        parts.append(f"{usage['completion_tokens'] / (event.time - first):.0f} tokens/s")
    took = f" in {spoken(event.time - times['queued'])}" if "queued" in times else ""
    return f"done{took}: {', '.join(parts)}"


def _cost(usage: dict[str, Any]) -> list[str]:
    cost = usage.get("estimated_cost")
    return [] if cost is None else [f"${cost:.6f}"]
