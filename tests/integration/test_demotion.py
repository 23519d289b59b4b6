"""A server that takes no writes, because it is the primary no longer, counts as away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ops.local.server import EmbeddedServer
from ops.simulator import SimulatorThread
from penstock import Client, Settings, StoreUnavailable
from penstock.commands import sweep
from penstock.connection import Demoted
from penstock.store import AsyncStore, Store, map_error
from tests.processes import WorkerProcess, free_port

MESSAGES = [{"role": "user", "content": "hello"}]

DEMOTIONS = {
    "it has become a replica": ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
    "its replicas are away": (
        "CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0",
    ),
}  # fmt: skip
"""How a server comes to refuse writes, and to take them again."""


@pytest.fixture(scope="module")
def url(session_dir: Path) -> Iterator[str]:
    """A server of its own, over TCP."""
    port = free_port()
    with EmbeddedServer(session_dir / "demoted", port=port):
        yield f"redis://127.0.0.1:{port}/0"


@pytest.mark.parametrize("how", DEMOTIONS)
async def test_it_is_unavailable_and_the_connection_is_given_up(url: str, how: str) -> None:
    """Whoever asks again does so on a new connection, which may lead elsewhere."""
    demote, promote = DEMOTIONS[how]
    with closing(Store(url)) as store, closing(Store(url)) as operator:
        async with AsyncStore.opened(url) as awaiting:
            before = store.redis.client_id(), await awaiting.redis.client_id()
            operator.redis.execute_command(demote)
            try:
                with pytest.raises(StoreUnavailable, match="takes no writes now"):
                    store.run(sweep())
                with pytest.raises(StoreUnavailable, match="takes no writes now"):
                    await awaiting.run_all([sweep()])
            finally:
                operator.redis.execute_command(promote)
            store.run(sweep())
            await awaiting.run(sweep())
            after = store.redis.client_id(), await awaiting.redis.client_id()
    assert not set(before) & set(after)


def test_who_asks_sentinels_is_not_sent_to_them() -> None:
    """What to do with a server that takes no writes is told by how one came there."""
    told = [
        str(map_error(Demoted("READONLY"), url))
        for url in ("redis://h", "sentinel://h?master_name=m")
    ]
    assert ["at its Sentinels" in each for each in told] == [True, False]


@pytest.mark.parametrize("how", DEMOTIONS)
def test_a_worker_waits_until_it_takes_writes_again(
    url: str, how: str, simulator: SimulatorThread
) -> None:
    """The same process goes on, its Celery consumer with it."""
    demote, promote = DEMOTIONS[how]
    worker = WorkerProcess(url, environment={"PENSTOCK_UPSTREAM_URL": simulator.url})
    try:
        worker.until_ready()
        with closing(Store(url)) as operator, Client(Settings.load(redis_url=url)) as client:
            operator.redis.execute_command(demote)
            worker.until_logged("store_away")
            with pytest.raises(StoreUnavailable):
                client.submit(MESSAGES)
            operator.redis.execute_command(promote)
            assert client.submit(MESSAGES).result(timeout=20).choices
            assert worker.process.poll() is None
    finally:
        worker.kill()
