"""The Celery application, the names in it, and the message that rings a worker.

Celery carries, distributes and watches; the record in Redis is the truth. So a message holds
nothing but the job's id, is acknowledged as soon as the job is claimed, and may be lost or come
twice without harm.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable
from queue import Empty
from typing import Any
from urllib.parse import quote, urlsplit

import celery
from celery import Celery
from celery.app.amqp import AMQP
from kombu import Connection, Exchange, Queue
from kombu.exceptions import OperationalError
from kombu.transport.redis import Channel, Transport

from penstock import address
from penstock.connection import Demoted, Server
from penstock.errors import StoreUnavailable
from penstock.keys import PREFIX, QUEUE_NAME
from penstock.settings import Settings
from penstock.store import mapped_errors
from penstock.trace import Tracer

TASK = "penstock.attempt"
"""The task's name, as `celery inspect` and Flower show it."""

CELERY_VERSION: str = celery.__version__

_JOB, _ROUTE, _TAG = "@@job@@", "@@route@@", "@@tag@@"

REFUSED_PAUSE = 0.5
"""Seconds until a server that refused to hand out a message is asked again."""

_TRANSPORT: dict[str, Any] = {
    "global_keyprefix": PREFIX,
    # The record protects a job from the claim on, and an unclaimed one is rung again: kombu's own
    # bookkeeping of unacknowledged messages would only cost two round trips a job, fail when
    # memory is full, and share keys with other Celery applications in the same database.
    "ack_emulation": False,
    "priority_steps": [0],
    "health_check_interval": 5,
}

_CONFIGURATION: dict[str, Any] = {
    "accept_content": ["json"],
    "task_serializer": "json",
    "task_acks_late": False,
    "task_ignore_result": True,
    "task_store_errors_even_if_ignored": False,
    "task_create_missing_queues": False,
    "worker_pool": "worker.app:WorkerPool",
    "worker_prefetch_multiplier": 1,
    "worker_disable_prefetch": True,
    "worker_disable_rate_limits": True,
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
    # Ours are acknowledged early, so nothing is cancelled; False would warn at every reconnect.
    "worker_cancel_long_running_tasks_on_connection_loss": True,
    "worker_enable_prefetch_count_reduction": False,
    # Each costs a round trip; Flower and `celery control enable_events` turn them on.
    "worker_send_task_events": False,
    "broker_connection_retry": True,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "broker_transport": "worker.dispatch:ToughTransport",
    "enable_utc": True,
}


class ToughChannel(Channel):  # type: ignore[misc]  # kombu has no type information
    """kombu's Redis channel, made to consume from a server that is at its memory limit.

    Such a server refuses whatever may need memory, even a read inside MULTI; running jobs are to
    finish all the same, and a worker that starts meanwhile is to take its part in that.
    """

    from_transport_options = (*Channel.from_transport_options, "server")
    server: Server

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        """Connections are made as everywhere else; kombu adds how it hears of their end."""
        options = self.server.options()
        self.connection_class = self.connection_class_ssl = options["connection_class"]
        given: dict[str, Any] = super()._connparams(asynchronous)
        kept = ("connection_class", "max_connections", "health_check_interval")
        return {"db": 0, **options, **{name: given[name] for name in kept}}

    def _size(self, queue: str) -> int:
        with self.conn_or_acquire() as client:
            return int(client.llen(queue))

    def _brpop_read(self, **options: Any) -> Any:
        """A server that cannot write its disk refuses the pop: ask again in a moment."""
        try:
            return super()._brpop_read(**options)
        except Demoted:  # a new connection may lead to the primary; this one is closed
            time.sleep(REFUSED_PAUSE)
            raise
        except self.ResponseError:
            time.sleep(REFUSED_PAUSE)
            raise Empty from None

    def _queue_bind(self, *arguments: Any) -> None:
        """Bindings route what Celery publishes; our messages are pushed by scripts."""
        with contextlib.suppress(self.ResponseError):
            super()._queue_bind(*arguments)


