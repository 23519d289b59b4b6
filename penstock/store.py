"""Runs commands on Redis: `Store` blocks, `AsyncStore` awaits.

The one place that maps redis-py's errors; connection.py makes the connections.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Self, TypeVar

import redis
import redis.asyncio
from redis import exceptions

from penstock.address import is_of_sentinels, without_credentials
from penstock.commands import Command
from penstock.connection import Demoted, Server, is_demotion
from penstock.errors import (
    ConfigurationError,
    InvalidRequest,
    NotPermitted,
    PenstockError,
    StoreError,
    StoreFull,
    StoreUnavailable,
)

T = TypeVar("T")

_BROKEN = (exceptions.ConnectionError, exceptions.TimeoutError, OSError)
_UNREACHABLE = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.BusyLoadingError,
    exceptions.MasterDownError,
    OSError,
)


def map_error(error: BaseException, url: str) -> PenstockError:
    """Penstock's error for one of redis-py's, saying what to do."""
    shown, text = without_credentials(url), str(error).rstrip(".")
    if isinstance(error, UnicodeEncodeError):
        return InvalidRequest("the text is not valid Unicode; send it as UTF-8")
    if isinstance(error, exceptions.AuthenticationError):
        return ConfigurationError(
            f"Redis at {shown} refuses these credentials: {text}. Check PENSTOCK_REDIS_URL"
        )
    if _lacks_right(error):
        return NotPermitted(
            f"the user of Redis at {shown} lacks a right to this: {text}. Use the user of a "
            "role that may (Users in docs/operations.md); after an upgrade run make-users.sh and "
            "ACL LOAD"
        )
    if "DB index" in str(error):
        return ConfigurationError(
            f"Redis at {shown} has no database of that number. Check PENSTOCK_REDIS_URL"
        )
    if isinstance(error, exceptions.OutOfMemoryError) or str(error).startswith("OOM"):
        return StoreFull(
            f"Redis at {shown} is at its memory limit and takes no new jobs; "
            "running jobs finish. Raise maxmemory, or wait until results expire"
        )
    if str(error).startswith("MISCONF"):
        return StoreFull(
            f"Redis at {shown} cannot write to its disk, so it takes nothing: free some space, "
            "and see its log"
        )
    return _unavailable(error, url, text) or StoreError(f"Redis at {shown} answered: {text}")


def _unavailable(error: BaseException, url: str, text: str) -> StoreUnavailable | None:
    """Where the server cannot be asked now, or is none to ask."""
    shown = without_credentials(url)
    if isinstance(error, Demoted) or is_demotion(error):
        elsewhere = ", or point PENSTOCK_REDIS_URL at the primary, or at its Sentinels"
        return StoreUnavailable(
            f"Redis at {shown} takes no writes now: {text}. It is a replica, or its replicas are "
            f"away: start those{'' if is_of_sentinels(url) else elsewhere}"
        )
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return StoreUnavailable(
            f"the certificate of Redis at {shown} is not trusted: {text}. "
            "Check ssl_ca_certs in PENSTOCK_REDIS_URL, and for which names it was made"
        )
    if isinstance(error, _UNREACHABLE):
        return StoreUnavailable(f"cannot reach Redis at {shown}: {text}. {_way_back(url)}")
    return None


def _way_back(url: str) -> str:
    """What to do about a server that is away; `penstock up` uses a given one, and starts none."""
    if is_of_sentinels(url):
        return (
            "After a failover it is back within seconds; else start its servers and Sentinels, or "
            "correct hosts and master_name in PENSTOCK_REDIS_URL"
        )
    return (
        "Start it, set PENSTOCK_REDIS_URL to another, or unset that and run one here: penstock up"
    )


def _lacks_right(error: BaseException) -> bool:
    """Whether the user may not do this; scripts say it in a way of their own."""
    in_script = ("ACL failure in script", "The user executing the script can't")
    refused = isinstance(error, exceptions.NoPermissionError)
    return refused or any(text in str(error) for text in in_script)


@contextmanager
def mapped_errors(url: str) -> Iterator[None]:
    """Raise Penstock's errors in place of redis-py's."""
    try:
        yield
    except (exceptions.RedisError, OSError, UnicodeEncodeError) as error:
        raise map_error(error, url) from None


def _by_name(command: Command[Any]) -> tuple[Any, ...]:
    return (command.script.sha, len(command.keys), *command.keys, *command.arguments)


def _by_source(command: Command[Any]) -> tuple[Any, ...]:
    return (command.script.source, len(command.keys), *command.keys, *command.arguments)


class Store:
    """Runs commands with redis-py, blocking. Safe to share between threads."""

    def __init__(self, url: str, client: redis.Redis | None = None) -> None:
        self.url = url
        self.server = Server(url)
        self.redis: Any = client or self.server.client()  # redis-py's reply types fit no server

    def run(self, command: Command[T]) -> T:
        """Run one command; raises StoreError and what the command's parse raises."""
        with mapped_errors(self.url):
            try:
                reply = self.redis.evalsha(*_by_name(command))
            except exceptions.NoScriptError:
                reply = self.redis.eval(*_by_source(command))
        return command.parse(reply)

    def run_all(self, commands: Sequence[Command[Any]]) -> list[Any]:
        """Run commands in order in one round trip; a list of results, errors among them."""
        with mapped_errors(self.url):
            pipeline = _named(self.redis.pipeline(transaction=False), commands)
            replies = pipeline.execute(raise_on_error=False)
            if _forgotten(replies):
                pipeline = _sourced(self.redis.pipeline(transaction=False), commands)
                replies = pipeline.execute(raise_on_error=False)
        return _results(commands, replies, self.url)

    def run_batches(self, batches: Iterable[Sequence[Command[Any]]]) -> Iterator[list[Any]]:
        """As `run_all` for each batch, in order; each is sent before the last one's replies come.

        So the server works on one batch while the caller makes the next.
        """
        with mapped_errors(self.url):
            lane = _Lane(self)
        sent: deque[Sequence[Command[Any]]] = deque()
        with lane:
            for batch in batches:
                lane.send(batch)
                sent.append(batch)
                if len(sent) > 1:
                    yield lane.receive(sent.popleft())
            while sent:
                yield lane.receive(sent.popleft())

    def close(self) -> None:
        """Close the connections."""
        self.redis.close()


