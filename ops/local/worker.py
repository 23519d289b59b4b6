"""`penstock worker`: one worker in this process, or several under a supervisor."""

from __future__ import annotations

import sys

import click

from ops.local.child import Child, program
from ops.local.fleet import PENSTOCK, SPARE_SECONDS
from ops.local.supervisor import Supervisor
from penstock import Settings, log


@click.command()
@click.option("--concurrency", type=click.IntRange(min=1), help="Streams at a time, a process.")
@click.option("--processes", type=click.IntRange(min=1), default=1, help="One a core is right.")
@click.option("--routes", help="Routes to serve, separated by commas; all where left out.")
@click.option(
    "--metrics-port",
    type=click.IntRange(1, 65535),
    help="For Prometheus; the next processes take the next ports.",
)
@click.option("--strict", is_flag=True, help="Refuse a server that evicts or does not persist.")
def worker(
    concurrency: int | None,
    processes: int,
    routes: str | None,
    metrics_port: int | None,
    strict: bool,
) -> None:
    """Run a worker until Ctrl-C or SIGTERM; running streams get time to end."""
    given = {"concurrency": concurrency, "worker_routes": routes, "metrics_port": metrics_port}
    settings = Settings.load(**{name: value for name, value in given.items() if value is not None})
    log.configure(settings)
    from worker.app import check_server, run

    check_server(settings, strict)
    if processes > 1:
        children = [_child(settings, index) for index in range(processes)]
        grace = settings.drain_timeout + SPARE_SECONDS
        sys.exit(Supervisor([children], grace=grace).run())
    sys.exit(run(settings))


def _child(settings: Settings, index: int) -> Child:
    """One of several; it dies alone, and is started again."""
    argv = [*PENSTOCK, "worker", "--concurrency", str(settings.concurrency)]
    if settings.worker_routes:
        argv += ["--routes", ",".join(settings.worker_routes)]
    if settings.metrics_port:
        argv += ["--metrics-port", str(settings.metrics_port + index)]
    return program(f"worker-{index + 1}", argv, lifeline=True)
