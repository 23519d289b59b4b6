"""Gateways under test: one in a thread for speed, one in a process that can be killed."""

from __future__ import annotations

import os
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

import httpx
from fastapi.routing import APIRoute

from penstock import Settings, access
from penstock.access import Scope
from penstock.store import Store
from producers.gateway import jobs
from producers.gateway.server import Server, listening
from tests import forks
from tests.forks import Streams
from tests.processes import free_port
from tests.waiting import until

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Of clients that speak plain HTTP: a usual one reads all authorities, for 40 ms."""


class GatewayThread:
    """A real uvicorn in a thread, on a port of its own."""

    def __init__(self, settings: Settings) -> None:
        self.listener = listening("127.0.0.1", 0)
        self.address: tuple[str, int] = self.listener.getsockname()
        self.url = f"http://127.0.0.1:{self.address[1]}"
        self.server = Server(settings)
        self.thread = threading.Thread(target=self.server.run, args=([self.listener],))

    def __enter__(self) -> Self:
        self.thread.start()
        until(lambda: self.server.started)
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join(timeout=10)


class GatewayProcess:
    """One `penstock gateway`, its log in a file."""

    def __init__(self, url: str, *arguments: str, port: int | None = None, **env: str) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = tempfile.NamedTemporaryFile(suffix=".log")  # noqa: SIM115 - closed by kill()
        self.process = forks.script(
            forks.PENSTOCK, "gateway", "--port", str(self.port), *arguments,
            streams=Streams(Path(self._log.name)),
            environment={**os.environ, "PENSTOCK_REDIS_URL": url, **env},
        )  # fmt: skip

    @property
    def log(self) -> str:
        """Everything it has written so far."""
        return Path(self._log.name).read_text(errors="replace")

    def until_ready(self) -> Self:
        """Wait until it accepts connections."""
        until(self._answers, timeout=60)
        return self

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"it ended with {self.process.returncode}:\n{self.log}")
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """Kill -9, once."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._log.close()


def make_key(store: Store, tenant: str = "default", scopes: Iterable[Scope] = Scope) -> str:
    """A new API key."""
    key = access.new_key()
    store.run(access.grant(key, tenant, scopes))
    return key


def http(url: str, key: str | None = None) -> httpx.Client:
    """A client for a gateway; errors are answers, not exceptions."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False, verify=NO_TLS)


def native_routes() -> Iterator[tuple[APIRoute, str, Scope]]:
    """Each route of the native API with its method and the scope that its dependency asks for."""
    for route in jobs.router.routes:
        assert isinstance(route, APIRoute)
        (scope,) = {
            dependency.call.scope  # type: ignore[union-attr]
            for dependency in route.dependant.dependencies
            if hasattr(dependency.call, "scope")
        }
        for method in route.methods:
            yield route, method, scope
