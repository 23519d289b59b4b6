"""The one place that makes connections to Redis from a URL; address.py says what a URL may be.

Where it names Sentinels, every new connection asks them first which server is the primary, so
whatever connects again after a failover goes to the new one by itself. A server that refuses writes
because it is the primary no longer is as good as away: the connection is given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any

import redis
import redis.asyncio
import redis.asyncio.retry
from pydantic_core import PydanticCustomError
from redis import exceptions
from redis.asyncio import sentinel as async_sentinel
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.retry import Retry
from redis.sentinel import SentinelManagedConnection, SentinelManagedSSLConnection

from penstock import address
from penstock.address import Address, without_credentials
from penstock.errors import ConfigurationError
from penstock.mistake import Mistake

CONNECT_TIMEOUT = 3.0
"""Seconds to connect: a local network answers in milliseconds, a dead host never."""

COMMAND_TIMEOUT = 10.0
"""Seconds for a reply: a server that is busier than this is as good as away."""

SENTINEL_TIMEOUT = 1.0
"""Seconds for a Sentinel, which does nothing else; there are others to ask."""

MAX_CONNECTIONS = 64
"""Of one asynchronous client; commands are short, so few connections serve many coroutines."""

RETRIES = 2
"""Every script may be sent twice, so a lost connection is retried at once, briefly."""

GOING = {"s_down", "o_down", "failover_in_progress"}
"""What a Sentinel says of a primary that nobody should turn to any more."""

CALLED = {"client_name": "penstock", "driver_info": None}
"""What a connection says it is. Not redis-py's version: to look that up took two milliseconds of
CPU for each, and our roles may not say it."""

FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


class Demoted(exceptions.ConnectionError):
    """The server takes no writes: it is a replica, or a primary without its replicas."""


def is_demotion(error: BaseException) -> bool:
    """Whether a server says that it takes no writes.

    NOREPLICAS: `min-replicas-to-write` holds a primary back that may be one no longer.
    """
    return isinstance(error, exceptions.ReadOnlyError) or str(error).startswith("NOREPLICAS")


class _Wary:
    """Gives a connection up whose server has been demoted, so that the next one finds the primary.

    redis-py's own connections to a primary do so for READONLY only.
    """

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        """Read one; raises Demoted."""
        try:
            return super().read_response(*arguments, **options)  # type: ignore[misc]
        except exceptions.ResponseError as error:
            if not is_demotion(error):
                raise
            self.disconnect()  # type: ignore[attr-defined]
            raise Demoted(str(error)) from None


class _Obedient:
    """Ends a command that is cancelled while it is sent, and asks again where the primary is.

    redis-py sends within `asyncio.wait_for`, which up to Python 3.11 loses a cancellation that
    comes in the moment in which the sending ends: its reader would read on, its timeout never end.
    And a connection that broke it connects again to where it was: to the old primary, come back.
    Blocking connections stay so: kombu listens on them, and has to hear that one broke.
    """

    async def send_packed_command(
        self, command: bytes | str | Iterable[bytes], check_health: bool = True
    ) -> None:
        """Write one, connecting before if need be; raises redis-py's ConnectionError."""
        connection: Any = self
        if not connection.is_connected:
            await connection.connect()
        if check_health:
            await connection.check_health()
        encoded = command.encode() if isinstance(command, str) else command
        parts = [encoded] if isinstance(encoded, bytes) else encoded
        try:
            async with asyncio.timeout(connection.socket_timeout):
                await connection._send_packed_command(parts)
        except BaseException as error:
            await connection.disconnect(nowait=True)  # half a command may have been sent
            if isinstance(error, OSError):
                kind = exceptions.TimeoutError if isinstance(error, TimeoutError) else None
                raise (kind or exceptions.ConnectionError)(f"while sending: {error}") from None
            raise


