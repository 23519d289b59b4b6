"""What HTTP through the queue costs: chat completions by the gateway, by LiteLLM, and directly."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from typing import Any

import openai
import uvloop

from ops.bench.contender import BIN, Penstock
from ops.bench.latency import PROBE, Ask, Size, sample
from ops.bench.load import MESSAGES, MODEL
from ops.bench.result import Figures, Result, percentile
from ops.bench.rivals import litellm
from ops.bench.stand import BenchmarkError, Stand, free_port

TITLE = "POST /v1/chat/completions, through the queue and through a proxy"

NOT_SHOWN = """\
OpenAI's library asks each of them in the same way, at a fixed rate, whether earlier answers are
there or not, over connections that are kept. "first" is the time to a streamed answer's first word,
"whole" that to a plain answer; "added" is a percentile minus the same percentile of direct calls to
the simulator. Each contender runs by itself, one process of gateway or proxy, Penstock's with one
worker. LiteLLM is a proxy: it has no queue, so a request that is lost with it is lost; it runs
without a database, on its defaults but for its telemetry and its list of prices, which it would
fetch. Not shown: a network in between; many clients; limits that make jobs wait, which is what a
queue is for."""

Door = tuple[str, Callable[[Stand], AbstractContextManager[str]]]
"""A contender's name, and what starts it and gives its base URL."""


FULL = Size(jobs=300, rate=10, background=0)
QUICK = Size(jobs=40, rate=10, background=0)

FIRST = 10
"""Questions one after the other before the rate begins: some import half of themselves then."""


def run(stand: Stand, quick: bool) -> list[Result]:
    """Direct calls, then the gateway, then LiteLLM; a line that says so where that cannot run."""
    size = QUICK if quick else FULL
    stand.reset()
    straight = measured(stand.upstream_url, size)
    results = [_result("direct call", straight, straight)]
    for name, started in doors():
        try:
            with started(stand) as url:
                results.append(_result(name, measured(url, size), straight))
        except litellm.NotInstalled as error:
            results.append(Result("detour", name, {"skipped": str(error)}))
    return results


def doors() -> list[Door]:
    """Ours first."""
    return [("penstock gateway", gateway), (f"litellm proxy {litellm.VERSION}", proxy)]


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
    stand.reset()
    with stand.process(argv, **litellm.ENVIRONMENT):
        url = f"http://127.0.0.1:{port}/v1"
        stand.wait(lambda: _answers(url), "LiteLLM", 120)
        yield url


def measured(url: str, size: Size) -> dict[str, list[float]]:
    """Seconds to each first word, and to each whole answer."""
    return {
        "first": uvloop.run(sample(size, asking(url, first_word))),
        "whole": uvloop.run(sample(size, asking(url, whole_answer))),
    }


@asynccontextmanager
async def asking(url: str, answered: Callable[..., Any]) -> AsyncIterator[Ask]:
    """One client for all questions."""

    async def ask(number: int) -> float:
        began = time.monotonic()
        await answered(client)
        return time.monotonic() - began

    async with openai.AsyncOpenAI(base_url=url, api_key=litellm.KEY, max_retries=0) as client:
        for number in range(FIRST):
            await ask(number)
        yield ask


QUESTION: dict[str, Any] = {
    "model": MODEL, "messages": MESSAGES, "extra_body": {"simulate": PROBE.simulate},
}  # fmt: skip


async def first_word(client: openai.AsyncOpenAI) -> None:
    """Wait for a streamed answer's first word, and leave the rest unread."""
    async with await client.chat.completions.create(**QUESTION, stream=True) as chunks:
        async for chunk in chunks:
            if chunk.choices and chunk.choices[0].delta.content:
                return
    raise BenchmarkError("a stream ended without a word")


async def whole_answer(client: openai.AsyncOpenAI) -> None:
    """Wait for a plain answer."""
    completion = await client.chat.completions.create(**QUESTION)
    if not completion.choices[0].message.content:
        raise BenchmarkError("an answer was empty")


def _answers(url: str) -> bool:
    try:
        with openai.OpenAI(base_url=url, api_key=litellm.KEY, max_retries=0, timeout=5) as client:
            return bool(list(client.models.list()))
    except openai.OpenAIError:
        return False


def _result(name: str, waits: dict[str, list[float]], straight: dict[str, list[float]]) -> Result:
    figures: Figures = {}
    for what, seconds in waits.items():
        for label, share in (("p50", 0.5), ("p99", 0.99)):
            wait = percentile(seconds, share)
            figures[f"{what} {label}, ms"] = round(wait * 1e3, 1)
            added = wait - percentile(straight[what], share)
            figures[f"added to {what} {label}, ms"] = round(added * 1e3, 1)
        figures["answers"] = len(seconds)
    samples = {f"{w}, ms": [round(s * 1e3, 2) for s in seconds] for w, seconds in waits.items()}
    return Result("detour", name, figures, samples)
