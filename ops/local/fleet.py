"""The Penstock processes that `up` and `demo` start: workers and the simulated upstream."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from ops.local.child import Child, port_answers, program
from penstock import keys
from penstock.errors import StoreError
from penstock.settings import DEFAULT_ROUTE, RouteOverrides, Settings
from penstock.store import Store, mapped_errors

PENSTOCK = (sys.executable, "-P", "-m", "ops.cli", "--lifeline")
"""This installation's own command line; -P: whatever lies in the current directory stays out. A
child's stdin is its lifeline: a worker that outlived `penstock up` would take jobs unseen."""

LOCALHOST = "127.0.0.1"
SPARE_SECONDS = 10.0
"""Between a worker's drain_timeout and its SIGKILL: what is left is handed back in that time."""

TAIL_BYTES, TAIL_LINES = 4096, 8


def worker(
    number: int, url: str, env: Mapping[str, str], ready: Callable[[], bool], log: Path | None
) -> Child:
    """A worker on the server of this URL; it logs to our stderr, or to the file `log`."""
    child = program(
        f"worker-{number}",
        [*PENSTOCK, "worker"],
        env={"PENSTOCK_REDIS_URL": url, **env},
        ready=ready,
        output=log,
        lifeline=True,
    )
    return replace(child, explain=lambda: last_lines(log)) if log else child


def simulator(port: int) -> Child:
    """The simulated upstream, paced as a real one of middling speed."""
    pace = ["--ttft", "0.3", "--gap", "0.02"]
    return program(
        "simulator",
        [*PENSTOCK, "simulator", "--host", LOCALHOST, "--port", str(port), *pace],
        ready=port_answers(LOCALHOST, port),
        lifeline=True,
    )


def gateway(url: str, host: str, port: int, env: Mapping[str, str]) -> Child:
    """A gateway on the server of this URL."""
    return program(
        "gateway",
        [*PENSTOCK, "gateway", "--host", host, "--port", str(port)],
        env={"PENSTOCK_REDIS_URL": url, **env},
        ready=port_answers(host, port),
        lifeline=True,
    )


class Arrivals:
    """Tells when the workers we start listen: each holds a subscription to the control channel."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._before: int | None = None

    def at_least(self, count: int) -> Callable[[], bool]:
        """A ready hook: whether so many have come since the first time anybody asked."""

        def ready() -> bool:
            try:
                listening = self._listening()
            except StoreError:
                return False
            if self._before is None:
                self._before = listening
            return listening >= self._before + count

        return ready

    def _listening(self) -> int:
        with closing(Store(self._url)) as store, mapped_errors(self._url):
            return int(store.redis.pubsub_numsub(keys.CONTROL)[0][1])


def require_server(url: str) -> None:
    """Raises StoreUnavailable at once, not when a worker has tried for a while."""
    with closing(Store(url)) as store, mapped_errors(url):
        store.redis.ping()


def simulated_routes(settings: Settings, url: str) -> dict[str, str]:
    """The environment that sends every route to the simulator, whatever penstock.toml says."""
    routes = {DEFAULT_ROUTE: RouteOverrides(), **settings.routes}
    pointed = {
        name: {
            **route.model_dump(mode="json", exclude_unset=True),
            "url": url,
            "prices": route.prices.model_dump(),
        }
        for name, route in routes.items()
    }
    return {
        "PENSTOCK_UPSTREAM_URL": url,
        "PENSTOCK_ROUTES": json.dumps(pointed),
        "PENSTOCK_FOLLOW_APPLIED": "false",  # what is applied names real upstreams
    }


def simulator_url(port: int) -> str:
    """The simulator's base URL, as PENSTOCK_UPSTREAM_URL takes it."""
    return f"http://{LOCALHOST}:{port}/v1/openai"


def free_port() -> int:
    """A TCP port that nobody uses at the moment."""
    with socket.create_server((LOCALHOST, 0)) as free:
        port: int = free.getsockname()[1]
    return port


def is_taken(host: str, port: int) -> bool:
    """Whether nobody can listen there now."""
    try:
        socket.create_server((host, port)).close()
    except OSError:
        return True
    return False


def last_lines(log: Path) -> str:
    """What a child has logged last, for people."""
    try:
        text = log.read_bytes()[-TAIL_BYTES:].decode(errors="replace")
    except OSError:
        return ""
    lines = [line for line in text.splitlines() if line.strip()]
    return "\n".join(["its log ends with:", *lines[-TAIL_LINES:]]) if lines else ""
