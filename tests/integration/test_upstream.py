"""The upstream client where there is no upstream."""

from __future__ import annotations

import re
import socket
from contextlib import ExitStack, closing

import pytest

from ops.simulator import SimulatorThread
from penstock.errors import ConnectFailed, TimedOut
from penstock.settings import Route, Timeouts
from penstock.trace import Carrier
from tests.processes import free_port
from worker.upstream.client import Upstream


class Nobody:
    """A sink that nothing is for."""

    begun = False
    done = False

    def receive(self, data: bytes) -> None:
        raise AssertionError(data)

    async def turn(self) -> None:
        raise AssertionError


def route(port: int) -> Route:
    timeouts = Timeouts(connect=0.3)
    return Route(url=f"http://127.0.0.1:{port}/v1", model="m", timeouts=timeouts)


async def test_nobody_listens() -> None:
    """A refused connection is a ConnectFailed, which may be tried again."""
    upstream = Upstream()
    with pytest.raises(ConnectFailed) as failure:
        await upstream.stream(route(free_port()), b"{}", 10, Nobody())
    assert failure.value.retryable
    await upstream.close()


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/v1",
        "http://llm.corp.invalid:8443/v1",
        "http://[::1/v1",
        "ftp://llm.corp/",
    ],
)
async def test_a_jobs_error_names_no_host(url: str) -> None:
    """Whoever submits a job is not told where its upstream is; whoever runs the worker is."""
    upstream = Upstream()
    asked = Route.model_construct(url=url, model="m", token=None, timeouts=Timeouts(connect=0.3))
    with pytest.raises(ConnectFailed) as failure:
        await upstream.stream(asked, b"{}", 10, Nobody())
    told = str(failure.value.as_dict())
    assert not re.search(r"corp|127|::1|8443|ftp", told), told
    assert failure.value.detail
    await upstream.close()


async def test_nobody_accepts() -> None:
    """A connection that is not made within `timeouts.connect` is given up, and says so."""
    upstream = Upstream()
    with ExitStack() as stack:
        listener = stack.enter_context(closing(socket.socket()))
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(4):  # fill the queue of those who wait to be accepted
            waiting = stack.enter_context(closing(socket.socket()))
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        with pytest.raises(TimedOut) as failure:
            await upstream.stream(route(port), b"{}", 10, Nobody())
    assert (failure.value.code, failure.value.retryable) == ("connect", True)
    await upstream.close()


class Anybody(Nobody):
    """A sink that takes what comes."""

    def receive(self, data: bytes) -> None:
        self.begun = True

    async def turn(self) -> None:
        return


async def test_an_upstream_is_told_of_a_trace_only_where_that_is_wanted(
    simulator: SimulatorThread,
) -> None:
    """Traceparent and tracestate are sent to an upstream with `trace_upstream`, else neither."""
    body = b'{"messages":[{"role":"user","content":"m"}],"stream":true,"simulate":{"tokens":1}}'
    for tells in (False, True):
        upstream, asked = Upstream(tells_trace=tells), Route(url=simulator.url, model="m")
        await upstream.stream(asked, body, 10, Anybody(), Carrier("parent", "state=1"))
        await upstream.close()
    untold, told = simulator.simulator.received
    assert not {"traceparent", "tracestate"} & set(untold.headers)
    assert (told.headers["traceparent"], told.headers["tracestate"]) == ("parent", "state=1")
