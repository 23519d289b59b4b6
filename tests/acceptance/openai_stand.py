"""What OpenAI's own library talks to: the gateway with all that is behind it, or the simulator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import openai

from ops.local.server import EmbeddedServer
from ops.simulator import Answer, Script, SimulatorThread, predict
from penstock import Client, Settings
from tests.gateways import GatewayThread
from tests.processes import WorkerProcess

MODEL = "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B"
MESSAGES: list[Any] = [{"role": "user", "content": "Why is the sky blue?"}]
TOOLS: list[Any] = [{"type": "function", "function": {"name": "look", "parameters": {}}}]


class Stand(NamedTuple):
    """Everything that runs."""

    simulator: SimulatorThread
    gateway: GatewayThread
    client: Client

    def base_url(self, door: str) -> str:
        """Where the library asks: through the `queue`, or the upstream `direct`ly."""
        return f"{self.gateway.url}/v1" if door == "queue" else self.simulator.url


@contextmanager
def standing(directory: Path) -> Iterator[Stand]:
    """A server, the simulator, a worker and a gateway."""
    with EmbeddedServer(directory / "server") as server, SimulatorThread() as simulator:
        settings = Settings.load(redis_url=server.url, upstream_url=simulator.url)
        worker = WorkerProcess(server.url, (), {"PENSTOCK_UPSTREAM_URL": simulator.url})
        try:
            worker.until_ready()
            with GatewayThread(settings) as gateway, Client(settings) as client:
                yield Stand(simulator, gateway, client)
        finally:
            worker.kill()


def asked(script: Script | None = None, *, tries: int = 1, **fields: Any) -> dict[str, Any]:
    """A question for either door; the simulator does not know of attempts."""
    more = {"max_attempts": tries, **({} if script is None else {"simulate": script.as_dict()})}
    return {"model": MODEL, "messages": MESSAGES, "extra_body": more, **fields}


def expected(script: Script | None = None, **fields: Any) -> Answer:
    """What the simulator says to that question."""
    return predict({"model": MODEL, "messages": MESSAGES, **fields}, script=script)


def library(base_url: str, **options: Any) -> openai.OpenAI:
    """OpenAI's library as it is; it does not ask again, so that each answer is seen."""
    return openai.OpenAI(base_url=base_url, api_key="any", max_retries=0, timeout=30, **options)


def awaiting_library(base_url: str) -> openai.AsyncOpenAI:
    """The same for asyncio."""
    return openai.AsyncOpenAI(base_url=base_url, api_key="any", max_retries=0, timeout=30)
