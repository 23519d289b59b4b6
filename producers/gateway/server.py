"""Runs the gateway on uvicorn."""

from __future__ import annotations

import contextlib
import signal
import socket
from types import FrameType

import uvicorn
from prometheus_client import REGISTRY

from penstock import ConfigurationError, Settings, access, metrics
from penstock.store import Store
from producers.gateway import telemetry
from producers.gateway.app import create_app
from producers.gateway.caller import is_loopback
from producers.gateway.census import CensusCollector
from producers.gateway.head import bound_by
from producers.hooks.hook import strangers

SEND_BUFFER = 64 * 1024
"""Bytes that the kernel keeps for a connection whose other end does not read; Linux doubles it, and
left to itself goes on to megabytes, for each reader that stalls."""


def run(settings: Settings) -> int:
    """Serve until a signal; the exit status.

    Raises:
        StoreUnavailable: Redis cannot be reached.
        ConfigurationError: a hook is wrong, a port is taken, or the host is not ours; or it is not
            this machine's alone, and there is no API key.
    """
    server = Server(settings)
    check_private(settings)
    for name, route in strangers(settings):
        telemetry.log("hook_strange", hook=name, route=route)
    with listening(settings.gateway_host, settings.gateway_port) as listener:
        if settings.metrics_port:
            REGISTRY.register(CensusCollector(settings))
            metrics.serve(settings.metrics_host, settings.metrics_port)
        url = f"http://{settings.gateway_host}:{listener.getsockname()[1]}"
        telemetry.log("gateway_started", url=url, server=settings.safe_url)
        server.run([listener])
    telemetry.log("gateway_stopped")
    return 0


class Server(uvicorn.Server):
    """Sends its readers away before it waits for what is still open."""

    def __init__(self, settings: Settings) -> None:
        self.app = create_app(settings)
        super().__init__(
            uvicorn.Config(
                self.app,
                http=bound_by(settings.gateway_timeout),
                ws="none",
                log_config=None,
                access_log=False,
                workers=1,
                proxy_headers=False,
                forwarded_allow_ips="",  # else uvicorn reads it from the environment
                server_header=False,
                timeout_graceful_shutdown=max(1, int(settings.drain_timeout)),
            )
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop, and at a second Ctrl-C at once.

        uvicorn's own remembers the signal and raises it again when all is done: the process would
        end by it before its farewell is logged.
        """
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop: streams end, and their readers come back to another gateway with their cursors."""
        client = getattr(self.app.state, "client", None)
        if client and client.fanout:
            client.fanout.dismiss()
        await super().shutdown(sockets)


def check_private(settings: Settings) -> None:
    """Raise ConfigurationError where anybody could come in."""
    with contextlib.closing(Store(settings.server_url)) as store:
        if store.run(access.roll()):
            return
    if not is_loopback(settings.gateway_host):
        raise ConfigurationError(
            f"there is no API key yet, so anybody who reaches {settings.gateway_host} could use "
            "the gateway. Make one with `penstock keys create`, or listen on 127.0.0.1"
        )
    telemetry.log("gateway_open")


def listening(host: str, port: int) -> socket.socket:
    """A listening socket; raises ConfigurationError."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host} port {port}: {error.strerror}. Choose another with --port"
        ) from None
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    return listener
