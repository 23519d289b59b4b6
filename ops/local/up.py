"""`penstock up`: an embedded server, workers and a gateway in the foreground."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import click

from ops.local.child import Child, embedded
from ops.local.fleet import (
    SPARE_SECONDS,
    Arrivals,
    free_port,
    gateway,
    is_taken,
    require_server,
    simulated_routes,
    simulator,
    simulator_url,
    worker,
)
from ops.local.server import EmbeddedServer
from ops.local.supervisor import Supervisor
from penstock import Settings, log

BY_SIGNAL = 128
"""A status from here on says which signal ended `up`; that is how it ends, and no failure."""


@click.command()
@click.option("--simulate", is_flag=True, help="Run the simulated upstream, and ask only that.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True)
def up(simulate: bool, workers: int) -> None:
    """Run a server, workers and a gateway until Ctrl-C; data is kept in .penstock/.

    A server named by PENSTOCK_REDIS_URL is used in place of the embedded one. PENSTOCK_STATE_DIR
    names another directory for the data. What crashes is started again.
    """
    settings = Settings.load()
    log.configure(settings)
    sys.exit(Plant(settings, workers, free_port() if simulate else None).run())


@dataclass
class Plant:
    """What runs together.

    Attributes:
        settings: the user's own.
        workers: how many worker processes.
        port: the simulator's; None for the configured upstream.
    """

    settings: Settings
    workers: int
    port: int | None

    def run(self) -> int:
        """Run until a signal; the exit status."""
        if self.settings.hooks and not self._no_gateway:
            self._check_hooks()
        if self.settings.redis_url:
            require_server(self.settings.redis_url)
        supervisor = Supervisor(self._groups(), grace=self.settings.drain_timeout + SPARE_SECONDS)
        status = supervisor.run(self._announce)
        return 0 if status >= BY_SIGNAL else status

    def _check_hooks(self) -> None:
        """Raise ConfigurationError before anything starts, as the gateway would in the end."""
        from producers.hooks.hook import compiled

        compiled(self.settings)

    @property
    def url(self) -> str:
        """The server's URL."""
        return self.settings.redis_url or f"unix://{self.settings.socket_path}"

    def _groups(self) -> list[list[Child]]:
        """What others need comes first; each group waits for the one before it."""
        first: list[Child] = []
        if not self.settings.redis_url:
            first.append(embedded(EmbeddedServer(self.settings.state_dir)))
        if self.port:
            first.append(simulator(self.port))
        ready = Arrivals(self.url).at_least(self.workers)
        numbers = range(1, self.workers + 1)
        workers = [worker(n, self.url, self._environment(n), ready, None) for n in numbers]
        return [first, workers, [] if self._no_gateway else [self._gateway()]]

    def _gateway(self) -> Child:
        environment = self._environment(self.workers + 1)
        return gateway(self.url, self.settings.gateway_host, self._gateway_port, environment)

    @cached_property
    def _gateway_port(self) -> int:
        return self.settings.gateway_port or free_port()

    @cached_property
    def _no_gateway(self) -> str:
        """Why there is no gateway; "" where there is one."""
        port = self._gateway_port
        if not find_spec("fastapi"):
            return "none: pip install 'penstock[gateway]'"
        if is_taken(self.settings.gateway_host, port):
            return f"none: port {port} is taken; set PENSTOCK_GATEWAY_PORT to another"
        return ""

    def _environment(self, number: int) -> dict[str, str]:
        """What the worker of this number, from 1 on, has otherwise than we."""
        routes = simulated_routes(self.settings, simulator_url(self.port)) if self.port else {}
        if self.settings.metrics_port:
            return {**routes, "PENSTOCK_METRICS_PORT": str(self.settings.metrics_port + number - 1)}
        return routes

    async def _announce(self) -> int:
        """Once all are ready."""
        click.echo("\n".join(self._lines()), err=True)
        await asyncio.Event().wait()
        return 0

    def _lines(self) -> list[str]:
        lines = [
            f"server    {self.settings.model_copy(update={'redis_url': self.url}).safe_url}",
            *self._upstream_lines(),
            f"workers   {self.workers}",
            f"gateway   {self._no_gateway or self._gateway_url()}",
            'submit    penstock submit "Hello!" --follow',
            f"watch     {self._watch_command()}",
            f"stop      {_stop_command()}",
        ]
        if not self.settings.redis_url:
            lines.insert(1, f"data      {_short(self.settings.state_dir)}/")
        return ["penstock is up", *(f"  {line}" for line in lines), *self._warnings()]

    def _gateway_url(self) -> str:
        return f"http://{self.settings.gateway_host}:{self._gateway_port}"

    def _upstream_lines(self) -> list[str]:
        if self.port:
            return [f"upstream  {simulator_url(self.port)} (simulated)"]
        routes = self.settings.served_routes
        return [f"upstream  {name}: {route.model} at {route.url}" for name, route in routes.items()]

    def _watch_command(self) -> str:
        """redis-cli knows no Sentinels, and nothing of the password that a given URL may hold."""
        if self.settings.redis_url:
            return "penstock follow <job> --json"
        return f"redis-cli -s {_short(self.settings.socket_path)} SUBSCRIBE penstock:feed:<job>"

    def _warnings(self) -> list[str]:
        routes = self.settings.served_routes
        without = [name for name, route in routes.items() if route.token is None]
        if self.port or not without:
            return []
        return [
            f"warning: no token for route {', '.join(without)}: the upstream will refuse its jobs. "
            "Set DEEPINFRA_TOKEN, or try without a real model: penstock up --simulate"
        ]


def _stop_command() -> str:
    """A shell without job control starts what it puts into the background deaf to Ctrl-C."""
    ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    return f"kill {os.getpid()}" if ignored else "Ctrl-C"


def _short(path: Path) -> str:
    """The path as one would type it here."""
    relative = os.path.relpath(path)
    return str(path.absolute()) if relative.startswith("..") else relative
