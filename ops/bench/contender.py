"""Who is measured: Penstock's worker and the Celery workers people write without it."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

from celery import Celery

from ops.bench.load import MESSAGES, Load
from ops.bench.stand import Stand
from ops.local.process import Process
from penstock import keys
from penstock.client import Client
from penstock.settings import Settings

BIN = Path(sys.executable).parent
READY = "rival:ready"
"""Set by a rival's worker when it takes tasks."""


class Contender(ABC):
    """A kind of worker: how to start it and how to give it work.

    Attributes:
        name: as it stands in the tables.
    """

    name: str

    def __init__(self, stand: Stand) -> None:
        self.stand = stand

    @abstractmethod
    def started(self, concurrency: int) -> AbstractContextManager[Process]:
        """One worker process that is ready for work, with an empty Redis behind it."""

    @abstractmethod
    def feed(self, count: int, load: Load) -> None:
        """Queue so many completions."""

    @abstractmethod
    def finished(self) -> int:
        """How many have ended since the worker was started."""


class Penstock(Contender):
    """Our worker, as `penstock worker` starts it, on its defaults but for the concurrency."""

    name = "penstock"

    @contextmanager
    def started(self, concurrency: int) -> Iterator[Process]:
        """See Contender."""
        self.stand.reset()
        with self.stand.process(self.command(concurrency), **self.environment(concurrency)) as run:
            self.stand.wait(lambda: self.stand.redis.exists(keys.DISPATCH), "our worker", 30)
            yield run

    def command(self, concurrency: int) -> list[str]:
        """What starts it."""
        return [str(BIN / "penstock"), "worker", "--concurrency", str(concurrency)]

    def environment(self, concurrency: int) -> dict[str, str]:
        """Its configuration: a route that takes as many streams as the worker."""
        config = self.stand.directory / "penstock.toml"
        config.write_text(f"[routes.default]\nconcurrency = {concurrency}\n")
        return {
            "PENSTOCK_CONFIG": str(config),
            "PENSTOCK_REDIS_URL": self.stand.redis_url,
            "PENSTOCK_UPSTREAM_URL": self.stand.upstream_url,
            "DEEPINFRA_TOKEN": "simulated",
        }

    def settings(self) -> Settings:
        """The same for a client in this process."""
        return Settings.load(redis_url=self.stand.redis_url)

    def feed(self, count: int, load: Load) -> None:
        """See Contender."""
        with closing(Client(self.settings())) as client:
            client.submit_many(load.body for _ in range(count))

    def finished(self) -> int:
        """See Contender."""
        return int(self.stand.redis.zcard(keys.CATALOGUE["retained"]))


class CeleryWorker(Contender):
    """A plain Celery worker on the threads or the gevent pool; see `rivals/chat.py`."""

    def __init__(self, stand: Stand, pool: str, module: str = "chat") -> None:
        super().__init__(stand)
        self.name = f"celery {pool}"
        self._pool = pool
        self._module = module
        self._completed_before = 0
        self.app = Celery("rival", broker=stand.redis_url, set_as_current=False)

    @contextmanager
    def started(self, concurrency: int) -> Iterator[Process]:
        """See Contender."""
        self.stand.reset()
        argv = [
            str(BIN / "celery"), "-A", f"ops.bench.rivals.{self._module}", "worker",
            "-P", self._pool, "-c", str(concurrency), "-l", "WARNING",
            "--without-gossip", "--without-mingle", "--without-heartbeat",
        ]  # fmt: skip
        with self.stand.process(argv, **self.environment()) as run:
            self.stand.wait(lambda: self.stand.redis.exists(READY), self.name, 30)
            self._completed_before = self.stand.simulated()["completed"]
            yield run

    def environment(self) -> dict[str, str]:
        """Read by Celery and by the SDK themselves."""
        return {
            "CELERY_BROKER_URL": self.stand.redis_url,
            "OPENAI_BASE_URL": self.stand.upstream_url,
            "OPENAI_API_KEY": "simulated",
        }

    def feed(self, count: int, load: Load) -> None:
        """See Contender."""
        with self.app.producer_pool.acquire(block=True) as producer:
            for number in range(count):
                arguments = [f"chat:{number}", MESSAGES, load.simulate]
                self.app.send_task("chat", arguments, producer=producer, ignore_result=True)

    def finished(self) -> int:
        """See Contender; the simulator's word: it is the cheapest to ask."""
        completed: int = self.stand.simulated()["completed"]
        return completed - self._completed_before


def everybody(stand: Stand) -> list[Contender]:
    """Ours first."""
    return [Penstock(stand), CeleryWorker(stand, "threads"), CeleryWorker(stand, "gevent")]
