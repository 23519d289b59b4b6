"""A Celery execution pool on one asyncio event loop: as many coroutines as Celery lets in.

Celery's own pools run a task on a process, a thread or a greenlet. This one schedules a task whose
`run` is a coroutine function on an event loop that has its own thread; the hub, Celery's loop,
keeps the main thread. Any other task (Celery brings some) runs in a small thread pool.

A coroutine finds its `Delivery` with `current()`: the message is acknowledged when it calls
`accept()`, not before, and it learns there why it was stopped.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from contextvars import ContextVar
from typing import Any, ClassVar

import uvloop
from billiard.einfo import ExceptionInfo
from celery.concurrency.base import BasePool, apply_target
from celery.signals import worker_ready

HAND_BACK_TIMEOUT = 5.0
"""Seconds that stopped coroutines get to put their affairs in order."""

_current: ContextVar[Delivery] = ContextVar("penstock_delivery")


def current() -> Delivery:
    """The delivery that this coroutine was started for."""
    return _current.get()


class Delivery:
    """One message given to a coroutine; Celery keeps a weak reference to it.

    Attributes:
        task_id: the Celery task's id.
        state: what the pool's lifespan gave.
        stopped_by: what `stop` was called with first, None while nobody has.
    """

    def __init__(self, pool: AsyncioPool, number: int, task_id: str) -> None:
        self.number = number
        self.task_id = task_id
        self.state = pool.state
        self.stopped_by: Any = None
        self.accepted = False
        self._pool = pool
        self._task: asyncio.Task[Any] | None = None
        self._callbacks: dict[str, Callable[..., Any]] = {}

    def accept(self) -> None:
        """Acknowledge the message: whoever sent it need not send it again."""
        if not self.accepted:
            self.accepted = True
            self._pool.post(self._callbacks["accept"], self.number, time.monotonic())

    def stop(self, reason: Any) -> None:
        """Cancel the coroutine, once; on the event loop's thread only."""
        if self.stopped_by is None:
            self.stopped_by = reason
            if self._task is not None:
                self._task.cancel()

    def terminate(self, signal: Any = None) -> None:
        """Celery's word for it, from any thread: `celery control revoke --terminate`."""
        self._pool.loop.call_soon_threadsafe(self.stop, REVOKED)

    async def run(self, function: Callable[..., Any], callbacks: dict[str, Any]) -> None:
        """Run the task's function, and tell Celery how it ended."""
        _current.set(self)
        self._task, self._callbacks = asyncio.current_task(), callbacks
        started = time.monotonic()
        try:
            await function()
        except asyncio.CancelledError:
            pass  # stopped: whoever stopped it knows why
        except Exception:
            self.accept()
            self._pool.post(callbacks["failure"], ExceptionInfo())
        else:
            self.accept()
            self._pool.post(callbacks["success"], (0, "null", time.monotonic() - started))
            return
        self.accept()


REVOKED = "revoked"
"""`Delivery.stopped_by` after `celery control revoke --terminate`."""

DRAINED = "drained"
"""`Delivery.stopped_by` when the worker shuts down and the coroutine was too slow."""


