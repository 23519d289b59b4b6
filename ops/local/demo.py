"""`penstock demo`: server, upstream, worker and one answer, and nothing left behind."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from ops.local.child import Child, embedded
from ops.local.fleet import Arrivals, require_server, worker
from ops.local.server import EmbeddedServer
from ops.local.supervisor import Supervisor
from ops.simulator.thread import SimulatorThread
from penstock import AsyncClient, Client, Settings, log
from penstock.settings import DEFAULT_PRICES
from producers.following import tell_all
from producers.narration import Narration
from producers.screen import Screen
from producers.whereabouts import watching

PROMPT = "Hello! Who are you, and what just happened?"

ROUTE = TENANT = "demo"
"""The demo's own: on a server that others use too, its worker must not answer their jobs."""

KEEP_SECONDS = 600
"""How long the job stays readable where the server outlives the demo."""


@click.command()
@click.argument("prompt", default=PROMPT)
def demo(prompt: str) -> None:
    """Show everything at work: server, upstream, worker, and one answer streamed to you.

    The upstream is simulated unless DEEPINFRA_TOKEN is set. The server is a temporary one unless
    PENSTOCK_REDIS_URL is set. Nothing is left behind.
    """
    settings = Settings.load()
    log.configure(settings.model_copy(update={"log_level": "warning"}))
    with _directory() as directory, _upstream(settings) as upstream:
        sys.exit(Demo(settings, directory, upstream, prompt).run())


class Demo:
    """One run.

    Args:
        settings: the user's own.
        directory: for the server's data and the worker's log; removed by the caller.
        upstream: the simulator's URL, None for the configured upstream.
        prompt: what to submit.
    """

    def __init__(
        self, settings: Settings, directory: Path, upstream: str | None, prompt: str
    ) -> None:
        self._server = None if settings.redis_url else EmbeddedServer(directory)
        url = settings.redis_url or f"unix://{directory / 'redis.sock'}"
        self._settings = settings.model_copy(update={"redis_url": url})
        self._log = directory / "worker.log"
        self._upstream = upstream
        self._prompt = prompt
        self._job: str | None = None
        self._over = False

    def run(self) -> int:
        """Start everything, show the answer, stop everything; the exit status."""
        if self._server is None:
            require_server(self._settings.server_url)
        with (
            Client(self._settings) as client,
            Screen(lambda: self._status(client)) as screen,
        ):
            screen.note(self._introduction(), dim=True)
            return Supervisor(self._groups()).run(lambda: self._answer(screen))

    def _groups(self) -> list[list[Child]]:
        url = self._settings.server_url
        ready = Arrivals(url).at_least(1)
        workers = [worker(1, url, self._environment(), ready, self._log)]
        return [workers] if self._server is None else [[embedded(self._server)], workers]

    def _environment(self) -> dict[str, str]:
        prices = DEFAULT_PRICES.model_dump()  # tenants may have budgets, which ask for some
        route = {"url": self._upstream, "prices": prices} if self._upstream else {}
        return {
            "PENSTOCK_ROUTES": json.dumps({ROUTE: route}),
            "PENSTOCK_WORKER_ROUTES": ROUTE,
            "PENSTOCK_LOG": "console",
            "PENSTOCK_METRICS_PORT": "0",  # a worker proper may have it
        }

    async def _answer(self, screen: Screen) -> int:
        async with AsyncClient(self._settings) as client:
            job = await client.submit(
                [{"role": "user", "content": self._prompt}],
                route=ROUTE, tenant=TENANT, result_ttl=KEEP_SECONDS,
            )  # fmt: skip
            self._job = job.id
            screen.note(f"{job.id}: {self._prompt}", dim=True)
            try:
                await tell_all(job.events(), Narration(screen))
            finally:
                self._over = True
        return 0

    def _status(self, client: Client) -> str:
        if self._over:
            return "stopping server and worker"
        return watching(client, self._job)() if self._job else "starting server and worker"

    def _introduction(self) -> str:
        server = f"the server at {self._settings.safe_url}" if self._server is None else "a server"
        if self._upstream:
            return f"{server}, a worker and a simulated model; set DEEPINFRA_TOKEN for a real one"
        settings = self._settings
        return f"{server}, a worker and {settings.model} at {settings.upstream_url}"


@contextmanager
def _directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="penstock-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _upstream(settings: Settings) -> Iterator[str | None]:
    """The URL of a simulator that runs meanwhile, or None where there is a real upstream to ask."""
    if settings.token:
        yield None
        return
    with SimulatorThread(ttft=0.3, gap=0.02) as simulator:
        yield simulator.url
