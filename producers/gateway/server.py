"""Runs the gateway on uvicorn."""

from __future__ import annotations

import contextlib
import socket

import uvicorn

from penstock import ConfigurationError, Settings, access
from penstock.store import Store
from producers.gateway.app import create_app
from producers.gateway.caller import is_loopback


def run(settings: Settings) -> int:
    """Serve until a signal; the exit status.

    Raises:
        StoreUnavailable: Redis cannot be reached.
        ConfigurationError: the port is taken, or the host is not ours; or it is not this machine's
            alone, and there is no API key.
    """
    check_private(settings)
    server = uvicorn.Server(config(settings))
    with listening(settings.gateway_host, settings.gateway_port) as listener:
        server.run([listener])
    return 0


def check_private(settings: Settings) -> None:
    """Raise ConfigurationError where anybody could come in."""
    with contextlib.closing(Store(settings.server_url)) as store:
        is_open = not store.run(access.roll())
    if is_open and not is_loopback(settings.gateway_host):
        raise ConfigurationError(
            f"there is no API key yet, so anybody who reaches {settings.gateway_host} could use "
            "the gateway. Make one with `penstock keys create`, or listen on 127.0.0.1"
        )


def config(settings: Settings) -> uvicorn.Config:
    """How uvicorn runs; everything it could read from the environment is said."""
    return uvicorn.Config(
        create_app(settings),
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        workers=1,
        proxy_headers=False,
        forwarded_allow_ips="",
        server_header=False,
        timeout_graceful_shutdown=int(settings.drain_timeout) or 1,
    )


def listening(host: str, port: int) -> socket.socket:
    """A listening socket; raises ConfigurationError."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host} port {port}: {error.strerror}. Choose another with --port"
        ) from None
