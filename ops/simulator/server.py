"""The simulator as a server: routes requests, decides answers, keeps count."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, NamedTuple, Self, TypeVar

import msgspec

from ops.simulator import response as respond
from ops.simulator.answer import Answer, predict
from ops.simulator.body import PlainBody, StreamBody
from ops.simulator.connection import Connection
from ops.simulator.following import Following
from ops.simulator.limits import Limits
from ops.simulator.pace import Pace
from ops.simulator.parser import Request
from ops.simulator.playlist import Entry, Playlist
from ops.simulator.rejection import Rejection, invalid, not_allowed, not_found, reject, scripted
from ops.simulator.request import MODEL, ChatRequest, read
from ops.simulator.response import Response
from ops.simulator.responses import PATH, Responses, openai_errors
from ops.simulator.responses import expect as expect_openai
from ops.simulator.script import Fault, Script
from ops.simulator.stats import Stats
from ops.simulator.telling import Telling, tell
from ops.simulator.wheel import Wheel

T = TypeVar("T")

BACKLOG = 4096
DEFAULT_PORT = 8090


class LimitsChange(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /simulator/limits; what is left out stays as it is, null lifts a limit."""

    concurrency: int | msgspec.UnsetType | None = msgspec.UNSET
    requests_per_minute: int | msgspec.UnsetType | None = msgspec.UNSET
    burst: int | msgspec.UnsetType | None = msgspec.UNSET
    tokens_per_minute: int | msgspec.UnsetType | None = msgspec.UNSET
    retry_after: bool | msgspec.UnsetType = msgspec.UNSET


class Turn(NamedTuple):
    """What a request is dealt: its script, the fault that strikes now, and which attempt it is."""

    script: Script
    fault: Fault | None
    attempt: int