class _Lane:
    """One connection on which batches are sent ahead of the replies to earlier ones.

    Whatever breaks it, it is never used again, so no reply can be taken for another batch's. Every
    batch without replies by then is run by itself, which is safe: every script may come twice.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pool = store.redis.connection_pool
        self._connection: Any = self._pool.get_connection()
        self._whole = True
        self._awaited = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._awaited:  # somebody was interrupted: replies will come that nobody reads
            self._break()
        self._pool.release(self._connection)

    def send(self, batch: Sequence[Command[Any]]) -> None:
        """Send without waiting."""
        if not self._whole:
            return
        calls = [("EVALSHA", *_by_name(command)) for command in batch]
        self._awaited += 1
        try:
            self._connection.send_packed_command(self._connection.pack_commands(calls))
        except _BROKEN:
            self._break()

    def receive(self, batch: Sequence[Command[Any]]) -> list[Any]:
        """The results of the oldest batch without results."""
        try:
            replies = [_reply(self._connection) for _ in batch] if self._whole else []
        except _BROKEN:
            self._break()
            replies = []
        self._awaited -= 1 if self._whole else 0
        if not replies or _forgotten(replies):
            return self._store.run_all(batch)
        return _results(batch, replies, self._store.url)

    def _break(self) -> None:
        self._whole, self._awaited = False, 0
        self._connection.disconnect()


class AsyncStore:
    """Runs commands with redis.asyncio. Belongs to one event loop."""

    def __init__(self, url: str, client: redis.asyncio.Redis | None = None) -> None:
        self.url = url
        self.server = Server(url)
        self.redis: Any = client or self.server.async_client()

    async def run(self, command: Command[T]) -> T:
        """Run one command; raises StoreError and what the command's parse raises."""
        with mapped_errors(self.url):
            try:
                reply = await self.redis.evalsha(*_by_name(command))
            except exceptions.NoScriptError:
                reply = await self.redis.eval(*_by_source(command))
        return command.parse(reply)

    async def run_all(self, commands: Sequence[Command[Any]]) -> list[Any]:
        """Run commands in order in one round trip; a list of results, errors among them."""
        with mapped_errors(self.url):
            pipeline = _named(self.redis.pipeline(transaction=False), commands)
            replies = await pipeline.execute(raise_on_error=False)
            if _forgotten(replies):
                pipeline = _sourced(self.redis.pipeline(transaction=False), commands)
                replies = await pipeline.execute(raise_on_error=False)
        return _results(commands, replies, self.url)

    async def run_within(self, seconds: float, command: Command[T]) -> T:
        """As `run`, but a server that is silent for so long is as good as away.

        Then every idle connection is dropped: what made one of them silent (a firewall that
        forgot it, a peer that lost its power) may have met them all, and a new one may work.
        """
        try:
            async with asyncio.timeout(seconds):
                return await self.run(command)
        except TimeoutError:
            await self.redis.connection_pool.disconnect(inuse_connections=False)
            raise StoreUnavailable(
                f"Redis at {without_credentials(self.url)} did not answer within {seconds:g} s"
            ) from None

    async def close(self) -> None:
        """Close the connections."""
        await self.redis.aclose()

    @classmethod
    @asynccontextmanager
    async def opened(cls, url: str) -> AsyncIterator[Self]:
        """A store that is closed at the end of the block."""
        store = cls(url)
        try:
            yield store
        finally:
            await store.close()


def _forgotten(replies: Sequence[Any]) -> bool:
    """Whether the server does not know a script: then everything is sent again, with its source.

    Loading it first would be no better: it may be forgotten once more before it is called.
    """
    return any(isinstance(reply, exceptions.NoScriptError) for reply in replies)


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except exceptions.ResponseError as error:
        return error


def _named(pipeline: Any, commands: Sequence[Command[Any]]) -> Any:
    for command in commands:
        pipeline.evalsha(*_by_name(command))
    return pipeline


def _sourced(pipeline: Any, commands: Sequence[Command[Any]]) -> Any:
    for command in commands:
        pipeline.eval(*_by_source(command))
    return pipeline


def _results(commands: Sequence[Command[Any]], replies: list[Any], url: str) -> list[Any]:
    results = []
    for command, reply in zip(commands, replies, strict=True):
        try:
            if isinstance(reply, exceptions.RedisError):
                raise map_error(reply, url)
            results.append(command.parse(reply))
        except PenstockError as error:
            results.append(error)
    return results
