"""The client: submit chat jobs, follow them, wait for them, stop them.

`Client` blocks and may be shared between threads; `AsyncClient` belongs to one event loop. Both
hand out a handle for each job, and do nothing but build commands and run them.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from datetime import date
from itertools import islice, product
from typing import Any, NamedTuple

from penstock import attendance, commands, glance, keys, outbox
from penstock.attendance import WorkerRecord
from penstock.commands import Outlook
from penstock.errors import JobCancelled, JobError, JobExpired, JobFailed, PenstockError
from penstock.events import START, Cursor, Event, EventType, decode
from penstock.fanout import Fanout
from penstock.feed import follow, follow_async
from penstock.glance import Glance
from penstock.job import Completion, JobRecord, JobSpec
from penstock.outbox import Delivery, DeliveryState
from penstock.page import Page, Search
from penstock.settings import Settings
from penstock.state import JobState
from penstock.store import AsyncStore, Store, mapped_errors
from penstock.survey import Survey
from penstock.trace import Carrier, Span, Tracer, tracer_of
from penstock.usage import UsageRow, days, rows

BATCH = 500
"""Jobs per round trip in `submit_many`."""

PORTION = 50
"""Jobs per script call: Redis is busy for about a millisecond, then others get in between."""

SERVICE = "penstock-producer"
"""What an application that submits is called in traces, where nobody says."""

Cursors = Cursor | str | None


class Job:
    """A handle on one job.

    Attributes:
        id: the job's id.
        created: False where an idempotency key led to a job that was there before.
    """

    def __init__(self, client: Client, id_: str, *, created: bool = False) -> None:
        self._client = client
        self.id = id_
        self.created = created

    def events(self, after: Cursors = None, timeout: float | None = None) -> Iterator[Event]:
        """Every event after the cursor, live, until the job ends.

        Raises:
            JobNotFound: there is no such job.
            StoreUnavailable: Redis cannot be reached.
            TimeoutError: the job did not end within `timeout` seconds.
        """
        return follow(self._client.store, self.id, _cursor(after), timeout)

    def result(self, timeout: float | None = None) -> Completion:
        """Wait for the completion.

        Raises:
            JobFailed, JobCancelled, JobExpired: the job ended without one.
            TimeoutError: it did not end within `timeout` seconds; it goes on.
        """
        for event in self.events(timeout=timeout):
            if event.is_terminal:
                return result_of(event)
        return result_of(self._client.last_event(self.id))

    def record(self) -> JobRecord:
        """What Redis knows about the job; raises JobNotFound."""
        return self._client.get(self.id)

    def cancel(self, reason: str = "cancelled by request") -> JobState:
        """Stop the job; its state now, RUNNING while its worker is still stopping it."""
        return self._client.cancel(self.id, reason)

    def retry(self) -> None:
        """Run a failed job again; raises InvalidTransition where it has not failed."""
        self._client.retry(self.id)

    def __repr__(self) -> str:
        return f"Job({self.id!r})"


class AsyncJob:
    """A handle on one job, for asyncio; see Job."""

    def __init__(self, client: AsyncClient, id_: str, *, created: bool = False) -> None:
        self._client = client
        self.id = id_
        self.created = created

    def events(self, after: Cursors = None, timeout: float | None = None) -> AsyncIterator[Event]:
        """Every event after the cursor, live, until the job ends; raises as Job.events."""
        return self._client.follow(self.id, _cursor(after), timeout)

    async def result(self, timeout: float | None = None) -> Completion:
        """Wait for the completion; raises as Job.result."""
        async for event in self.events(timeout=timeout):
            if event.is_terminal:
                return result_of(event)
        return result_of(await self._client.last_event(self.id))

    async def record(self) -> JobRecord:
        """What Redis knows about the job; raises JobNotFound."""
        return await self._client.get(self.id)

    async def cancel(self, reason: str = "cancelled by request") -> JobState:
        """Stop the job; its state now, RUNNING while its worker is still stopping it."""
        return await self._client.cancel(self.id, reason)

    async def retry(self) -> None:
        """Run a failed job again; raises InvalidTransition where it has not failed."""
        await self._client.retry(self.id)

    def __repr__(self) -> str:
        return f"AsyncJob({self.id!r})"


class Client:
    """Submits and follows jobs, blocking.

    Args:
        settings: read from the environment and penstock.toml where left out.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings.load()
        self.store = Store(self.settings.server_url)
        self._tracer = tracer_of(self.settings, SERVICE)

    def submit(self, messages: Iterable[Mapping[str, Any]], **fields: Any) -> Job:
        """Submit one job: any chat-completions field, and those of JobOptions.

        Raises:
            InvalidRequest: a field is wrong, or the idempotency key is another request's.
            UnknownRoute: no such route.
            StoreUnavailable, StoreFull: nothing was accepted.
        """
        specs = [JobSpec.build({"messages": messages, **fields})]
        with self._tracer.send(specs) as span:
            results = self.store.run_all(submission(specs, self.settings, span.carrier))
            return self._jobs(results, 1, span)[0]

    def submit_many(self, requests: Iterable[Mapping[str, Any]]) -> list[Job]:
        """Submit many jobs, BATCH at a time; each request is a mapping as `submit` takes.

        Raises what `submit` raises, for the first request it concerns. Jobs accepted before that
        stay accepted, so give idempotency keys to whatever may be submitted again.
        """
        jobs: list[Job] = []
        sent: deque[tuple[int, Span]] = deque()

        def submissions() -> Iterator[list[commands.Command[Any]]]:
            for batch in _batches(requests):
                span = self._tracer.send(batch)
                sent.append((len(batch), span))
                yield submission(batch, self.settings, span.carrier)

        try:
            for results in self.store.run_batches(submissions()):
                count, span = sent.popleft()
                with span:
                    jobs += self._jobs(results, count, span)
        finally:
            for _, unanswered in sent:
                unanswered.end()
        return jobs

    def _jobs(self, results: list[Any], count: int, span: Span) -> list[Job]:
        accepted = _accepted(results, count)
        span.accepted(accepted)
        return [Job(self, each.id, created=each.created) for each in accepted]

    def job(self, id_: str) -> Job:
        """A handle on a job by its id; asks nothing."""
        return Job(self, id_)

    def get(self, id_: str) -> JobRecord:
        """A job's record; raises JobNotFound."""
        pipeline = self.store.redis.pipeline(transaction=False)
        with mapped_errors(self.store.url):
            return _found(_ask_record(pipeline, id_).execute(), id_)

    def get_many(self, ids: Iterable[str]) -> list[JobRecord | None]:
        """Records in the order of the ids, without their requests; None where there is none."""
        asked = list(ids)
        pipeline = self.store.redis.pipeline(transaction=False)
        with mapped_errors(self.store.url):
            return _records(asked, _ask_records(pipeline, asked).execute())

    def list(
        self, tenant: str = "default", state: JobState | None = None, limit: int = 50
    ) -> Iterator[JobRecord]:
        """A tenant's jobs, newest first, at most `limit` that are in the state; no requests."""
        found, start, page = 0, 0, _page(state, limit)
        while found < limit:
            with mapped_errors(self.store.url):
                ids = self.store.redis.zrevrange(keys.jobs(tenant), start, start + page - 1)
            for record in _in_state(self.get_many(map(bytes.decode, ids)), state, limit - found):
                found += 1
                yield record
            if len(ids) < page:
                return
            start += page

    def page(
        self,
        tenant: str = "default",
        state: JobState | None = None,
        metadata: Mapping[str, str] | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> Page:
        """A page of a tenant's jobs, newest first, of this state and with these metadata.

        Raises InvalidRequest where `after` is no cursor.
        """
        search = Search(tenant, state, metadata or {}, limit, after)
        while search.page is None:
            with mapped_errors(self.store.url):
                found = self.store.redis.zrevrangebyscore(*search.range)
            search.take(found, self.get_many(id_.decode() for id_, _ in found))
        return search.page

    def last_event(self, id_: str) -> Event | None:
        """The newest event of a job."""
        with mapped_errors(self.store.url):
            return _newest(self.store.redis.xrevrange(keys.feed(id_), count=1))

    def cancel(self, id_: str, reason: str = "cancelled by request") -> JobState:
        """Stop a job; see Job.cancel."""
        return self.store.run(commands.cancel(id_, reason))

    def usage(self, since: date, tenant: str | None = None) -> Sequence[UsageRow]:
        """What one tenant or all of them used since a day (UTC), by day, tenant and route."""
        with mapped_errors(self.store.url):
            names = [tenant] if tenant else _sorted(self.store.redis.smembers(keys.TENANTS))
            asked = list(product(days(since, self.store.redis.time()[0]), names))
            pipeline = self.store.redis.pipeline(transaction=False)
            return _usage(asked, _ask_usage(pipeline, asked).execute())

    def outlook(self, ids: Sequence[str]) -> Sequence[Outlook | None]:
        """For each job its place in the line and how long it will wait; None where it does not."""
        return self.store.run(commands.outlook(ids))

    def survey(self, route: str) -> Survey | None:
        """How a route and its gate stand; None where no worker has ever served it."""
        return self.store.run(commands.survey(route))

    def surveys(self) -> Sequence[Survey]:
        """All routes that a worker has ever served, by name."""
        with mapped_errors(self.store.url):
            names = self.store.redis.smembers(keys.ROUTES)
        asked = [commands.survey(name.decode()) for name in sorted(names)]
        return [survey for survey in _checked(self.store.run_all(asked)) if survey is not None]

    def overview(self, before: Overview | None = None) -> Overview:
        """What goes on at this moment, in one round trip; of the routes and tenants of `before`.

        So the first one knows no route and no tenant yet.
        """
        return _overview(_checked(self.store.run_all(_asked_of(before))))

    def models(self) -> dict[str, str]:
        """The model of each route that a worker has ever served or that was applied."""
        return self.store.run(commands.models())

    def workers(self) -> Sequence[WorkerRecord]:
        """The worker processes that are there, by name."""
        return self.store.run(attendance.muster())

    def apply(self) -> int:
        """Put the routes and tenants of these settings in force for gates and running workers.

        How many worker processes were told.
        """
        told, *_ = _checked(self.store.run_all(_application(self.settings)))
        return int(told)

    def retry(self, id_: str, key: str | None = None) -> None:
        """Run a failed job again, once for each idempotency key; see Job.retry."""
        record = self.get(id_)
        _raise_first(self.store.run_all([commands.redrive(id_, key), commands.admit(record.route)]))

    def erase(self, id_: str) -> None:
        """Remove all that is kept of a job that is over; raises JobNotFound, InvalidTransition."""
        if not self.get_many([id_])[0]:
            raise commands.not_found(id_)
        self.store.run(commands.erase(id_))

    def find(self, idempotency_key: str, tenant: str = "default") -> Job | None:
        """The job that a tenant's idempotency key led to, while it is kept."""
        with mapped_errors(self.store.url):
            id_ = self.store.redis.get(keys.idem(tenant, idempotency_key))
        return Job(self, id_.decode()) if id_ else None

    def deliveries(
        self, tenant: str = "default", state: DeliveryState | None = None, limit: int = 50
    ) -> Iterator[Delivery]:
        """A tenant's webhook deliveries, newest first, at most `limit` that are in the state."""
        seen, start, page = 0, 0, _page(state, limit)
        while seen < limit:
            with mapped_errors(self.store.url):
                ids = self.store.redis.zrevrange(keys.deliveries(tenant), start, start + page - 1)
            for delivery in self._deliveries(map(bytes.decode, ids), state, limit - seen):
                seen += 1
                yield delivery
            if len(ids) < page:
                return
            start += page

    def deliveries_of(self, id_: str, state: DeliveryState | None = None) -> Iterator[Delivery]:
        """A job's webhook deliveries, newest first."""
        with mapped_errors(self.store.url):
            ids = [each.decode() for each in self.store.redis.smembers(keys.reports(id_))]
        yield from sorted(self._deliveries(ids, state, len(ids)), key=_created, reverse=True)

    def _deliveries(
        self, ids: Iterable[str], state: DeliveryState | None, limit: int
    ) -> Sequence[Delivery]:
        asked = list(ids)
        pipeline = self.store.redis.pipeline(transaction=False)
        with mapped_errors(self.store.url):
            there = outbox.found(asked, outbox.ask(pipeline, asked).execute())
        return [each for each in there if state in (None, each.state)][:limit]

    def resend(self, id_: str) -> None:
        """Send a webhook delivery again, at once; raises DeliveryNotFound."""
        self.store.run(outbox.resend(id_))

    def close(self) -> None:
        """Close the connections."""
        self.store.close()
        self._tracer.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient:
    """Submits and follows jobs, for asyncio; see Client.

    Args:
        settings: as Client's.
        shared: all jobs are followed on one connection, for processes with many readers. They end
            with Dismissed when the client is closed.
        tracer: who makes the spans; one by the settings where left out.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        shared: bool = False,
        tracer: Tracer | None = None,
    ) -> None:
        self.settings = settings or Settings.load()
        self.store = AsyncStore(self.settings.server_url)
        self.fanout = Fanout(self.store) if shared else None
        self._tracer = tracer or tracer_of(self.settings, SERVICE)

    async def submit(self, messages: Iterable[Mapping[str, Any]], **fields: Any) -> AsyncJob:
        """Submit one job; see Client.submit."""
        return (await self._enqueue([JobSpec.build({"messages": messages, **fields})]))[0]

    async def submit_many(self, requests: Iterable[Mapping[str, Any]]) -> list[AsyncJob]:
        """Submit many jobs; see Client.submit_many."""
        jobs: list[AsyncJob] = []
        for batch in _batches(requests):
            jobs += await self._enqueue(batch)
        return jobs

    async def _enqueue(self, specs: Sequence[JobSpec]) -> list[AsyncJob]:
        with self._tracer.send(specs) as span:
            results = await self.store.run_all(submission(specs, self.settings, span.carrier))
            accepted = _accepted(results, len(specs))
            span.accepted(accepted)
        return [AsyncJob(self, each.id, created=each.created) for each in accepted]

    def job(self, id_: str) -> AsyncJob:
        """A handle on a job by its id; asks nothing."""
        return AsyncJob(self, id_)

    def follow(self, id_: str, after: Cursor, timeout: float | None) -> AsyncIterator[Event]:
        """Every event of a job after the cursor; see AsyncJob.events."""
        if self.fanout:
            return self.fanout.events(id_, after, timeout)
        return follow_async(self.store, id_, after, timeout)

    async def get(self, id_: str) -> JobRecord:
        """A job's record; raises JobNotFound."""
        pipeline = self.store.redis.pipeline(transaction=False)
        with mapped_errors(self.store.url):
            return _found(await _ask_record(pipeline, id_).execute(), id_)

    async def get_many(self, ids: Iterable[str]) -> list[JobRecord | None]:
        """Records in the order of the ids, without their requests; None where there is none."""
        asked = list(ids)
        pipeline = self.store.redis.pipeline(transaction=False)
        with mapped_errors(self.store.url):
            return _records(asked, await _ask_records(pipeline, asked).execute())

    async def list(
        self, tenant: str = "default", state: JobState | None = None, limit: int = 50
    ) -> AsyncIterator[JobRecord]:
        """A tenant's jobs, newest first, at most `limit` that are in the state; no requests."""
        found, start, page = 0, 0, _page(state, limit)
        while found < limit:
            with mapped_errors(self.store.url):
                ids = await self.store.redis.zrevrange(keys.jobs(tenant), start, start + page - 1)
            records = await self.get_many(map(bytes.decode, ids))
            for record in _in_state(records, state, limit - found):
                found += 1
                yield record
            if len(ids) < page:
                return
            start += page

    async def page(
        self,
        tenant: str = "default",
        state: JobState | None = None,
        metadata: Mapping[str, str] | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> Page:
        """A page of a tenant's jobs; see Client.page."""
        search = Search(tenant, state, metadata or {}, limit, after)
        while search.page is None:
            with mapped_errors(self.store.url):
                found = await self.store.redis.zrevrangebyscore(*search.range)
            search.take(found, await self.get_many(id_.decode() for id_, _ in found))
        return search.page

    async def last_event(self, id_: str) -> Event | None:
        """The newest event of a job."""
        with mapped_errors(self.store.url):
            return _newest(await self.store.redis.xrevrange(keys.feed(id_), count=1))

    async def cancel(self, id_: str, reason: str = "cancelled by request") -> JobState:
        """Stop a job; see Job.cancel."""
        return await self.store.run(commands.cancel(id_, reason))

    async def usage(self, since: date, tenant: str | None = None) -> Sequence[UsageRow]:
        """See Client.usage."""
        with mapped_errors(self.store.url):
            names = [tenant] if tenant else _sorted(await self.store.redis.smembers(keys.TENANTS))
            now, _ = await self.store.redis.time()
            asked = list(product(days(since, now), names))
            pipeline = self.store.redis.pipeline(transaction=False)
            return _usage(asked, await _ask_usage(pipeline, asked).execute())

    async def outlook(self, ids: Sequence[str]) -> Sequence[Outlook | None]:
        """See Client.outlook."""
        return await self.store.run(commands.outlook(ids))

    async def survey(self, route: str) -> Survey | None:
        """See Client.survey."""
        return await self.store.run(commands.survey(route))

    async def surveys(self) -> Sequence[Survey]:
        """See Client.surveys."""
        with mapped_errors(self.store.url):
            names = await self.store.redis.smembers(keys.ROUTES)
        asked = [commands.survey(name.decode()) for name in sorted(names)]
        surveys = _checked(await self.store.run_all(asked))
        return [survey for survey in surveys if survey is not None]

    async def overview(self, before: Overview | None = None) -> Overview:
        """See Client.overview."""
        return _overview(_checked(await self.store.run_all(_asked_of(before))))

    async def models(self) -> dict[str, str]:
        """See Client.models."""
        return await self.store.run(commands.models())

    async def workers(self) -> Sequence[WorkerRecord]:
        """See Client.workers."""
        return await self.store.run(attendance.muster())

    async def apply(self) -> int:
        """See Client.apply."""
        told, *_ = _checked(await self.store.run_all(_application(self.settings)))
        return int(told)

    async def retry(self, id_: str, key: str | None = None) -> None:
        """Run a failed job again; see Client.retry."""
        record = await self.get(id_)
        again: list[commands.Command[Any]] = [
            commands.redrive(id_, key), commands.admit(record.route),
        ]  # fmt: skip
        _raise_first(await self.store.run_all(again))

    async def erase(self, id_: str) -> None:
        """Remove all that is kept of a job; see Client.erase."""
        if await self.owner(id_) is None:
            raise commands.not_found(id_)
        await self.store.run(commands.erase(id_))

    async def owner(self, id_: str) -> str | None:
        """The tenant of a job; None where there is no such job. Costs the same either way."""
        with mapped_errors(self.store.url):
            tenant = await self.store.redis.hget(keys.job(id_), "tenant")
        return tenant.decode() if tenant else None

    async def find(self, idempotency_key: str, tenant: str = "default") -> AsyncJob | None:
        """See Client.find."""
        with mapped_errors(self.store.url):
            id_ = await self.store.redis.get(keys.idem(tenant, idempotency_key))
        return AsyncJob(self, id_.decode()) if id_ else None

    async def deliveries(
        self, tenant: str = "default", state: DeliveryState | None = None, limit: int = 50
    ) -> AsyncIterator[Delivery]:
        """See Client.deliveries."""
        seen, start, page = 0, 0, _page(state, limit)
        while seen < limit:
            with mapped_errors(self.store.url):
                ids = await self.store.redis.zrevrange(
                    keys.deliveries(tenant), start, start + page - 1
                )
            for delivery in await self._deliveries(map(bytes.decode, ids), state, limit - seen):
                seen += 1
                yield delivery
            if len(ids) < page:
                return
            start += page

    async def deliveries_of(
        self, id_: str, state: DeliveryState | None = None
    ) -> AsyncIterator[Delivery]:
        """See Client.deliveries_of."""
        with mapped_errors(self.store.url):
            ids = [each.decode() for each in await self.store.redis.smembers(keys.reports(id_))]
        there = await self._deliveries(ids, state, len(ids))
        for delivery in sorted(there, key=_created, reverse=True):
            yield delivery

    async def _deliveries(
        self, ids: Iterable[str], state: DeliveryState | None, limit: int
    ) -> Sequence[Delivery]:
        asked = list(ids)
        pipeline = self.store.redis.pipeline(transaction=False)
        with mapped_errors(self.store.url):
            there = outbox.found(asked, await outbox.ask(pipeline, asked).execute())
        return [each for each in there if state in (None, each.state)][:limit]

    async def resend(self, id_: str) -> None:
        """See Client.resend."""
        await self.store.run(outbox.resend(id_))

    async def close(self) -> None:
        """Close the connections."""
        if self.fanout:
            await self.fanout.close()
        await self.store.close()
        await self._tracer.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class Overview(NamedTuple):
    """What goes on: see penstock/glance.py, survey.py and attendance.py."""

    glance: Glance
    workers: Sequence[WorkerRecord]
    surveys: Sequence[Survey]

    @property
    def tenants(self) -> list[str]:
        """Those that have a job running or waiting, as far as this tells, or were told of."""
        names = {job.tenant for job in self.glance.jobs}
        return sorted(names.union(*(survey.tenants for survey in self.surveys)))


def _asked_of(before: Overview | None) -> list[commands.Command[Any]]:
    if before is None:
        return [glance.look(glance.date_of(time.time())), attendance.muster()]
    looks = glance.look(glance.date_of(before.glance.now), before.tenants), attendance.muster()
    return [*looks, *map(commands.survey, before.glance.routes)]


def _overview(results: list[Any]) -> Overview:
    now, workers, *surveys = results
    return Overview(now, workers, [survey for survey in surveys if survey is not None])


def _batches(requests: Iterable[Mapping[str, Any]]) -> Iterator[list[JobSpec]]:
    rest = iter(requests)
    while batch := [JobSpec.build(request) for request in islice(rest, BATCH)]:
        yield batch


def submission(
    specs: Sequence[JobSpec], settings: Settings, trace: Carrier | None = None
) -> list[commands.Command[Any]]:
    """What accepts these jobs: enqueues, and right behind them one admit per route."""
    routes = dict.fromkeys(spec.options.route for spec in specs)
    portions = [specs[at : at + PORTION] for at in range(0, len(specs), PORTION)]
    return [
        *(commands.enqueue_many(portion, settings, trace) for portion in portions),
        *(commands.admit(route) for route in routes),
    ]


def result_of(event: Event | None) -> Completion:
    """The completion of a terminal event; raises JobFailed, JobCancelled or JobExpired."""
    if event is None or not event.is_terminal:
        raise PenstockError("the job has no outcome yet")
    if event.type == EventType.COMPLETED:
        return Completion.model_validate(event.data)
    raise _outcome_error(event)


def _outcome_error(event: Event) -> JobError:
    match event.type:
        case EventType.FAILED:
            error = event.data["error"]
            count = event.data["attempts"]
            attempts = "1 attempt" if count == 1 else f"{count} attempts"
            text = f"{event.job} failed after {attempts}: {error['message']}"
            return JobFailed(text, job=event.job, data=event.data)
        case EventType.CANCELLED:
            text = f"{event.job} was cancelled: {event.data['reason']}"
            return JobCancelled(text, job=event.job, data=event.data)
        case _:
            early = event.time < event.data["deadline"]
            why = "could not have been met any more" if early else "passed before it could run"
            text = f"{event.job} expired: its deadline {why}"
            return JobExpired(text, job=event.job, data=event.data)


def _cursor(after: Cursors) -> Cursor:
    if after is None:
        return START
    return Cursor.parse(after) if isinstance(after, str) else after


def _accepted(results: list[Any], count: int) -> list[commands.Accepted]:
    """The jobs of a submission's results; raises the first error among them.

    What became of the admissions behind them does not matter: the keeper admits too.
    """
    portions = results[: math.ceil(count / PORTION)]
    _raise_first(portions)
    accepted = [each for portion in portions for each in portion]
    _raise_first(accepted)
    return accepted


def _checked(results: list[Any]) -> list[Any]:
    _raise_first(results)
    return results


def _application(settings: Settings) -> list[commands.Command[Any]]:
    """What makes settings hold; jobs that waited for a higher limit need not wait for a keeper."""
    return [commands.apply(settings), *map(commands.admit, settings.resolved_routes)]


def _raise_first(results: list[Any]) -> None:
    for result in results:
        if isinstance(result, PenstockError):
            raise result


def _page(state: JobState | DeliveryState | None, limit: int) -> int:
    """How many jobs to look at in one round trip; where a state is asked for most may not match."""
    return BATCH if state else min(limit, BATCH)


def _ask_record(pipeline: Any, id_: str) -> Any:
    return pipeline.hgetall(keys.job(id_)).xrevrange(keys.feed(id_), count=1)


def _ask_records(pipeline: Any, ids: Iterable[str]) -> Any:
    for id_ in ids:
        pipeline.hmget(keys.job(id_), JobRecord.LISTED)
        pipeline.xrevrange(keys.feed(id_), count=1)
    return pipeline


def _records(ids: Sequence[str], replies: list[Any]) -> list[JobRecord | None]:
    pairs = zip(ids, replies[::2], replies[1::2], strict=True)
    return [_record(id_, _listed(values), entries) for id_, values, entries in pairs]


def _listed(values: list[bytes | None]) -> dict[bytes, bytes]:
    named = zip(JobRecord.LISTED, values, strict=True)
    return {name.encode(): value for name, value in named if value is not None}


def _record(id_: str, fields: dict[bytes, bytes], entries: list[Any]) -> JobRecord | None:
    if not fields:
        return None
    last = _newest(entries)
    return JobRecord.from_fields(id_, fields, last.data if last and last.is_terminal else None)


def _sorted(names: Iterable[bytes]) -> list[str]:
    return sorted(name.decode() for name in names)


def _ask_usage(pipeline: Any, asked: Iterable[tuple[str, str]]) -> Any:
    for day, tenant in asked:
        pipeline.hgetall(keys.usage(tenant, day))
    return pipeline


def _usage(asked: Iterable[tuple[str, str]], replies: Iterable[Any]) -> list[UsageRow]:
    pairs = zip(asked, replies, strict=True)
    return [row for (day, tenant), fields in pairs for row in rows(tenant, day, fields)]


def _created(delivery: Delivery) -> float:
    return delivery.created_at


def _newest(entries: list[Any]) -> Event | None:
    return decode(entries[0][1][b"event"]) if entries else None


def _found(replies: list[Any], id_: str) -> JobRecord:
    record = _record(id_, *replies)
    if record is None:
        raise commands.not_found(id_)
    return record


def _in_state(
    records: Iterable[JobRecord | None], state: JobState | None, limit: int
) -> Iterator[JobRecord]:
    matching = (r for r in records if r is not None and state in (None, r.state))
    return islice(matching, limit)