class _AsyncWary(_Obedient):
    """As _Wary, for asyncio."""

    async def read_response(self, *arguments: Any, **options: Any) -> Any:
        """Read one; raises Demoted."""
        try:
            return await super().read_response(*arguments, **options)  # type: ignore[misc]
        except exceptions.ResponseError as error:
            if not is_demotion(error):
                raise
            await self.disconnect()  # type: ignore[attr-defined]
            raise Demoted(str(error)) from None


class Connection(_Wary, redis.Connection):
    """To a server."""


class SSLConnection(_Wary, redis.SSLConnection):
    """The same with TLS."""


class PrimaryConnection(_Wary, SentinelManagedConnection):
    """To whichever server the Sentinels name."""


class PrimarySSLConnection(_Wary, SentinelManagedSSLConnection):
    """The same with TLS."""


class AsyncUnixConnection(_Obedient, redis.asyncio.UnixDomainSocketConnection):
    """To a server on this machine."""


class AsyncConnection(_AsyncWary, redis.asyncio.Connection):
    """As Connection, for asyncio."""


class AsyncSSLConnection(_AsyncWary, redis.asyncio.SSLConnection):
    """As SSLConnection, for asyncio."""


class AsyncPrimaryConnection(_AsyncWary, async_sentinel.SentinelManagedConnection):
    """As PrimaryConnection, for asyncio."""


class AsyncPrimarySSLConnection(_AsyncWary, async_sentinel.SentinelManagedSSLConnection):
    """As PrimarySSLConnection, for asyncio."""


_CLASSES: dict[tuple[bool, bool, bool], type[Any]] = {
    (False, False, False): Connection,
    (False, False, True): SSLConnection,
    (False, True, False): PrimaryConnection,
    (False, True, True): PrimarySSLConnection,
    (True, False, False): AsyncConnection,
    (True, False, True): AsyncSSLConnection,
    (True, True, False): AsyncPrimaryConnection,
    (True, True, True): AsyncPrimarySSLConnection,
}
"""By whether it is asynchronous, whether Sentinels are asked, and whether it has TLS."""


class _Search:
    """One search for the primary: iterate over the Sentinels to ask, `hear` what each says."""

    def __init__(self, hosts: list[tuple[str, int]], name: str) -> None:
        self._hosts, self._name = hosts, name
        self._troubles: dict[tuple[str, int], Exception] = {}
        self._primary: tuple[str, int] | None = None

    def __iter__(self) -> Iterator[tuple[str, int]]:
        for place in tuple(self._hosts):
            if not self.is_over:
                yield place

    @property
    def is_over(self) -> bool:
        """Whether the primary is known."""
        return self._primary is not None

    def hear(self, place: tuple[str, int], reply: list[bytes] | Exception) -> None:
        """Take a Sentinel's reply; one that helps goes to the front."""
        if isinstance(reply, Exception):
            self._troubles[place] = reply
            return
        about = {n.decode(): v.decode() for n, v in zip(reply[::2], reply[1::2], strict=True)}
        if GOING & set(about["flags"].split(",")):
            self._troubles[place] = exceptions.ConnectionError(f"{self._name} is down")
            return
        self._primary = about["ip"], int(about["port"])
        self._hosts.remove(place)
        self._hosts.insert(0, place)

    @property
    def primary(self) -> tuple[str, int]:
        """Host and port; raises redis-py's ConnectionError where none is known.

        A refused password is a mistake of ours; everything else may be over in a moment.
        """
        if self._primary is not None:
            return self._primary
        refusals = (exceptions.AuthenticationError, exceptions.NoPermissionError)
        if all(isinstance(error, refusals) for error in self._troubles.values()):
            raise exceptions.AuthenticationError("the Sentinels do not take sentinel_password")
        told = "; ".join(f"{h}:{p}: {str(e).rstrip('.')}" for (h, p), e in self._troubles.items())
        raise exceptions.ConnectionError(f"no Sentinel knows {self._name!r} to be up ({told})")


