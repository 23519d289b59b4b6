"""A gate to test: commands on a real server, at a time of the test's choosing."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from uuid import uuid4

from penstock import Settings, commands, keys
from penstock.commands import Command, Feedback, Used
from penstock.job import JobSpec
from penstock.scripts import Script
from penstock.settings import RouteOverrides, Tenant
from penstock.state import JobState
from penstock.store import Store

MINUTE = 60.0
ANSWERED = Feedback("ok")


@functools.cache
def _at_test_time(script: Script) -> Script:
    source = script.source.replace("redis.call('TIME')", "{ redis.call('GET', 'test:now'), 0 }")
    sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
    return Script(script.name, source, sha)


class Gate:
    """The gate of `default`, and of others, on an emptied server that reads the clock `now`."""

    def __init__(
        self,
        url: str,
        route: RouteOverrides,
        tenants: Mapping[str, Tenant] | None = None,
        others: Mapping[str, RouteOverrides] | None = None,
    ) -> None:
        self.settings = Settings.load(
            redis_url=url, routes={"default": route, **(others or {})}, tenants=dict(tenants or {})
        )
        self.store = Store(url)
        self.store.redis.flushall()
        self.now = 1_000_000.0
        self._told = 0.0
        self.replies_get_lost = False
        self.register()

    def register(self) -> None:
        """A worker starts, or a changed configuration is applied."""
        routes, limits = self.settings.resolved_routes, self.settings.tenants
        self.run(commands.register("@@job@@ @@tag@@", "5", routes, limits))

    def run(self, command: Command[Any]) -> Any:
        """Run a command now; where replies get lost, twice, as a client does that has none."""
        if self.now != self._told:
            self._told = self.now
            self.store.redis.set("test:now", f"{self.now:.6f}")
        command = command._replace(script=_at_test_time(command.script))
        if self.replies_get_lost:
            self.store.run(command)
        return self.store.run(command)

    def submit(self, tenant: str = "default", **fields: Any) -> str:
        """A job; its id."""
        given = {"messages": [{"role": "user", "content": "m"}], "tenant": tenant, **fields}
        spec = JobSpec.build(given)
        self.now += 0.00001  # as time does: visibly, in stamps of a microsecond
        self.run(commands.enqueue(spec, self.settings))
        return spec.id

    def submit_many(self, count: int, tenant: str = "default", **fields: Any) -> list[str]:
        """Some jobs."""
        return [self.submit(tenant, **fields) for _ in range(count)]

    def admit(self, most: int = 200, route: str = "default") -> commands.Admission:
        """Let jobs through, and see after those that have to go elsewhere, as the keeper does."""
        admission: commands.Admission = self.run(commands.admit(route, most))
        self.run(commands.divert(route))
        return admission

    def claim(self, job: str) -> str:
        """Take an admitted job, or the one taken before; its holder."""
        record = self.record(job)
        mine = record["holder"] if record["state"] == "running" else f"worker {uuid4()}"
        claimed = self.run(commands.claim(job, mine))
        assert isinstance(claimed, commands.Claim), claimed
        return claimed.holder

    def finish(
        self, job: str, tokens: int, feedback: Feedback = ANSWERED, usd: float = 0
    ) -> commands.Settled:
        """Answer an admitted job with so many tokens, for so many USD."""
        return self.end(job, self.claim(job), tokens, feedback, usd)

    def end(
        self, job: str, holder: str, tokens: int, feedback: Feedback = ANSWERED, usd: float = 0
    ) -> commands.Settled:
        """Answer a running job; see finish."""
        settled: commands.Settled = self.run(
            commands.finish(job, holder, JobState.COMPLETED, 2, {}, Used(0, tokens, usd), feedback)
        )
        assert settled.accepted
        return settled

    def retry(self, job: str, feedback: Feedback, delay: float = 0) -> commands.Settled:
        """Give an admitted job back after this happened."""
        holder = self.claim(job)
        settled: commands.Settled = self.run(
            commands.requeue(job, holder, "test", delay, "retry", None, feedback)
        )
        assert settled.accepted
        return settled

    def sweep(self) -> None:
        """The keeper comes by, as it always does."""
        memory = {"swept_at": self.now, "recover_from": 0}
        self.store.redis.hset(keys.CATALOGUE["keeper"], mapping=memory)
        self.run(commands.sweep())

    def record(self, job: str) -> dict[str, str]:
        """A job's fields."""
        fields = self.store.redis.hgetall(keys.job(job))
        return {name.decode(): value.decode() for name, value in fields.items()}

    def pluck(self, jobs: Iterable[str], *names: str) -> Iterator[list[str | None]]:
        """Each job's id and its values of these fields, all asked for at once."""
        jobs = list(jobs)
        with self.store.redis.pipeline(transaction=False) as asked:
            for job in jobs:
                asked.hmget(keys.job(job), names)
            for job, values in zip(jobs, asked.execute(), strict=True):
                yield [job, *(None if value is None else value.decode() for value in values)]

    def rung(self, route: str = "default") -> list[str]:
        """The jobs in the order in which Celery will hand them out; takes them."""
        queue = keys.queue(route)
        messages = self.store.redis.lrange(queue, 0, -1)
        self.store.redis.delete(queue)
        return [message.decode().split()[0] for message in reversed(messages)]

    def held(self, route: str = "default") -> set[str]:
        """The jobs admitted or running."""
        return {job.decode() for job in self.store.redis.zrange(keys.held(route), 0, -1)}

    def waiting(self, *tenants: str, route: str = "default") -> set[str]:
        """The jobs in the tenants' lines."""
        lines = [f"{keys.CATALOGUE['backlog']}{route}:{tenant}" for tenant in tenants]
        return {job.decode() for line in lines for job in self.store.redis.zrange(line, 0, -1)}

    def make_suspect(self, job: str) -> None:
        """As if a waiting job had lost its worker three times."""
        record = self.record(job)
        self.store.redis.zrem(f"{keys.CATALOGUE['backlog']}default:{record['tenant']}", job)
        self.store.redis.hset(keys.job(job), "recoveries", 3)
        self.store.redis.zadd(keys.suspects("default"), {job: record["created_at"]})

    def break_upstream(self, route: str = "default") -> None:
        """Leave a route's breaker as five failures in a row do."""
        broken = {"open_until": self.now + 5, "opened": 1}
        self.store.redis.hset(keys.gate(route), mapping=broken)