class AsyncioPool(BasePool):  # type: ignore[misc]  # Celery has no type information
    """Runs coroutine tasks on an event loop.

    Subclass it and set `lifespan`, an async context manager that the loop holds open from start to
    stop; what it gives becomes every delivery's `state`. `drain_timeout` is in seconds.
    """

    signal_safe = False
    task_join_will_block = False
    body_can_be_buffer = True

    lifespan: ClassVar[Callable[[AsyncioPool], AbstractAsyncContextManager[Any]]]
    drain_timeout: float = 25.0
    consumer: Any = None
    """Celery's consumer of messages, once it is ready."""

    def on_start(self) -> None:
        """Start the loop's thread and enter the lifespan."""
        worker_ready.connect(self._on_ready)
        self.state: Any = None
        self.draining = False
        self.deliveries: dict[int, Delivery] = {}
        self._numbers = itertools.count(1)
        self._posted: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._signal = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._executor = ThreadPoolExecutor(max_workers=2, thread_name_prefix="penstock-task")
        self._stack = AsyncExitStack()
        self.loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="penstock-loop")
        self._thread.daemon = True
        self._thread.start()
        self._wait(self._enter())

    def _on_ready(self, sender: Any, **_: Any) -> None:
        self.consumer = sender

    async def _enter(self) -> None:
        self.state = await self._stack.enter_async_context(type(self).lifespan(self))

    def register_with_event_loop(self, hub: Any) -> None:
        """Let the hub wake up for what the loop's thread posts; called again on each reconnect."""
        hub.add_reader(self._signal, self._on_signal)

    @property
    def free(self) -> int:
        """How many more coroutines it takes now: none while it drains."""
        return 0 if self.draining else self.limit - len(self.deliveries)

    def wake(self) -> None:
        """Let the hub turn once: it may sleep for a second, also when Celery was told to stop."""
        os.eventfd_write(self._signal, 1)

    def post(self, callback: Callable[..., Any], *arguments: Any) -> None:
        """Call one of Celery's callbacks on the hub's thread, in order."""
        self._posted.append((callback, arguments))
        self.wake()

    def _on_signal(self) -> None:
        try:
            os.eventfd_read(self._signal)
        except BlockingIOError:
            return
        self._drain_posted()

    def _drain_posted(self) -> None:
        while self._posted:
            callback, arguments = self._posted.popleft()
            callback(*arguments)

    def on_apply(
        self,
        target: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        callback: Callable[..., Any] | None = None,
        accept_callback: Callable[..., Any] | None = None,
        error_callback: Callable[..., Any] | None = None,
        **_: Any,
    ) -> Any:
        """Start a task; args are (name, id, request, body, content type, content encoding)."""
        run = self.app.tasks[args[0]].run
        if not asyncio.iscoroutinefunction(run):
            return self._executor.submit(
                apply_target, target, args, kwargs, self._posting(callback),
                self._posting(accept_callback),
            )  # fmt: skip
        callbacks = {"success": callback, "failure": error_callback, "accept": accept_callback}
        delivery = Delivery(self, next(self._numbers), args[1])
        self.deliveries[delivery.number] = delivery
        self.loop.call_soon_threadsafe(self._launch, delivery, run, callbacks)
        return delivery

    def _posting(self, callback: Callable[..., Any] | None) -> Callable[..., None]:
        return lambda *arguments: self.post(callback, *arguments) if callback else None

    def _launch(self, delivery: Delivery, run: Callable[..., Any], callbacks: Any) -> None:
        task = self.loop.create_task(delivery.run(run, callbacks))
        task.add_done_callback(lambda _: self.deliveries.pop(delivery.number, None))

    def terminate_job(self, pid: int, signal: Any = None) -> None:
        """Stop the delivery of this number: Celery knows it as the pid it was accepted with."""
        if delivery := self.deliveries.get(pid):
            delivery.terminate(signal)

    def on_stop(self) -> None:
        """Drain: let coroutines end for `drain_timeout` seconds, then stop the rest."""
        self._shut_down(self.drain_timeout)

    def on_terminate(self) -> None:
        """Stop every coroutine now."""
        self._shut_down(0)

    def _shut_down(self, patience: float) -> None:
        if self.loop.is_closed():
            return
        self.draining = True
        self._wait(self._drain(patience))
        self._wait(self._stack.aclose())
        self._executor.shutdown(cancel_futures=True)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(HAND_BACK_TIMEOUT)
        if not self._thread.is_alive():
            self.loop.close()

    async def _drain(self, patience: float) -> None:
        await self._until_idle(patience)
        for delivery in list(self.deliveries.values()):
            delivery.stop(DRAINED)
        await self._until_idle(HAND_BACK_TIMEOUT)

    async def _until_idle(self, patience: float) -> None:
        tasks = [d._task for d in self.deliveries.values() if d._task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=patience)

    def _wait(self, coroutine: Any) -> None:
        """Block until the loop has run this, calling meanwhile what is posted: no hub turns now."""
        future: Future[Any] = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        future.add_done_callback(lambda _: self.wake())
        while not future.done():
            select.select([self._signal], [], [], 1.0)
            self._on_signal()
        self._drain_posted()
        future.result()

    def _get_info(self) -> dict[str, Any]:
        info: dict[str, Any] = super()._get_info()
        return {**info, "streams": len(self.deliveries)}

    def __iter__(self) -> Iterator[Delivery]:
        return iter(list(self.deliveries.values()))
