"""One answer of the Responses API while it is given: what has been said follows from the time.

Nothing runs for it. It is a job without a queue: its record and its events have the forms of
Penstock's own, which the gateway's module for the Responses API puts into words. Times are those of
the event loop's clock, in seconds.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from ops.simulator.answer import Answer, Piece, cut
from ops.simulator.chunk import completion
from ops.simulator.pace import Pace
from ops.simulator.rejection import scripted, stream_error
from ops.simulator.script import PLAIN, Fault, Script
from penstock.errors import StatusError, StreamBroken, UpstreamError
from penstock.events import Event, EventType
from penstock.job import JobRecord, JobSpec
from penstock.state import JobState
from worker.upstream.choice import FINISH_REASONS, Choice
from worker.upstream.error_body import read_error

BEFORE = 2
"""Events in front of the first token: `queued` and `started`."""

STALL = 86_400.0
"""Seconds until an answer that stands still fails after all."""


class End(NamedTuple):
    """How the answer ends, as the last event of a feed says it."""

    type: EventType
    data: dict[str, Any]


class Telling:
    """Says its events one by one, each when it is due.

    Args:
        spec: the request, checked.
        answer: what the model says, without what a fault keeps back.
        end: how that ends.
        script: where they are from.
        dues: seconds from the beginning to each token, and to the end.
        now: when it begins.
    """

    def __init__(
        self, spec: JobSpec, answer: Answer, end: End, script: Script, dues: list[float], now: float
    ) -> None:
        self.id = spec.id
        self._spec, self._answer, self._end, self._script = spec, answer, end, script
        self._dues = [0.0] * BEFORE + dues
        self._began, self._created = now, time.time()

    def __len__(self) -> int:
        """How many events there will have been."""
        return len(self._dues)

    @property
    def ends(self) -> float:
        """When the last event is due."""
        return self.due(len(self) - 1)

    @property
    def tokens(self) -> int:
        """How many tokens will have been said."""
        return len(self) - BEFORE - 1

    def due(self, n: int) -> float:
        """When the event of this number, from 0, is due."""
        return self._began + self._dues[n]

    def told(self, now: float) -> int:
        """How many events are due by then."""
        return bisect_right(self._dues, now - self._began)

    def event(self, n: int) -> Event:
        """The event of this number."""
        id_, moment = f"1-{n}" if n else "0-1", self._created + self._dues[n]
        if n == len(self) - 1:
            return Event(id_, self.id, self._end.type, moment, self._end.data)
        if n == 0:
            return Event(id_, self.id, EventType.QUEUED, moment, {})
        if n < BEFORE:
            return Event(id_, self.id, EventType.STARTED, moment, {"model": self._answer.model})
        said = _delta(self._answer.choices[0].pieces[n - BEFORE])
        choices = [{"index": 0, "delta": said}]
        return Event(id_, self.id, EventType.DELTA, moment, {"choices": choices})

    def record(self, told: int) -> JobRecord:
        """The job after so many events, at least one."""
        over = told == len(self)
        state = JobState.RUNNING if told > 1 else JobState.QUEUED
        return JobRecord(
            id=self.id,
            tenant="default",
            route="default",
            model=self._answer.model,
            state=JobState(self._end.type) if over else state,
            priority=self._spec.options.priority,
            attempt=int(told > 1),
            max_attempts=1,
            result_ttl=0,
            created_at=self._created,
            available_at=self._created,
            finished_at=self._created + self._dues[-1] if over else None,
            metadata=self._spec.options.metadata,
            request=self._spec.request,
            outcome=self._end.data if over else None,
        )

    def cancel(self, now: float) -> None:
        """Let it end here with what it has said; one that has ended stays as it is."""
        told = self.told(now)
        if told == len(self):
            return
        said = cut(self._answer, told - BEFORE, self._script)
        partial = completion(said, PLAIN) if said.tokens else None
        self._end = End(EventType.CANCELLED, {"reason": "by request", "completion": partial})
        self._dues[told:] = [now - self._began]


def tell(
    spec: JobSpec, answer: Answer, script: Script, fault: Fault | None, pace: Pace, now: float
) -> Telling:
    """Begin to give an answer; the fault is one that may strike the model behind a response."""
    said, end = _concluded(answer, script, fault)
    dues = list(_dues(pace, said.tokens))
    last = dues[-1] if dues else pace.ttft
    if fault and fault.kind in ("status", "stall"):
        last = 0.0 if fault.kind == "status" else last + STALL
    return Telling(spec, said, end, script, [*dues, last], now)


def _delta(piece: Piece) -> dict[str, Any]:
    return {"reasoning_content" if piece.kind == "reasoning" else piece.kind: piece.value}


def _dues(pace: Pace, tokens: int) -> Iterator[float]:
    due = pace.ttft
    for _ in range(tokens):
        yield due
        due += pace.next_gap()


def _concluded(answer: Answer, script: Script, fault: Fault | None) -> tuple[Answer, End]:
    """What is said of an answer, and how that ends."""
    if fault is None:
        return answer, _ended(answer)
    if fault.kind == "status":
        return cut(answer, 0, script), _failed(_refusal(fault))
    if fault.kind == "finish":
        said = cut(answer, fault.event, script, fault.finish_reason)
        return said, _ended(said)
    return cut(answer, fault.event, script), _failed(_broken(fault))


def _ended(answer: Answer) -> End:
    """As a worker sees it: an answer without a known reason to end is none."""
    reason = answer.choices[0].finish_reason
    try:
        Choice().advance({"index": 0, "delta": {}, "finish_reason": reason})
    except StreamBroken as error:
        return _failed(error)
    if reason in FINISH_REASONS:
        return End(EventType.COMPLETED, completion(answer, PLAIN))
    message = f"choice 0 ended with finish_reason {reason!r}"
    return _failed(StreamBroken(message, code="unknown_finish_reason"))


def _failed(error: UpstreamError) -> End:
    return End(EventType.FAILED, {"error": error.as_dict(), "attempts": 1})


def _refusal(fault: Fault) -> StatusError:
    body = scripted(fault).body
    said = read_error(msgspec.json.decode(body)) if body else None
    if said is None:
        return StatusError(f"the upstream answered {fault.status}", status=fault.status)
    return StatusError(said.message, status=fault.status, type=said.type, code=said.code)


def _broken(fault: Fault) -> StreamBroken:
    said = read_error(msgspec.json.decode(stream_error(fault)))
    if fault.kind == "error_object" and said is not None:
        return StreamBroken(said.message, type=said.type, code=said.code)
    return StreamBroken(f"the model's answer broke off: {fault.kind}", code=fault.kind)
