"""Four worker processes that share one limit of a provider: ours, and two usual ways without us."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager

from celery import Celery

from ops.bench.allowance import Allowance
from ops.bench.contender import BIN, READY, Penstock
from ops.bench.stand import Stand
from penstock import keys
from penstock.client import Client
from penstock.settings import Settings

PROCESSES = 4
THREADS = 200
"""Of each rival process: more than any limit lets it use, so that the limit decides."""


class Crew(ABC):
    """A way to keep to a limit with several processes.

    Attributes:
        name: as it stands in the tables.
    """

    name: str

    def __init__(self, stand: Stand, allowance: Allowance) -> None:
        self.stand = stand
        self.allowance = allowance

    @abstractmethod
    def started(self) -> AbstractContextManager[None]:
        """Worker processes that wait for work, with an empty Redis behind them."""

    @abstractmethod
    def feed(self, jobs: int) -> None:
        """Queue so many."""


class Gated(Crew):
    """Penstock: the limit is in penstock.toml, and the processes ask the gate."""

    name = "penstock"
    tenants = ""
    """More of penstock.toml: the tenants' tables."""

    @contextmanager
    def started(self) -> Iterator[None]:
        """See Crew."""
        self.stand.reset()
        environment = Penstock(self.stand).environment(THREADS)
        (self.stand.directory / "penstock.toml").write_text(self.allowance.route + self.tenants)
        command = [str(BIN / "penstock"), "worker", "--processes", str(PROCESSES)]
        with self.stand.process(command, **environment):
            self.stand.wait(self._all_wait, "our workers", 60)
            yield

    def _all_wait(self) -> bool:
        if not self.stand.redis.exists(keys.DISPATCH):
            return False
        clients = self.stand.redis.client_list()
        return sum("b" in client["flags"] for client in clients) >= PROCESSES

    def feed(self, jobs: int) -> None:
        """See Crew."""
        with closing(Client(Settings.load(redis_url=self.stand.redis_url))) as client:
            client.submit_many(self.allowance.work.bodies(jobs))


class Rival(Crew):
    """Plain Celery workers on the threads pool; see rivals/limited.py."""

    def __init__(self, stand: Stand, allowance: Allowance) -> None:
        super().__init__(stand, allowance)
        self.app = Celery("rival", broker=stand.redis_url, set_as_current=False)

    @contextmanager
    def started(self) -> Iterator[None]:
        """See Crew."""
        self.stand.reset()
        with ExitStack() as stack:
            for number in range(PROCESSES):
                stack.enter_context(
                    self.stand.process(self._command(number), **self._environment())
                )
            self.stand.wait(self._all_answer, self.name, 60)
            self.prepare()
            yield

    def prepare(self) -> None:
        """What else the workers are told before there is work."""

    def _command(self, number: int) -> list[str]:
        return [
            str(BIN / "celery"), "-A", "ops.bench.rivals.limited", "worker", "-P", "threads",
            "-c", str(THREADS), "-n", f"rival{number}@bench", "-l", "ERROR", "-Q", "celery",
            "--prefetch-multiplier", "1", "--without-gossip", "--without-mingle",
        ]  # fmt: skip

    def _environment(self) -> dict[str, str]:
        """Read by Celery and by the SDK themselves."""
        return {
            "CELERY_BROKER_URL": self.stand.redis_url,
            "OPENAI_BASE_URL": self.stand.upstream_url,
            "OPENAI_API_KEY": "simulated",
        }

    def _all_answer(self) -> bool:
        if not self.stand.redis.exists(READY):
            return False
        return len(self.app.control.ping(timeout=0.5)) == PROCESSES

    def feed(self, jobs: int) -> None:
        """See Crew."""
        kind, share = self.allowance.kind, self.allowance.amount // PROCESSES
        amount = self.allowance.work.tokens if kind == "tokens_per_minute" else 1
        with self.app.producer_pool.acquire(block=True) as producer:
            for body in self.allowance.work.bodies(jobs):
                arguments = [body["messages"], body["simulate"], kind, share, amount]
                self.app.send_task(self.task, arguments, producer=producer, ignore_result=True)
        self.app.close()

    task = "limited"


class Semaphores(Rival):
    """A limit of its own in each process: a quarter of the provider's."""

    name = "celery, a limiter per process"


class RateLimited(Rival):
    """Celery's `rate_limit`: a quarter of the jobs a minute that the mean job allows."""

    name = "celery, rate_limit"
    task = "unlimited"

    def prepare(self) -> None:
        """Tell every worker, as `celery control rate_limit` does."""
        share = self.allowance.jobs_per_minute / PROCESSES
        self.app.control.rate_limit("unlimited", f"{share:.0f}/m", reply=True, timeout=2)


CREWS: tuple[type[Crew], ...] = (Gated, RateLimited, Semaphores)
