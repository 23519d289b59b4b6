"""Calls endpoints: resolves, checks every address, connects to the one that was checked.

One of the two importers of httpx. Nothing here raises what httpx raises.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from typing import NamedTuple, TypeAlias

import httpx

from worker import guard
from worker.guard import Network, Refused
from worker.retry import parse_retry_after

MAX_ANSWER = 16 * 1024
"""Bytes read of an answer: all that is of interest is its status."""

GRACE = 1.0
"""Seconds for an answer to end once its status is known."""

RESOLVERS = 8
"""Names that are looked up at a time."""

Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""From a name and a port to addresses; raises OSError."""


class Answer(NamedTuple):
    """What came of a call.

    Attributes:
        status: None where there was no answer.
        error: what went wrong, in our words; "" after a 2xx.
        retry_after: the least wait the endpoint asked for, in seconds.
        lasting: whether the same call will fail for ever.
    """

    status: int | None
    error: str = ""
    retry_after: float = 0
    lasting: bool = False


class Resolver:
    """The system's resolver, on threads of its own.

    The event loop has few threads for names, and streams need them: a name whose servers are silent
    must not keep an upstream from being found.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(RESOLVERS, thread_name_prefix="penstock-names")

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """The addresses of a name, in the system's order."""
        ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        return [str(each[4][0]) for each in found]

    def close(self) -> None:
        """Take no more; what is under way ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class Courier:
    """Calls endpoints, each over a connection of its own.

    Args:
        timeout: seconds for a whole call, the resolution too.
        http: whether plain http is allowed.
        allowed: special networks that may be called all the same.
        trust: whom to trust with certificates; the well-known authorities where left out.
        resolver: how names are resolved.
    """

    def __init__(
        self,
        timeout: float,
        http: bool = False,
        allowed: Sequence[Network] = (),
        trust: ssl.SSLContext | None = None,
        resolver: Resolve | None = None,
    ) -> None:
        self._timeout = timeout
        self._plain = http
        self._allowed = allowed
        self._names = Resolver()
        self._resolve = resolver or self._names
        self._trust = trust

    @cached_property
    def _http(self) -> httpx.AsyncClient:
        """Made when it is needed: to read all authorities takes long, and most workers call nobody.

        A connection is never used again: the pool knows it by its address only, and two names may
        share one, so the second would get a connection whose certificate is the first's.
        """
        return httpx.AsyncClient(
            verify=self._trust or httpx.create_ssl_context(trust_env=False),
            limits=httpx.Limits(max_keepalive_connections=0),
            trust_env=False,
            follow_redirects=False,
            timeout=self._timeout,
        )

    async def close(self) -> None:
        """Close all connections."""
        self._names.close()
        if "_http" in self.__dict__:
            await self._http.aclose()

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Call an endpoint once; whatever happens is an Answer."""
        try:
            async with asyncio.timeout(self._timeout):
                return await self._post(httpx.URL(url), body, headers)
        except TimeoutError:
            return Answer(None, f"no answer within {self._timeout:g} s")
        except Refused as refused:
            return Answer(None, str(refused), lasting=refused.lasting)
        except httpx.InvalidURL:
            return Answer(None, "this is no URL", lasting=True)
        except httpx.TimeoutException:
            return Answer(None, f"no answer within {self._timeout:g} s")
        except httpx.HTTPError as error:
            return Answer(None, str(error) or type(error).__name__)

    async def _post(self, url: httpx.URL, body: bytes, headers: Mapping[str, str]) -> Answer:
        if url.userinfo:
            raise Refused("a URL with a user or a password is not called", lasting=True)
        port = url.port or _PORTS.get(url.scheme, 0)
        addresses = await self._addresses(url.scheme, _name(url), port)
        for address in addresses[:-1]:
            try:
                return await self._call(url, address, body, headers)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue  # nothing was sent: the name has others
        return await self._call(url, addresses[-1], body, headers)

    async def _addresses(self, scheme: str, host: str, port: int) -> list[str]:
        """Where to connect to: addresses, every one of them checked; raises Refused."""
        guard.check_url(scheme, host, self._plain, self._allowed)
        try:
            found = await self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise Refused(f"the name cannot be resolved: {error}") from None
        return guard.check_addresses(found, self._allowed)

    async def _call(
        self, url: httpx.URL, address: str, body: bytes, headers: Mapping[str, str]
    ) -> Answer:
        """Connect to the address; name and certificate stay those of the URL."""
        request = self._http.build_request(
            "POST",
            url.copy_with(host=address),
            content=body,
            headers={**_HEADERS, **headers, "host": url.netloc.decode("ascii")},
            extensions={"sni_hostname": _name(url).rstrip(".")},
        )
        answer = await self._http.send(request, stream=True)
        try:
            await _read_some(answer)
        finally:
            await answer.aclose()
        return _judged(answer)


_PORTS = {"http": 80, "https": 443}

_HEADERS = {
    "content-type": "application/json",
    "user-agent": "penstock-webhooks",
    "accept-encoding": "identity",
}


def _name(url: httpx.URL) -> str:
    return url.raw_host.decode("ascii").strip("[]")


async def _read_some(answer: httpx.Response) -> None:
    """Let the endpoint finish what it says, within bounds: its status counts already."""
    seen = 0
    try:
        async with asyncio.timeout(GRACE):
            async for chunk in answer.aiter_raw():
                seen += len(chunk)
                if seen > MAX_ANSWER:
                    return
    except (TimeoutError, httpx.HTTPError):
        return


def _judged(answer: httpx.Response) -> Answer:
    status = answer.status_code
    if answer.is_success:
        return Answer(status)
    what = "a redirect, which is not followed" if answer.is_redirect else "not a success"
    wait = parse_retry_after(answer.headers, time.time()) or 0
    return Answer(status, f"the endpoint answered {status}: {what}", wait)
