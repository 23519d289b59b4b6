"""The composition root of a worker process, for `penstock worker` and `celery -A worker.app`."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import threading
import warnings
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import celery.apps.worker
from celery import signals
from celery.exceptions import SecurityWarning
from celery.worker import state as worker_state

from penstock import commands, health, log, metrics
from penstock.agreement import EVERY, Agreement
from penstock.commands import Stop
from penstock.errors import ConfigurationError, PenstockError
from penstock.settings import Settings
from penstock.store import AsyncStore, Store
from penstock.trace import tracer_of
from worker import tasks, telemetry
from worker.admission import Admissions
from worker.attempt import Attempts
from worker.attendance import ROUND as ATTENDING
from worker.attendance import Attendance
from worker.changes import Changes
from worker.dispatch import CELERY_VERSION, Application, make_app, queue_of, render_template
from worker.keeper import ROUND, Keeper
from worker.leases import Leases
from worker.loops import Loops
from worker.outbox import Deliveries
from worker.pace import Pace
from worker.pool import AsyncioPool
from worker.relay import Relay
from worker.routes import Routes
from worker.upstream.client import Upstream
from worker.watchdog import Watchdog
from worker.webhooks import Courier

SERVICE = "penstock-worker"
"""What a worker is called in traces, where nobody says."""

EXIT_UNFIT = 75
"""Exit status of a worker that hears nothing, or whose loops died: EX_TEMPFAIL of sysexits.h, start
another."""

INTERRUPTED = 1
"""What Celery calls the exit of a worker that was stopped with Ctrl-C and has drained."""

LEAVE_TIMEOUT = 30.0
"""Seconds a worker that must leave gets beyond its drain_timeout; after that it is killed."""


def create(settings: Settings) -> Application:
    """The Celery application with its tasks and signal handlers.

    Raises ConfigurationError where traces are wanted and the extra `tracing` is missing.
    """
    app = make_app(settings, settings.served_routes)
    app.tracer = tracer_of(settings, SERVICE)
    tasks.register(app)
    signals.setup_logging.connect(lambda **_: log.configure(settings), weak=False)
    signals.task_revoked.connect(_on_revoked(settings), weak=False)
    return app


def __getattr__(name: str) -> Any:
    """`worker.app.app`, made from the environment when Celery's own command asks for it."""
    if name != "app":
        raise AttributeError(name)
    globals()["app"] = create(Settings.load())
    return globals()["app"]


@contextlib.asynccontextmanager
async def lifespan(pool: AsyncioPool) -> AsyncIterator[Attempts]:
    """Everything that lives on the pool's event loop."""
    settings: Settings = pool.app.settings
    pool.drain_timeout = settings.drain_timeout
    signals.worker_shutting_down.connect(lambda **_: pool.wake(), weak=False)
    routes = Routes(settings, render_template(), CELERY_VERSION)
    leave, tracer = _leaving(settings), pool.app.tracer
    loops = Loops(leave)
    async with AsyncStore.opened(settings.server_url) as store:
        leases, upstream = Leases(), Upstream(tells_trace=settings.trace_upstream)
        relay = Relay(store, _lose(leases), merge=settings.flush_interval > 0)
        pace = Pace(settings.flush_interval)
        courier = Courier(
            settings.webhook_timeout, http=settings.webhook_http, allowed=settings.webhook_allow
        )
        deliveries = Deliveries(settings, store, courier, tracer)
        admissions = Admissions(store, routes)
        attempts = Attempts(
            routes, store, upstream, relay, pace, leases, admissions, deliveries.wake, tracer
        )
        changes = Changes(store, routes, settings.follow_applied)
        keeper = Keeper(store, leases, routes, changes, loops, admissions, partial(_consume, pool))
        watchdog = Watchdog(
            store, attempts, routes, lambda: pool.free, settings.watchdog_timeout, leave
        )
        attendance = Attendance(store, routes, leases, pool.limit, partial(_name, pool))
        agreement = Agreement(store)
        await agreement.say()
        routes.version = await store.run(routes.registration)
        telemetry.log(
            "worker_started", routes=routes.served, concurrency=pool.limit, server=settings.safe_url
        )
        _collect_less()
        loops.begin(relay.run())
        loops.every("webhooks", 0, deliveries.run)
        loops.every("agree", EVERY, agreement.say)
        loops.every("watchdog", ROUND, watchdog.look)
        loops.every("attend", ATTENDING, attendance.report)
        keeper.start()
        try:
            yield attempts
        finally:
            await loops.end()
            await attendance.end()
            await deliveries.close()
            await upstream.close()
            await agreement.leave()
            await tracer.aclose()
            telemetry.log("worker_stopped", handed_back=attempts.handed_back)


