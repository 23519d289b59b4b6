"""`penstock gateway`: one gateway in this process."""

from __future__ import annotations

import sys

import click

from penstock import Settings, log


@click.command()
@click.option("--host", help="Where to listen; 127.0.0.1 where left out.")
@click.option("--port", type=click.IntRange(0, 65_535), help="8000 where left out.")
@click.option("--metrics-port", type=click.IntRange(1, 65_535), help="For Prometheus.")
def gateway(host: str | None, port: int | None, metrics_port: int | None) -> None:
    """Serve HTTP until Ctrl-C or SIGTERM.

    Without any API key it listens on loopback only; make one with `penstock keys create`.
    """
    given = {"gateway_host": host, "gateway_port": port, "metrics_port": metrics_port}
    settings = Settings.load(**{name: value for name, value in given.items() if value is not None})
    log.configure(settings)
    from producers.gateway.server import run

    sys.exit(run(settings))