class _Sentinels:
    """Knows where the primary is: what redis-py's connections to one ask of their pool.

    Each question has a connection of its own, as Sentinel's manual wants it: they are rare.
    """

    is_master = True
    check_connection = False

    def __init__(self, known: Address, options: dict[str, Any]) -> None:
        self._hosts = list(known.sentinels)
        self._name = known.primary
        tls = {name: value for name, value in options.items() if name.startswith("ssl_")}
        self._tls = known.url.startswith("rediss:")
        self._options = {
            **tls, **dict(known.sentinel_login), **CALLED, "protocol": 2,
            "socket_connect_timeout": SENTINEL_TIMEOUT, "socket_timeout": SENTINEL_TIMEOUT,
        }  # fmt: skip

    def unhelpful(self) -> list[tuple[str, int]]:
        """Those that, asked one by one, do not say that the primary is up."""
        found = []
        for place in tuple(self._hosts):
            search = _Search([place], self._name)
            search.hear(place, self._ask(*place))
            found += [] if search.is_over else [place]
        return found

    def get_master_address(self) -> tuple[str, int]:
        """Host and port of the primary; raises redis-py's ConnectionError."""
        search = _Search(self._hosts, self._name)
        for place in search:
            search.hear(place, self._ask(*place))
        return search.primary

    def _ask(self, host: str, port: int) -> list[bytes] | Exception:
        kind = redis.SSLConnection if self._tls else redis.Connection
        connection: Any = kind(host=host, port=port, retry=Retry(NoBackoff(), 0), **self._options)
        try:
            connection.send_command("SENTINEL", "MASTER", self._name)
            reply: list[bytes] = connection.read_response()
        except (exceptions.RedisError, OSError) as error:
            return error
        finally:
            connection.disconnect()
        return reply


class _AsyncSentinels(_Sentinels):
    """As _Sentinels, for asyncio."""

    async def get_master_address(self) -> tuple[str, int]:  # type: ignore[override]
        """As _Sentinels.get_master_address."""
        search = _Search(self._hosts, self._name)
        for place in search:
            search.hear(place, await self._ask(*place))
        return search.primary

    async def _ask(  # type: ignore[override]
        self, host: str, port: int
    ) -> list[bytes] | Exception:
        kind = redis.asyncio.SSLConnection if self._tls else redis.asyncio.Connection
        retry = redis.asyncio.retry.Retry(NoBackoff(), 0)
        connection: Any = kind(host=host, port=port, retry=retry, **self._options)
        try:
            await connection.send_command("SENTINEL", "MASTER", self._name)
            reply: list[bytes] = await connection.read_response()
        except (exceptions.RedisError, OSError) as error:
            return error
        finally:
            await connection.disconnect(nowait=True)
        return reply


