"""Records for people: one job in full, many in a table."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from itertools import zip_longest
from typing import Any, Literal

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from penstock import Completion, JobRecord, JobState, Outlook
from penstock.events import encode
from producers.duration import spoken
from producers.screen import harmless
from producers.whereabouts import clock, in_words

COLOURS = {
    JobState.COMPLETED: "green",
    JobState.FAILED: "red",
    JobState.CANCELLED: "yellow",
    JobState.EXPIRED: "yellow",
}

_SIDES: tuple[Literal["left"], Literal["right"]] = ("left", "right")

PIPED = 132
"""The width of what is drawn for no terminal."""

UNCUT = 10_000
"""The width of output that no terminal shows: nothing is cut or wrapped in a pipe."""


GAP = 2
"""Between two columns."""


def width() -> int:
    """How many columns there are to fill."""
    return _console().width


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else UNCUT, highlight=False)


def print_parts(*parts: Table | Text) -> None:
    """Print to stdout, whole lines where it is a pipe."""
    click.echo("\n".join(_drawn(*parts)))


def _drawn(*parts: Table | Text) -> list[str]:
    """The lines of it."""
    console = _console()
    with console.capture() as drawn:  # rich has ways of its own with a closed pipe
        for part in parts:
            console.print(part, soft_wrap=True)
    return [line.rstrip() for line in drawn.get().removesuffix("\n").split("\n")]


def print_record(record: JobRecord, outlook: Outlook | None) -> None:
    """Print what is known about a job, how long it will wait, and its answer; not its prompt."""
    table = Table.grid(padding=(0, 2))
    for name, value in facts(record, outlook, time.time()):
        table.add_row(Text(name, "dim"), value if isinstance(value, Text) else _text(value))
    print_parts(table)
    if answer := _answer(record):
        print_parts(Text(), _text(answer))


def print_table(records: Iterable[JobRecord]) -> None:
    """Print a line for each job."""
    now = time.time()
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="dim")
    for name in ("JOB", "STATE", "AGE", "TOOK", "ROUTE", "ATTEMPT", "TOKENS"):
        table.add_column(name, no_wrap=True, min_width=30 if name == "JOB" else None)
    for record in records:
        table.add_row(*_row(record, now))
    print_parts(table)


def print_lines(
    names: Iterable[str],
    lines: Iterable[Iterable[str]],
    *,
    numbers_from: int,
    below: Iterable[str] = (),
) -> None:
    """Print a table; columns from `numbers_from` on are numbers, and stand to the right.

    `below` has for each line what is too long for a column, and comes under it.
    """
    head, *drawn = _drawn(table(names, lines, numbers_from=numbers_from))
    under = (f"  {harmless(text)}" for text in below)
    pairs = zip_longest(drawn, under)
    click.echo("\n".join([head, *(part for pair in pairs for part in pair if part)]))


def table(names: Iterable[str], lines: Iterable[Iterable[str]], *, numbers_from: int) -> Table:
    """A table; columns from `numbers_from` on are numbers, and stand to the right."""
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="dim")
    for position, name in enumerate(names):
        side = _SIDES[position >= numbers_from]
        table.add_column(name, no_wrap=True, justify=side)
    for line in lines:
        table.add_row(*map(_text, line))
    return table


def as_json(record: JobRecord) -> str:
    """The record as one line of JSON, without the request and the outcome."""
    return encode(record.model_dump(mode="json", exclude={"outcome"})).decode()


def whole_as_json(record: JobRecord, outlook: Outlook | None) -> str:
    """The record as one line of JSON, with the request, the outcome, and how long it will wait."""
    fields = record.model_dump(mode="json")
    fields["request"] = msgspec.Raw(record.request)
    fields["outlook"] = outlook._asdict() if outlook else None
    return encode(fields).decode()


def facts(record: JobRecord, outlook: Outlook | None, now: float) -> list[tuple[str, Any]]:
    """What `penstock show` tells, as names and values; what is not set is left out."""
    every = [
        ("job", record.id),
        ("state", _state(record)),
        ("waits as", in_words(outlook) if outlook else None),
        ("route", _route(record)),
        ("tier", record.tier and f"{record.tier} ({record.tier_reason})"),
        ("answered in tier", record.answered_tier),
        ("tenant", record.tenant),
        ("priority", record.priority),
        ("created", _ago(record.created_at, now)),
        ("may run from", _future(record.available_at, now)),
        ("deadline", record.deadline and clock(record.deadline, now)),
        ("started", _ago(record.started_at, now)),
        ("ended", _ago(record.finished_at, now)),
        ("took", _took(record)),
        ("attempts", f"{record.counted_attempt} of at most {record.max_attempts}"),
        ("lost workers", record.recoveries or None),
        ("conversation", record.conversation),
        ("idempotency key", record.idempotency_key),
        ("metadata", ", ".join(f"{key}={value}" for key, value in record.metadata.items())),
        ("webhook", record.webhook),
        *_outcome_facts(record),
    ]
    return [(name, value) for name, value in every if value not in (None, "")]


def _route(record: JobRecord) -> str:
    if record.asked_route:
        return f"{record.route}, in place of {record.asked_route} ({record.route_reason})"
    return f"{record.route} ({record.model})" if record.model else record.route


def _outcome_facts(record: JobRecord) -> list[tuple[str, Any]]:
    outcome = record.outcome or {}
    error = outcome.get("error") or {}
    kind = error.get("code") or error.get("type")
    return [
        ("error", f"{error['message']} ({kind})" if error else None),
        ("reason", outcome.get("reason") or record.cancel_reason),
        *_usage_facts(_completion(record)),
    ]


def _usage_facts(completion: Completion | None) -> list[tuple[str, Any]]:
    if completion is None:
        return []
    usage = completion.usage
    about = " (estimated)" if usage.estimated else ""
    cost = usage.estimated_cost
    return [
        ("answered by", completion.model),
        ("tokens", f"{usage.prompt_tokens} + {usage.completion_tokens}{about}"),
        ("cost", None if cost is None else f"${cost:.6f}"),
        ("finish", completion.choices[0].get("finish_reason") if completion.choices else None),
    ]


def _completion(record: JobRecord) -> Completion | None:
    """The answer, or what there was of it when the job was cancelled."""
    outcome = record.outcome or {}
    found = outcome if record.state == JobState.COMPLETED else outcome.get("completion")
    return Completion.model_validate(found) if found else None


def _answer(record: JobRecord) -> str:
    completion = _completion(record)
    if completion is None:
        return ""
    calls = [call.get("function") or {} for call in completion.tool_calls]
    lines = [f"tool call: {call.get('name')} {call.get('arguments')}" for call in calls]
    return "\n".join([*filter(None, [completion.text]), *lines])


def _row(record: JobRecord, now: float) -> list[str | Text]:
    completion = _completion(record)
    return [
        record.id,
        _state(record),
        spoken(now - record.created_at),
        _took(record) or "",
        record.route,
        str(record.attempt),
        str(completion.usage.completion_tokens) if completion else "",
    ]


def _state(record: JobRecord) -> Text:
    return Text(record.state, COLOURS.get(record.state, ""))


def _took(record: JobRecord) -> str | None:
    if record.started_at is None or record.finished_at is None:
        return None
    return spoken(record.finished_at - record.started_at)


def _ago(moment: float | None, now: float) -> str | None:
    return None if moment is None else f"{clock(moment, now)}, {spoken(now - moment)} ago"


def _future(moment: float, now: float) -> str | None:
    return clock(moment, now) if moment > now else None


def _text(value: Any) -> Text:
    return Text(harmless(str(value)))
