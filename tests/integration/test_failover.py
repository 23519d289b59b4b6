"""What a failover loses: jobs that were accepted while nothing reached the replica."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ops.local.server import EmbeddedServer
from penstock import Client, Settings, StoreUnavailable, keys
from penstock.store import Store
from tests.acceptance.proxy import Proxy
from tests.waiting import until_async

MESSAGES = [{"role": "user", "content": "hello"}]

MAX_LAG = 1
"""Seconds, as in `min-replicas-max-lag`; the server's least."""

LOOKS = 2
"""Seconds more until it holds: Redis counts whole ones, and looks once a second."""

BUSY = 2
"""Seconds more on a machine that does other things too."""


class Pair:
    """A primary and its replica, with a link between them that can be cut: both ends stay open."""

    def __init__(self, directory: Path) -> None:
        directives = {"repl-diskless-sync-delay": "0", "min-replicas-max-lag": str(MAX_LAG)}
        self.primary = EmbeddedServer(directory / "primary", directives=directives)
        self.replica = EmbeddedServer(directory / "replica", directives=directives)
        self.link = Proxy(self.primary.socket_path)

    async def knows(self, job: str) -> None:
        """Wait until the replica has a job."""
        with closing(Store(self.replica.url)) as store:
            await until_async(lambda: store.redis.exists(keys.job(job)))

    def cut(self) -> None:
        """Nothing goes through any more, either way, and nobody is told."""
        self.link.asking.clear()
        self.link.answering.clear()

    def fail_over(self) -> None:
        """SIGKILL the primary; the replica is the primary then, with what it has."""
        self.primary.kill()
        tell(self.replica, "REPLICAOF NO ONE")


@pytest.fixture
async def pair(state_dir: Path) -> AsyncIterator[Pair]:
    """Started, and joined; the primary takes nothing without its replica."""
    pair = Pair(state_dir)
    with pair.primary, pair.replica:
        async with pair.link:
            port = pair.link.url.partition("127.0.0.1:")[2].partition("/")[0]
            tell(pair.primary, "CONFIG SET min-replicas-to-write 1")
            tell(pair.replica, f"REPLICAOF 127.0.0.1 {port}")
            yield pair


async def test_what_a_failover_loses_is_bounded_and_made_anew_by_its_key(pair: Pair) -> None:
    """A primary that is cut off soon accepts nothing; with `min-replicas-to-write 0` it goes on.

    All that it has accepted since is lost. Submitted again by its key it is made anew, and what the
    replica knew is not.
    """
    accepted: list[str] = []
    with client_of(pair.primary) as client:
        await until_async(lambda: not is_refused(client, accepted))
        await pair.knows(accepted[-1])
        replicated = list(accepted)
        pair.cut()
        await until_async(lambda: is_refused(client, accepted), timeout=MAX_LAG + LOOKS + BUSY)
        within = len(accepted)
        tell(pair.primary, "CONFIG SET min-replicas-to-write 0")
        accepted += [submitted(client, key) for key in range(within, within + 5)]
    pair.fail_over()
    with client_of(pair.replica) as client:
        known = [job.id for job in client.get_many(accepted) if job]
        assert known == replicated
        assert len(replicated) < within < len(accepted)
        jobs = [client.submit(MESSAGES, idempotency_key=str(key)) for key in range(len(accepted))]
        assert [job.id for job in jobs if not job.created] == replicated
        listed = {job.id for job in client.list(limit=2 * len(jobs))}
    assert listed == {job.id for job in jobs}
    assert len(listed) == len(accepted)


def client_of(server: EmbeddedServer) -> Client:
    """A client that goes there and nowhere else."""
    return Client(Settings.load(redis_url=server.url))


def submitted(client: Client, key: int) -> str:
    """The id of a new job with this idempotency key."""
    job = client.submit(MESSAGES, idempotency_key=str(key))
    assert job.created
    return job.id


def is_refused(client: Client, accepted: list[str]) -> bool:
    """Whether one more job is; else it is among the accepted ones."""
    try:
        accepted.append(submitted(client, len(accepted)))
    except StoreUnavailable as error:
        return "takes no writes now: NOREPLICAS" in str(error)
    return False


def tell(server: EmbeddedServer, command: str) -> Any:
    """Its answer to a command."""
    with closing(Store(server.url)) as store:
        return store.redis.execute_command(command)
