"""`penstock simulator`: the simulator as a process."""

from __future__ import annotations

import asyncio
import errno
import signal
from typing import Any

import click
import uvloop

from ops.simulator.server import DEFAULT_PORT, Simulator

_POSITIVE = click.IntRange(min=1)
_SECONDS = click.FloatRange(min=0)


class CannotListen(click.ClickException):
    """The address is in use or not ours: a mistake in the call, hence status 2."""

    exit_code = 2


@click.command(short_help="a stand-in for the upstream API")
@click.option("--host", default="127.0.0.1", show_default=True, help="address to listen on")
@click.option("--port", default=DEFAULT_PORT, show_default=True, type=click.IntRange(0, 65_535))
@click.option("--token", help="answer 401 to any other bearer token")
@click.option("--concurrency", type=_POSITIVE, help="requests at once; the next gets 429")
@click.option("--requests-per-minute", type=_POSITIVE, help="in any 60 seconds; then 429")
@click.option("--tokens-per-minute", type=_POSITIVE, help="in any 60 seconds; then 429")
@click.option("--retry-after", is_flag=True, help="say in a 429 when to come back")
@click.option("--ttft", default=0.0, type=_SECONDS, help="seconds to the first token")
@click.option("--gap", default=0.0, type=_SECONDS, help="seconds between tokens")
@click.option("--jitter", default=0.0, type=click.FloatRange(0, 1), help="share of the gap")
@click.option("--seed", default=0, help="other answers to the same questions")
def simulator(**options: Any) -> None:
    """Serve an OpenAI-compatible API that makes its answers up: chat completions and responses.

    Every request may script its answer and its faults in an extra field, `simulate`. Responses are
    kept in memory, the last 1000.
    """
    try:
        uvloop.run(serve(Simulator(**options, keep=0)))
    except OSError as error:
        raise CannotListen(_explain(error, options)) from None


async def serve(simulator: Simulator) -> None:
    """Run until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with simulator:
        click.echo(
            f"simulator: listening; use it with PENSTOCK_UPSTREAM_URL={simulator.url}", err=True
        )
        await stop.wait()


def _explain(error: OSError, options: dict[str, Any]) -> str:
    place = f"{options['host']}:{options['port']}"
    if error.errno == errno.EADDRINUSE:
        return f"{place} is in use; choose another --port, or 0 for a free one"
    return f"cannot listen on {place}: {error.strerror or error}"