class Server:
    """A server, or the primary of several, as a URL says.

    Raises ConfigurationError, without showing a secret, where the URL cannot be used.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._address, self._given = _understood(url)
        self._unix = self._address.url.startswith("unix:")

    def __repr__(self) -> str:
        """Without secrets: kombu compares connections by it, and Celery shows it."""
        return f"Server({without_credentials(self.url)!r})"

    def __json__(self) -> str:
        """As shown: `celery inspect stats` and Flower ask workers for their broker's options."""
        return repr(self)

    @property
    def sentinels(self) -> tuple[str, ...]:
        """HOST:PORT of each Sentinel; none where the URL is the server's own."""
        return tuple(f"{host}:{port}" for host, port in self._address.sentinels)

    def unhelpful_sentinels(self) -> list[str]:
        """Those that do not say where the primary is, or that it is down."""
        asked = _Sentinels(self._address, self._given).unhelpful()
        return [f"{host}:{port}" for host, port in asked]

    def options(self, *, asynchronous: bool = False) -> dict[str, Any]:
        """How redis-py's pools make a connection: its class, and what that is made with.

        What the URL says goes before our own; `retry` is the caller's to add.
        """
        if self._unix:
            local = AsyncUnixConnection if asynchronous else redis.UnixDomainSocketConnection
            return {**self._plain(), "connection_class": local}
        known = self._address
        kind = asynchronous, bool(known.sentinels), known.url.startswith("rediss:")
        options = {**self._plain(), "socket_keepalive": True, "connection_class": _CLASSES[kind]}
        if known.sentinels:
            guide = _AsyncSentinels if asynchronous else _Sentinels
            options["connection_pool"] = guide(known, self._given)
        return options

    def _plain(self) -> dict[str, Any]:
        return {
            "socket_connect_timeout": CONNECT_TIMEOUT,
            "socket_timeout": COMMAND_TIMEOUT,
            **CALLED,
            **self._given,
        }

    def client(self) -> redis.Redis:
        """A client that blocks; a broken connection is tried again, briefly."""
        options = {**self.options(), "retry": Retry(_backoff(), RETRIES)}
        return redis.Redis.from_pool(redis.ConnectionPool(**options))

    def async_client(self) -> redis.asyncio.Redis:
        """A client for asyncio.

        Its pool lets callers wait for a connection: a thousand followers are no error.
        """
        options = {
            "max_connections": MAX_CONNECTIONS,
            "timeout": COMMAND_TIMEOUT,
            **self.options(asynchronous=True),
            "retry": redis.asyncio.retry.Retry(_backoff(), RETRIES),
        }
        return redis.asyncio.Redis.from_pool(redis.asyncio.BlockingConnectionPool(**options))

    def channel(self) -> redis.Redis:
        """A client to listen with, which blocks.

        A broken channel must be heard of: redis-py's own retry would reconnect and say nothing.
        """
        options = {**self.options(), "socket_timeout": None, "retry": Retry(NoBackoff(), 0)}
        return redis.Redis.from_pool(redis.ConnectionPool(**options))

    def async_channel(self, **more: Any) -> redis.asyncio.Redis:
        """As `channel`, for asyncio; `more` for its connections."""
        retry = redis.asyncio.retry.Retry(NoBackoff(), 0)
        forced = {"socket_timeout": None, "retry": retry, **more}
        options = {**self.options(asynchronous=True), **forced}
        return redis.asyncio.Redis.from_pool(redis.asyncio.ConnectionPool(**options))


def _understood(url: str) -> tuple[Address, dict[str, Any]]:
    """What a URL says, and as a connection takes it; raises ConfigurationError."""
    try:
        known = address.read(url)
        given = _given(known)
    except PydanticCustomError as error:
        context = error.context or {}
        mistake = Mistake("PENSTOCK_REDIS_URL", "", context["text"], context["remedy"])
        raise ConfigurationError(str(mistake), [mistake]) from None
    _check_files(given)
    return known, given


def _given(known: Address) -> dict[str, Any]:
    """The options of a URL, tried on a connection that is not made."""
    kind = redis.SSLConnection if known.url.startswith("rediss:") else redis.Connection
    try:
        options: dict[str, Any] = dict(redis.connection.parse_url(known.url))  # type: ignore[no-untyped-call]
        options.pop("connection_class", None)
        pool = {"max_connections", "timeout", "path"}
        kind(**{name: value for name, value in options.items() if name not in pool})
    except (ValueError, TypeError, OverflowError, exceptions.RedisError):
        raise address.unreadable() from None
    return options


def _check_files(options: dict[str, Any]) -> None:
    for name in FILES:
        try:
            if name in options:
                open(options[name]).close()
        except (OSError, ValueError) as error:
            text = f"names a file as {name} that cannot be read: {getattr(error, 'strerror', '')}"
            remedy = "correct the path, or let this user read it"
            mistake = Mistake("PENSTOCK_REDIS_URL", "", text, remedy)
            raise ConfigurationError(str(mistake), [mistake]) from None


def _backoff() -> ExponentialWithJitterBackoff:
    return ExponentialWithJitterBackoff(base=0.05, cap=0.5)
