"""`penstock worker`."""

from __future__ import annotations

import sys

import click

from penstock.settings import Settings


@click.command()
@click.option("--concurrency", type=click.IntRange(min=1), help="Streams at a time.")
@click.option("--processes", type=click.IntRange(min=1), default=1, help="Worker processes.")
@click.option("--routes", help="Routes to serve, separated by commas; all where left out.")
@click.option("--metrics-port", type=click.IntRange(0, 65535), help="Serve Prometheus metrics.")
@click.option("--strict", is_flag=True, help="Refuse a server that evicts or does not persist.")
def worker(
    concurrency: int | None,
    processes: int,
    routes: str | None,
    metrics_port: int | None,
    strict: bool,
) -> None:
    """Run a worker until Ctrl-C or SIGTERM."""
    given = {"concurrency": concurrency, "worker_routes": routes, "metrics_port": metrics_port}
    settings = Settings.load(**{name: value for name, value in given.items() if value is not None})
    from worker.app import run

    sys.exit(run(settings, settings.metrics_port))