class Simulator:
    """A stand-in for an OpenAI-compatible upstream; an async context manager that serves inside.

    Args:
        host: address to listen on.
        port: 0 takes a free one; `url` tells which.
        token: answer 401 to requests without `Authorization: Bearer <token>`.
        concurrency: requests answered at once; the next gets 429.
        requests_per_minute: in any 60 seconds.
        tokens_per_minute: prompt and completion tokens in any 60 seconds.
        retry_after: whether those 429 carry Retry-After.
        ttft: seconds to the first token, where a script says nothing else.
        gap: seconds between tokens, likewise.
        jitter: 0 to 1, likewise.
        seed: other answers to the same questions.
        keep: how many of the last requests for an answer `received` holds.
        clock: seconds for the rate limits; tests bring their own.

    Attributes:
        limits: may be changed at any time.
        stats: counters; `await stats.until(...)` waits for them.
        playlist: scripts for requests that bring none.
        wheel: the timer of all paced streams.
        received: the last requests for an answer as they came, oldest first.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        concurrency: int | None = None,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        retry_after: bool = False,
        ttft: float = 0,
        gap: float = 0,
        jitter: float = 0,
        seed: int = 0,
        keep: int = 100,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.host = host
        self.port = port
        self.seed = seed
        self.limits = Limits(
            clock,
            concurrency=concurrency,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            retry_after=retry_after,
        )
        self.stats = Stats()
        self.playlist = Playlist()
        self.wheel = Wheel()
        self.received: deque[Request] = deque(maxlen=keep)
        self._authorization = None if token is None else f"Bearer {token}"
        self._pace = Pace(ttft, gap, jitter)
        self._responses = Responses(self.stats, self._hurry)
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._empty = asyncio.Event()

    @property
    def url(self) -> str:
        """The base URL, as PENSTOCK_UPSTREAM_URL takes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/v1/openai"

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self), self.host, self.port, backlog=BACKLOG
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None  # noqa: S101 - __aenter__ set it
        self._server.close()
        self._responses.close()
        while self._connections:
            self._empty.clear()
            for connection in list(self._connections):
                connection.abort()
            await self._empty.wait()
        await self._server.wait_closed()

    def play(self, script: Script, times: int | None = 1) -> None:
        """Script the next requests without a `simulate` field; None: all until `playlist.clear`."""
        self.playlist.add(script, times)

    async def until(self, condition: Callable[[Stats], bool], timeout: float = 10.0) -> None:
        """Wait for a state of the counters; raises TimeoutError."""
        await self.stats.until(condition, timeout)

    def opened(self, connection: Connection) -> None:
        """Called by a connection."""
        self._connections.add(connection)

    def closed(self, connection: Connection) -> None:
        """Called by a connection."""
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def ended(self, response: Response, how: str) -> None:
        """Called by a connection when a response is over."""
        if response.admitted:
            self.stats.tokens += response.body.tokens
            self.stats.ended(how)

    def answer(self, request: Request) -> Response:
        """Decide what a request gets; never raises."""
        try:
            return self._route(request)
        except Rejection as rejection:
            return respond.rejected(rejection)

    def _route(self, request: Request) -> Response:
        path = request.path
        if path.endswith("/chat/completions"):
            _expect("POST", request)
            return self._counted(request, self._complete)
        if found := PATH.search(path):
            return self._response(request, found["id"], cancel=found["cancel"] is not None)
        if path.endswith("/models"):
            _expect("GET", request)
            self._authorize(request)
            return respond.document(models())
        if path.startswith("/simulator/"):
            return self._operate(request)
        raise not_found()

    def _response(self, request: Request, id_: str | None, *, cancel: bool) -> Response:
        """Paths of the Responses API."""
        if id_ is None:
            with openai_errors():
                expect_openai("POST", request)
            return self._counted(request, self._respond)
        self._authorize(request)
        return self._responses.named(request, id_, cancel=cancel)

    def _counted(self, request: Request, decide: Callable[[Request], Response]) -> Response:
        self.received.append(request)
        self.stats.received()
        try:
            response = decide(request)
        except Rejection as rejection:
            response = respond.rejected(rejection)
        self.stats.answered(response.status)
        return response

    def _complete(self, request: Request) -> Response:
        self._authorize(request)
        chat = _decode(request.body)
        turn = self._turn(chat, request.body)
        return self._admitted(self._faulty(turn.fault) or self._healthy(chat, turn))

    def _respond(self, request: Request) -> Response:
        self._authorize(request)
        asked = self._responses.read(request)
        turn = self._turn(asked.chat, request.body)
        if turn.fault and turn.fault.kind != "status" and (broken := self._faulty(turn.fault)):
            return self._admitted(broken)
        answer = self._predict(asked.chat, turn.script, turn.attempt)
        pace = self._paced(answer, turn, "slow_first_token", "slow_headers")
        fault = _unless_slow(turn.fault)
        now = asyncio.get_running_loop().time()
        telling = tell(asked.spec, answer, turn.script, fault, pace, now)
        response = self._responses.begin(asked.request, telling)
        return response if asked.request.background else self._admitted(response)

    def _turn(self, chat: ChatRequest, body: bytes) -> Turn:
        """Admit a request, and deal it its turn; raises Rejection."""
        script = chat.simulate or self.playlist.current
        self.limits.admit(self.stats.in_flight, lambda: self._cost(chat, script))
        if chat.simulate is None:
            self.playlist.advance()
        attempt = self._attempt(script, body)
        over = script.attempts is not None and attempt > script.attempts
        return Turn(script, None if over else script.fault, attempt)

    def _admitted(self, response: Response) -> Response:
        response.admitted = True
        self.stats.began()
        return response

    def _hurry(self, telling: Telling) -> None:
        for connection in list(self._connections):
            body = connection.response.body if connection.response else None
            if isinstance(body, Following) and body.telling is telling:
                connection.hurry()

    def _authorize(self, request: Request) -> None:
        if self._authorization not in (None, request.headers.get("authorization")):
            raise reject(401)

    def _predict(self, chat: ChatRequest, script: Script, attempt: int = 1) -> Answer:
        return predict(chat, script=script, seed=self.seed, attempt=attempt)

    def _cost(self, chat: ChatRequest, script: Script) -> int:
        tokens: int = self._predict(chat, script).usage["total_tokens"]
        return tokens

    def _attempt(self, script: Script, body: bytes) -> int:
        """Which attempt this is; counted only where it matters, so that the count stays small."""
        if script.key is None and script.attempts is None and not script.vary:
            return 1
        return self.stats.attempt(script.key or hashlib.blake2b(body, digest_size=8).hexdigest())

    def _faulty(self, fault: Fault | None) -> Response | None:
        """The answer of a fault that leaves nothing of a completion."""
        if fault is None or fault.kind not in ("refuse", "status", "html"):
            return None
        if fault.kind == "refuse":
            return respond.refused()
        return respond.html() if fault.kind == "html" else respond.rejected(scripted(fault))

    def _healthy(self, chat: ChatRequest, turn: Turn) -> Response:
        script, fault = turn.script, _unless_slow(turn.fault)
        answer = self._predict(chat, script, turn.attempt)
        pace = self._paced(answer, turn, "slow_first_token")
        if chat.stream:
            response = respond.streamed(StreamBody(answer, script, fault), pace, script.split)
        else:
            body = PlainBody(answer, script, fault)
            response = respond.plain(body, pace.total(answer.tokens), script.split)
        if turn.fault and turn.fault.kind == "slow_headers":
            response.delay += turn.fault.seconds
        response.heartbeat = fault.heartbeat if fault else 0.0
        return response

    def _paced(self, answer: Answer, turn: Turn, *slow: str) -> Pace:
        """The rhythm of an answer, whose first token waits for faults of these kinds."""
        pace = self._pace.for_script(turn.script, answer.created)
        fault = turn.fault
        return pace.later(fault.seconds) if fault and fault.kind in slow else pace

    def _operate(self, request: Request) -> Response:
        """The simulator's own paths, for tests in another process."""
        match request.path:
            case "/simulator/stats":
                _expect("GET", request)
                return respond.document(self._report())
            case "/simulator/faults":
                return self._script(request)
            case "/simulator/limits":
                _expect("POST", request)
                return self._relimit(_decode_as(LimitsChange, request.body))
        raise not_found()

    def _report(self) -> dict[str, Any]:
        sending = (connection.response for connection in self._connections)
        moving = sum(each.body.tokens for each in sending if each and each.admitted)
        tokens = {"tokens": self.stats.tokens + moving, "charged": self.limits.charged}
        return self.stats.as_dict() | tokens

    def _script(self, request: Request) -> Response:
        if request.method == "DELETE":
            self.playlist.clear()
            return respond.document({})
        _expect("POST", request)
        entry = _decode_as(Entry, request.body)
        self.play(entry.simulate, entry.times)
        return respond.document(entry)

    def _relimit(self, change: LimitsChange) -> Response:
        for name, value in msgspec.structs.asdict(change).items():
            if value is not msgspec.UNSET:
                setattr(self.limits, name, value)
        return respond.document(change)


def models() -> dict[str, Any]:
    """The body of GET {base}/models."""
    model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "penstock-simulator"}
    return {"object": "list", "data": [model]}


def _unless_slow(fault: Fault | None) -> Fault | None:
    """The fault, where it is one that breaks something."""
    return None if fault is None or fault.kind.startswith("slow") else fault


def _expect(method: str, request: Request) -> None:
    if request.method != method:
        raise not_allowed(method)


def _decode(body: bytes) -> ChatRequest:
    try:
        return read(body)
    except msgspec.ValidationError as error:
        raise invalid(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise reject(400) from None


def _decode_as(kind: type[T], body: bytes) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise invalid(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise reject(400) from None