def _name(pool: AsyncioPool) -> str:
    """What Celery calls this worker, once it takes messages."""
    return "" if pool.consumer is None else str(pool.consumer.hostname)


def _consume(pool: AsyncioPool, route: str) -> None:
    """Take the messages of one more route, from Celery's thread; also after a reconnect."""
    queue = queue_of(route)

    def consume() -> None:
        pool.app.amqp.queues.select_add(queue)
        if pool.consumer is not None and pool.consumer.task_consumer is not None:
            pool.consumer.add_task_queue(queue.name)

    pool.post(consume)


class WorkerPool(AsyncioPool):
    """The pool of Penstock's workers."""

    lifespan = lifespan


def run(settings: Settings) -> int:
    """Run one worker in this process until it is told to stop; its exit status.

    Raises:
        StoreUnavailable: Redis cannot be reached.
        ConfigurationError: a port is taken.
    """
    if settings.metrics_port:
        metrics.serve(settings.metrics_host, settings.metrics_port)
    worker = create(settings).Worker(
        hostname=f"penstock-{os.getpid()}@{os.uname().nodename}",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    celery.apps.worker.safe_say = lambda *_: None  # its farewells go to stdout, unstructured
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)  # of root and pickle; we take only JSON
        worker.start()
    return 0 if worker.exitcode in (None, INTERRUPTED) else int(worker.exitcode)


def check_server(settings: Settings, strict: bool = False) -> None:
    """Warn of a server that may lose jobs.

    Raises:
        StoreUnavailable: it cannot be reached.
        ConfigurationError: with `strict`, it may lose jobs.
    """
    with contextlib.closing(Store(settings.server_url)) as store:
        problems = health.server_problems(store)
    for problem in problems:
        telemetry.log("server_unsafe", problem=problem.text, advice=problem.advice)
    if problems and strict:
        text = "; ".join(f"{problem.text}: {problem.advice}" for problem in problems)
        raise ConfigurationError(f"--strict refuses {settings.safe_url}: {text}")


def _collect_less() -> None:
    """Look for cyclic garbage a hundred times less often: a stream of tokens makes hardly any.

    At Python's own thresholds the collector took an eighth of a busy worker's CPU, to look at the
    same long-lived objects again and again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(70_000, 20, 20)


def _lose(leases: Leases) -> Any:
    def lose(job: str, holder: str) -> None:
        leases.stop(Stop(job, "lost", "fenced", holder))

    return lose


def _on_revoked(settings: Settings) -> Any:
    """`celery control revoke`: the record must say so too, or the job would be rung for ever."""

    def on_revoked(request: Any = None, **_: Any) -> None:
        def cancel() -> None:
            with (
                contextlib.suppress(PenstockError),
                contextlib.closing(Store(settings.server_url)) as store,
            ):
                store.run(commands.cancel(request.id, "revoked through Celery"))

        threading.Thread(target=cancel, name="penstock-revoke", daemon=True).start()

    return on_revoked


def _leaving(settings: Settings) -> Callable[[], None]:
    """Stop warmly with EXIT_UNFIT; if the hub does not even hear that, leave without it."""

    def leave() -> None:
        worker_state.should_stop = EXIT_UNFIT
        patience = settings.drain_timeout + LEAVE_TIMEOUT
        timer = threading.Timer(patience, os.kill, (os.getpid(), signal.SIGKILL))
        timer.daemon = True
        timer.start()

    return leave