class ToughTransport(Transport):  # type: ignore[misc]
    """kombu's Redis transport with our channel."""

    Channel = ToughChannel


class EagerConnection(Connection):  # type: ignore[misc]
    """A broker connection that is back within a second of Redis; kombu's own waits up to 30 s."""

    def ensure_connection(self, *arguments: Any, **options: Any) -> Any:
        """Connect, trying again at most a second apart."""
        intervals = {"interval_start": 0.2, "interval_step": 0.2, "interval_max": 1}
        return super().ensure_connection(*arguments, **{**intervals, **options})

    def as_uri(self, *arguments: Any, **options: Any) -> str:
        """For people and for Flower, which go by the scheme and know no transport of ours."""
        shown: str = super().as_uri(*arguments, **options)
        return f"redis://{shown.partition('://')[2]}"


class Broker(AMQP):  # type: ignore[misc]
    """Celery's messaging on our kind of connection."""

    Connection = EagerConnection


class Application(Celery):  # type: ignore[misc]
    """A Celery application that knows the settings it was made from, and who makes its spans."""

    amqp_cls = Broker
    settings: Settings
    tracer: Tracer


def make_app(settings: Settings, routes: Iterable[str]) -> Application:
    """The Celery application of workers that serve these routes."""
    app = Application("penstock", broker=broker_url(settings.server_url), set_as_current=False)
    app.settings = settings
    app.conf.update(_CONFIGURATION)
    app.conf.worker_concurrency = settings.concurrency
    app.conf.task_queues = [queue_of(route) for route in routes]
    app.conf.task_default_queue = app.conf.task_queues[0].name
    app.conf.broker_transport_options = {**_TRANSPORT, "server": Server(settings.server_url)}
    return app


def queue_of(route: str) -> Queue:
    """A route's Celery queue."""
    name = QUEUE_NAME + route
    return Queue(name, Exchange(name, type="direct"), routing_key=name)


def alive(app: Application, timeout: float) -> list[str]:
    """The names of the workers that answer a ping within `timeout` seconds, sorted.

    Raises StoreUnavailable; NotPermitted.
    """
    try:
        # A connection of its own: the reads end with it.
        with mapped_errors(app.settings.server_url), app.connection_for_write() as connection:
            replies: list[dict[str, Any]] = app.control.ping(timeout=timeout, connection=connection)
    except OperationalError as error:  # kombu's name for all that its connections meet
        raise StoreUnavailable(f"cannot ask the workers through Redis: {error}") from None
    return sorted(name for reply in replies for name in reply)


def broker_url(server_url: str) -> str:
    """The Redis URL as kombu understands it, for people to see: see ToughChannel for connections.

    Of Sentinels it is the first, of a Unix socket its path.
    """
    known = address.read(server_url)
    parts = urlsplit(known.url)
    if parts.scheme == "unix":
        return f"redis://{quote(parts.path, safe='')}"
    place = "{}:{}".format(*known.sentinels[0]) if known.sentinels else parts.netloc
    return f"redis://{place}{parts.path}"


def render_template() -> str:
    """A Celery message for no job yet: Celery and kombu build it, the scripts fill in the names.

    It is sent once over kombu's in-memory transport and taken from there as it would go to Redis.
    """
    app = Celery("penstock-template", broker="memory://", set_as_current=False)
    app.conf.update(task_serializer="json", task_ignore_result=True)
    queue = queue_of(_ROUTE)
    with app.connection_for_write() as connection:
        app.send_task(
            TASK, task_id=_JOB, queue=queue, connection=connection, argsrepr="()", kwargsrepr="{}",
            ignore_result=True, declare=[queue], origin="penstock",
        )  # fmt: skip
        message: dict[str, Any] = connection.default_channel._get(queue.name)
    message["properties"]["correlation_id"] = _JOB
    message["properties"]["reply_to"] = ""  # nobody: else each process has another message
    message["properties"]["delivery_tag"] = _TAG
    return json.dumps(message, separators=(",", ":"))
