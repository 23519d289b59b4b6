"""What HTTP through the queue costs: chat completions by the gateway, by LiteLLM, and directly."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from typing import Any

import openai
import uvloop

from ops.bench.contender import BIN, Penstock
from ops.bench.latency import PROBE, WARM_UP, Ask, Size, sample
from ops.bench.load import MESSAGES, MODEL
from ops.bench.result import Figures, Result, percentile
from ops.bench.rivals import litellm
from ops.bench.server import free_port
from ops.bench.stand import BenchmarkError, Stand

TITLE = "POST /v1/chat/completions, through the queue and through a proxy"

NOT_SHOWN = """\
OpenAI's library asks one after the other, at a fixed rate, whether earlier answers are there or
not, over connections that are kept; so whoever else uses the machine disturbs all alike. "first" is
the time to a streamed answer's first word, "whole" that to a plain answer; "added" is a percentile
minus the same percentile of direct calls to the simulator. One process of gateway or proxy each,
and one worker. LiteLLM is a proxy: it has no queue, so a request that is lost with it is lost; it
runs without a database, on its defaults but for its telemetry and its list of prices, which it
would fetch. Not shown: a network in between; many clients; limits that make jobs wait, which is
what a queue is for."""

DIRECT = "direct call"
LITELLM = f"litellm proxy {litellm.VERSION}"

Answered = Callable[[openai.AsyncOpenAI], Awaitable[float]]
"""Asks, and tells when it was answered."""

Waits = dict[str, list[float]]
"""Seconds by contender."""

FULL = Size(jobs=600, rate=15, background=0)
QUICK = Size(jobs=60, rate=15, background=0)

FIRST = 10
"""Questions one after the other before the rate begins: some import half of themselves then."""


def run(stand: Stand, quick: bool) -> list[Result]:
    """Direct calls, the gateway and LiteLLM in turns; a line that says so where that cannot run."""
    size, urls, skipped = QUICK if quick else FULL, {DIRECT: stand.upstream_url}, []
    with ExitStack() as stack:
        for name, started in {"penstock gateway": gateway, LITELLM: proxy}.items():
            try:
                urls[name] = stack.enter_context(started(stand))
            except litellm.NotInstalled as error:
                skipped.append(Result("detour", name, {"skipped": str(error)}))
        kinds = {"first": first_word, "whole": whole_answer}
        waits = {what: uvloop.run(in_turns(urls, kind, size)) for what, kind in kinds.items()}
    return [*(_result(name, waits) for name in urls), *skipped]


@contextmanager
def gateway(stand: Stand) -> Iterator[str]:
    """A worker and a gateway, without any API key."""
    contender, port = Penstock(stand), free_port()
    argv = [str(BIN / "penstock"), "gateway", "--port", str(port)]
    with contender.started(500), stand.process(argv, **contender.environment(500)):
        url = f"http://127.0.0.1:{port}/v1"
        stand.wait(lambda: _answers(url), "the gateway", 30)
        yield url


@contextmanager
def proxy(stand: Stand) -> Iterator[str]:
    """LiteLLM's proxy, from a virtual environment of its own."""
    program, port = litellm.install(), free_port()
    config = stand.directory / "litellm.yaml"
    config.write_text(litellm.config(stand.upstream_url, MODEL))
    argv = [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    with stand.process(argv, **litellm.ENVIRONMENT):
        url = f"http://127.0.0.1:{port}/v1"
        stand.wait(lambda: _answers(url), "LiteLLM", 120)
        yield url


async def in_turns(urls: dict[str, str], answered: Answered, size: Size) -> Waits:
    """Ask at the rate, each address in its turn."""

    @asynccontextmanager
    async def turns() -> AsyncIterator[Ask]:
        async with AsyncExitStack() as stack:
            doors = [
                await stack.enter_async_context(asking(url, answered)) for url in urls.values()
            ]
            yield lambda number: doors[number % len(doors)](number)

    waits = await sample(size, turns())
    return {name: waits[at :: len(urls)] for at, name in _in_order(urls)}


def _in_order(urls: dict[str, str]) -> list[tuple[int, str]]:
    """Where each one's first wait stands, behind the warm-up."""
    return [((at - WARM_UP) % len(urls), name) for at, name in enumerate(urls)]


@asynccontextmanager
async def asking(url: str, answered: Answered) -> AsyncIterator[Ask]:
    """One client for all questions."""

    async def ask(number: int) -> float:
        began = time.monotonic()
        return await answered(client) - began

    async with openai.AsyncOpenAI(base_url=url, api_key=litellm.KEY, max_retries=0) as client:
        for number in range(FIRST):
            await ask(number)
        yield ask


QUESTION: dict[str, Any] = {
    "model": MODEL, "messages": MESSAGES, "extra_body": {"simulate": PROBE.simulate},
}  # fmt: skip


async def first_word(client: openai.AsyncOpenAI) -> float:
    """When a streamed answer's first word came; the rest is read, or its job would be cancelled."""
    came = 0.0
    async for chunk in await client.chat.completions.create(**QUESTION, stream=True):
        if not came and chunk.choices and chunk.choices[0].delta.content:
            came = time.monotonic()
    if not came:
        raise BenchmarkError("a stream ended without a word")
    return came


async def whole_answer(client: openai.AsyncOpenAI) -> float:
    """When a plain answer came."""
    completion = await client.chat.completions.create(**QUESTION)
    if not completion.choices[0].message.content:
        raise BenchmarkError("an answer was empty")
    return time.monotonic()


def _answers(url: str) -> bool:
    try:
        with openai.OpenAI(base_url=url, api_key=litellm.KEY, max_retries=0, timeout=5) as client:
            return bool(list(client.models.list()))
    except openai.OpenAIError:
        return False


def _result(name: str, waits: dict[str, Waits]) -> Result:
    figures: Figures = {}
    for what, by_name in waits.items():
        for label, share in (("p50", 0.5), ("p99", 0.99)):
            wait = percentile(by_name[name], share)
            figures[f"{what} {label}, ms"] = round(wait * 1e3, 1)
            added = wait - percentile(by_name[DIRECT], share)
            figures[f"added to {what} {label}, ms"] = round(added * 1e3, 1)
        figures["answers"] = len(by_name[name])
    samples = {
        f"{what}, ms": [round(wait * 1e3, 2) for wait in by_name[name]]
        for what, by_name in waits.items()
    }
    return Result("detour", name, figures, samples)
