"""The Responses API over the simulator's memory.

Requests are read, and answers put into words, by the gateway's own pure modules; what is said, and
when, is the simulator's. Nothing here knows of jobs' options: they are taken and mean nothing.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import msgspec

from ops.simulator import response as respond
from ops.simulator.following import Following
from ops.simulator.parser import Request
from ops.simulator.rejection import Rejection
from ops.simulator.request import ChatRequest
from ops.simulator.response import FixedBody, Response
from ops.simulator.sending import EARLY
from ops.simulator.stats import Stats
from ops.simulator.telling import Telling
from penstock.errors import InvalidRequest, JobNotFound, PenstockError
from penstock.events import EventType
from penstock.job import JobSpec
from producers.gateway.openai import errors
from producers.gateway.openai.request import ResponseRequest
from producers.gateway.openai.request import read as read_request
from producers.gateway.openai.response import earlier, job_id, of_record
from producers.gateway.problem import Problem, problem_of

KEPT = 1000
"""How many of the last responses can still be asked for."""

PATH = re.compile(r"/responses(?:/(?P<id>[^/]+)(?P<cancel>/cancel)?)?$")


class Query(msgspec.Struct):
    """What stands behind the `?` of a response's path."""

    stream: bool = False
    starting_after: int = -1


class Asked(NamedTuple):
    """A request for a response: as it was read, as a job, and as the chat that answers it."""

    request: ResponseRequest
    spec: JobSpec
    chat: ChatRequest


class Responses:
    """Begins responses, keeps the last KEPT, shows, streams and cancels them.

    Args:
        stats: what to count in; a background response is in flight until its end, whoever reads.
        hurry: called with a telling that goes on sooner than its readers expect.
    """

    def __init__(self, stats: Stats, hurry: Callable[[Telling], None]) -> None:
        self._stats, self._hurry = stats, hurry
        self._kept: dict[str, Telling] = {}
        self._running: dict[str, asyncio.TimerHandle] = {}

    def close(self) -> None:
        """Nothing in the background is counted any more."""
        for timer in self._running.values():
            timer.cancel()

    def read(self, request: Request) -> Asked:
        """Check a request; raises Rejection, which names each wrong field."""
        with openai_errors():
            _query(request, frozenset())
            given = _object(request.body)
            simulate = given.pop("simulate", None)
            asked, options = read_request(given)
            before = self._before(asked.previous_response_id)
            spec = JobSpec.build({**asked.job(before), **options})
            return Asked(asked, spec, _chat(spec, simulate))

    def begin(self, asked: ResponseRequest, telling: Telling) -> Response:
        """The answer to a request: waited for, streamed, or that it has begun."""
        self._keep(telling)
        if asked.stream:
            response = self._streamed(telling)
        elif asked.background:
            response = _shown(telling, 1)
        else:
            response = _whole(telling)
        if asked.background:
            self._count(telling)
        return response

    def named(self, request: Request, id_: str, *, cancel: bool) -> Response:
        """The answer to a request about a response; raises Rejection."""
        with openai_errors():
            expect("POST" if cancel else "GET", request)
            known = frozenset() if cancel else frozenset(Query.__struct_fields__)
            query = _query(request, known)
            telling = self._find(id_)
            if cancel:
                self._cancel(telling)
            if query.stream:
                return self._streamed(telling, query.starting_after)
            return _shown(telling, telling.told(_now()))

    def _find(self, id_: str) -> Telling:
        try:
            return self._kept[job_id(id_)]
        except KeyError:
            raise JobNotFound(f"there is no response {id_!r}") from None

    def _before(self, id_: str | None) -> list[dict[str, Any]]:
        if id_ is None:
            return []
        telling = self._find(id_)
        return earlier(telling.record(telling.told(_now())))

    def _keep(self, telling: Telling) -> None:
        self._kept[telling.id] = telling
        if len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]

    def _streamed(self, telling: Telling, after: int = -1) -> Response:
        following = Following(telling, after, asyncio.get_running_loop().time())
        return respond.streamed(following, following)

    def _cancel(self, telling: Telling) -> None:
        telling.cancel(_now())
        self._over(telling, "aborted_by_client")
        self._hurry(telling)

    def _count(self, telling: Telling) -> None:
        self._stats.began()
        loop = asyncio.get_running_loop()
        self._running[telling.id] = loop.call_at(telling.ends, self._over, telling, "completed")

    def _over(self, telling: Telling, how: str) -> None:
        timer = self._running.pop(telling.id, None)
        if timer is not None:
            timer.cancel()
            self._stats.tokens += telling.tokens
            self._stats.ended(how)


@contextmanager
def openai_errors() -> Iterator[None]:
    """Turns what goes wrong inside into a Rejection in OpenAI's shape."""
    try:
        yield
    except Problem as problem:
        raise _rejection(problem) from None
    except PenstockError as error:
        raise _rejection(problem_of(error)) from None


def expect(method: str, request: Request) -> None:
    """Raise Problem for any other method."""
    if request.method != method:
        text = f"{request.method}: this path takes {method}"
        raise Problem(405, "method_not_allowed", text, {"allow": method})


def _now() -> float:
    """By now; a stream's timer may be early, and nobody is to see less than its reader."""
    return asyncio.get_running_loop().time() + EARLY


def _rejection(problem: Problem) -> Rejection:
    body = msgspec.json.encode(errors.of_problem(problem))
    return Rejection(problem.status, body, problem.headers)


def _object(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Problem(400, "not_json", "the body is not a JSON object in UTF-8") from None


def _chat(spec: JobSpec, simulate: Any) -> ChatRequest:
    body = {**msgspec.json.decode(spec.request), "simulate": simulate}
    try:
        return msgspec.convert(body, ChatRequest)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"invalid request: {error}") from None


def _query(request: Request, known: frozenset[str]) -> Query:
    given = dict(parse_qsl(request.target.partition("?")[2], keep_blank_values=True))
    for name in given.keys() - known:
        text = f"{name}: is not supported as a query parameter here"
        raise Problem(400, "unknown_parameter", text)
    try:
        return msgspec.convert(given, Query, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"invalid query: {error}") from None


def _shown(telling: Telling, told: int) -> Response:
    """The response after so many events."""
    return respond.document(of_record(telling.record(told)))


def _whole(telling: Telling) -> Response:
    """The response at its end, or how it fails, when that is due."""
    last = telling.event(len(telling) - 1)
    if last.type == EventType.FAILED:
        failure = errors.of_event(last)
        status, said = failure.status, errors.body(failure)
    else:
        status, said = 200, of_record(telling.record(len(telling)))
    encoded = msgspec.json.encode(said)
    response = respond.fixed(status, encoded)
    response.body = FixedBody(encoded, tokens=telling.tokens)
    response.delay = telling.ends - asyncio.get_running_loop().time()
    return response
