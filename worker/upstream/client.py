"""The streaming call. The only importer of httpx for it, and where its errors are mapped."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol, Self, cast

import httpx
import msgspec
from httpx_aiohttp import AiohttpTransport

from penstock.errors import ConnectFailed, StatusError, StreamBroken, TimedOut, UpstreamError
from penstock.settings import Route, Timeouts
from penstock.trace import Carrier
from worker.retry import parse_retry_after
from worker.upstream.error_body import read_error
from worker.upstream.sse import MAX_RESPONSE_BYTES, Decoder, media_type

MAX_ERROR_BYTES = 64 * 1024
"""Bytes read of an error's body."""

KEEP_ALIVE = 30.0
"""Seconds an idle connection is kept for the next job."""

DONE_GRACE = 1.0
"""Seconds for the response to end after `[DONE]`, so that its connection can be used again."""

USER_AGENT = "penstock"


class Sink(Protocol):
    """Who takes the events of a stream."""

    begun: bool
    """Whether a token has come."""

    @property
    def done(self) -> bool:
        """Whether the stream has said that it is over."""

    def receive(self, data: bytes) -> None:
        """Take one event's data; raise to stop."""

    async def turn(self) -> None:
        """Return when more may be read; asked after the first token."""


class Patience:
    """Ends a stream that is too slow, at a cost per token of one clock reading.

    A timer looks at the time of the last data when it fires, and sleeps on if there was some.
    """

    def __init__(self, timeouts: Timeouts, budget: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._start = self._loop.time()
        self._end = self._start + budget
        self._limit, self._code = timeouts.first_token, "first_token"
        self._between = timeouts.between_tokens
        self._last = self._start
        self._scope = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle | None = None

    def touch(self) -> None:
        """An event has come; before the first token that does not count."""
        self._last = self._loop.time()

    def first_token(self) -> None:
        """The first token has come: from now on the limit is that between tokens."""
        self._expect("between_tokens", self._between)

    def done(self) -> None:
        """Everything has come: all that is left is the end of the response."""
        self._expect("end", DONE_GRACE)

    def _expect(self, code: str, limit: float) -> None:
        self._limit, self._code = limit, code
        self._last = self._loop.time()
        self._arm()

    async def __aenter__(self) -> Self:
        await self._scope.__aenter__()
        self._arm()
        return self

    async def __aexit__(self, *exception: Any) -> None:
        if self._timer:
            self._timer.cancel()
        try:
            await self._scope.__aexit__(*exception)
        except TimeoutError:
            raise self._too_slow() from None

    def _arm(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._due, self._look)

    @property
    def _due(self) -> float:
        since = self._start if self._code == "first_token" else self._last
        return min(since + self._limit, self._end)

    def _look(self) -> None:
        now = self._loop.time()
        if now >= self._due:
            self._scope.reschedule(now)
        else:
            self._arm()

    def _too_slow(self) -> TimedOut:
        if self._loop.time() >= self._end:
            return TimedOut("the answer took longer than allowed in total", code="total")
        waited = self._code.replace("_", " ")
        return TimedOut(f"nothing came for {self._limit:g} s ({waited})", code=self._code)


class Upstream:
    """Streams completions from any route over shared connections.

    Args:
        transport: aiohttp's where left out.
        tells_trace: whether upstreams are told which trace a request belongs to.
    """

    def __init__(
        self, transport: httpx.AsyncBaseTransport | None = None, *, tells_trace: bool = False
    ) -> None:
        self._tells_trace = tells_trace
        limits = httpx.Limits(max_connections=10_000, keepalive_expiry=KEEP_ALIVE)
        self._http = httpx.AsyncClient(
            transport=transport or AiohttpTransport(limits=limits), trust_env=False
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def stream(
        self,
        route: Route,
        content: bytes,
        budget: float,
        sink: Sink,
        trace: Carrier | None = None,
    ) -> None:
        """Ask for a completion and pass on the data of each event.

        Args:
            route: where to ask, with its token and timeouts.
            content: the chat-completions body, as JSON.
            budget: seconds for everything.
            sink: who takes the events.
            trace: what the request belongs to.

        Raises:
            UpstreamError: in one of its kinds; whatever httpx raises is mapped to these. Nothing
                that happens after the sink is done is an error.
        """
        try:
            async with (
                Patience(route.timeouts, budget) as patience,
                self._answer(route, content, trace) as answer,
            ):
                await _check_status(answer)
                await _take(answer, sink, patience)
        except UpstreamError:
            if not sink.done:
                raise

    async def probe(self, route: Route) -> tuple[int, Sequence[str]]:
        """The status of GET /models, and the models it names, if it does.

        That costs nothing, and shows whether URL, token and model are right. Raises UpstreamError
        if there is no answer.
        """
        timeout = httpx.Timeout(route.timeouts.connect)
        try:
            answer = await self._http.get(
                f"{route.url}/models", headers=_headers(route), timeout=timeout
            )
        except httpx.HTTPError as error:
            raise _mapped(error) from None
        except (httpx.InvalidURL, OSError) as error:
            raise _unreachable(error) from None
        return answer.status_code, _models(answer.content)

    @asynccontextmanager
    async def _answer(
        self, route: Route, content: bytes, trace: Carrier | None
    ) -> AsyncIterator[httpx.Response]:
        told = trace.headers if trace and self._tells_trace else {}
        timeout = httpx.Timeout(None, connect=route.timeouts.connect, pool=route.timeouts.connect)
        try:
            request = self._http.build_request(
                "POST",
                f"{route.url}/chat/completions",
                content=content,
                headers={**_headers(route), **told},
                timeout=timeout,
            )
            answer = await self._http.send(request, stream=True)
            try:
                yield answer
            finally:
                await answer.aclose()
        except httpx.HTTPError as error:
            raise _mapped(error) from None
        except (httpx.InvalidURL, OSError) as error:
            raise _unreachable(error) from None


class _Listed(msgspec.Struct):
    id: str


class _Listing(msgspec.Struct):
    data: list[_Listed]


def _models(body: bytes) -> Sequence[str]:
    """The names in a list of models; none where it is no such list."""
    try:
        return [model.id for model in msgspec.json.decode(body, type=_Listing).data]
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []


def _headers(route: Route) -> dict[str, str]:
    headers = {
        "content-type": "application/json",
        "accept": "text/event-stream, application/json",
        "accept-encoding": "identity",
        "user-agent": USER_AGENT,
    }
    if route.token:
        headers["authorization"] = f"Bearer {route.token.get_secret_value()}"
    return headers


async def _take(answer: httpx.Response, sink: Sink, patience: Patience) -> None:
    kind = media_type(answer.headers.get("content-type", "text/event-stream"))
    if kind == "text/event-stream":
        await _take_events(answer, sink, patience)
    elif kind == "application/json":
        sink.receive(await _read(answer, MAX_RESPONSE_BYTES))
    else:
        raise StreamBroken(
            f"the upstream answered 200 with {kind[:80]}, not an event stream", code="not_a_stream"
        )


async def _take_events(answer: httpx.Response, sink: Sink, patience: Patience) -> None:
    """The hot loop: `answer.stream` gives the bytes as they came, with the least around them."""
    decoder, begun = Decoder(), False
    feed, receive, touch = decoder.feed, sink.receive, patience.touch
    chunks = aiter(cast("httpx.AsyncByteStream", answer.stream))
    async for chunk in chunks:
        for data in feed(chunk):
            receive(data)
            touch()  # here, not for each chunk: a comment that keeps the connection is no token
        if sink.done:
            break
        if not begun and sink.begun:
            begun = True
            patience.first_token()
            await sink.turn()  # one more, so that a whole flush interval lies between two deltas
        if begun:
            await sink.turn()
    patience.done()
    async for _ in chunks:
        pass  # to its end, so that the connection can be used again
    for data in decoder.close():
        receive(data)


async def _check_status(answer: httpx.Response) -> None:
    if answer.status_code == 200:
        return
    raw = await _read(answer, MAX_ERROR_BYTES)
    try:
        error = read_error(msgspec.json.decode(raw))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        error = None
    raise StatusError(
        error.message if error else f"the upstream answered {answer.status_code}",
        status=answer.status_code,
        type=error.type if error else None,
        code=error.code if error else None,
        retry_after=parse_retry_after(answer.headers, time.time()),
    )


async def _read(answer: httpx.Response, limit: int) -> bytes:
    """The body up to a limit: what is longer is cut, and will not be JSON."""
    body = bytearray()
    async for chunk in answer.aiter_bytes():
        body += chunk
        if len(body) >= limit:
            break
    return bytes(body[:limit])


def _mapped(error: httpx.HTTPError) -> UpstreamError:
    """Penstock's error for one of httpx's; httpx-aiohttp puts the cause behind it.

    A library's text names hosts and addresses, and a broken answer's may quote it: of the former it
    is the detail, of the latter not even that.
    """
    match error:
        case httpx.TimeoutException() if isinstance(error.__cause__, TimeoutError):
            return TimedOut("no connection in time", code="connect")
        case httpx.UnsupportedProtocol():
            return ConnectFailed("the route's URL is wrong", retryable=False, detail=str(error))
        case httpx.ReadError() | httpx.RemoteProtocolError():
            kind = type(error.__cause__ or error).__name__
            text = "the connection to the upstream broke"
            return StreamBroken(text, code="connection_broken", detail=kind)
        case _:
            return _unreachable(error)


def _unreachable(error: Exception) -> ConnectFailed:
    return ConnectFailed(
        "the upstream cannot be reached", detail=str(error) or type(error).__name__
    )
