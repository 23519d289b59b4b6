"""The simulator's responses over real connections: what it counts, keeps and refuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from ops.simulator import Fault, Script, Simulator, responses

QUESTION: dict[str, Any] = {"model": "m", "input": "Why?"}


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """A simulator without limits or pacing."""
    async with Simulator() as running:
        yield running


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[httpx.AsyncClient]:
    """A client of it."""
    async with httpx.AsyncClient(base_url=simulator.url, timeout=10) as session:
        yield session


async def begin(client: httpx.AsyncClient, script: Script, **fields: Any) -> Any:
    """Ask for a response in the background; the path of it."""
    body = {**QUESTION, "background": True, "simulate": script.as_dict(), **fields}
    answer = await client.post("/responses", json=body)
    return f"/responses/{answer.json()['id']}"


async def test_a_background_response_is_in_flight_until_its_end(
    simulator: Simulator, client: httpx.AsyncClient
) -> None:
    """Whoever reads it; the limit of concurrency counts it, and its tokens are counted once."""
    simulator.limits.concurrency = 1
    path = await begin(client, Script(tokens=5, ttft=0.15))
    assert simulator.stats.in_flight == 1
    assert (await client.post("/responses", json=QUESTION)).status_code == 429
    await client.get(path, params={"stream": True})
    await simulator.until(lambda stats: stats.completed == 1)
    assert (simulator.stats.in_flight, simulator.stats.tokens) == (0, 5)
    assert (await client.post("/responses", json=QUESTION)).status_code == 200


async def test_cancelling_ends_streams_at_once(
    simulator: Simulator, client: httpx.AsyncClient
) -> None:
    """However long the next token would have taken; it is in flight no more."""
    path = await begin(client, Script(tokens=5, ttft=600))
    reader = asyncio.ensure_future(client.get(path, params={"stream": True}))
    async with client.stream("GET", path, params={"stream": True}) as other:
        lines = other.aiter_lines()
        while await anext(lines) != "event: response.in_progress":
            pass
        answer = await client.post(f"{path}/cancel")
    assert answer.json()["status"] == "cancelled"
    assert "event: response.incomplete" in (await reader).text
    assert (simulator.stats.in_flight, simulator.stats.aborted_by_client) == (0, 1)


async def test_only_the_last_are_kept(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older one is not there any more."""
    monkeypatch.setattr(responses, "KEPT", 2)
    paths = [await begin(client, Script(tokens=1)) for _ in range(3)]
    assert [(await client.get(path)).status_code for path in paths] == [404, 200, 200]


@pytest.mark.parametrize(
    ("method", "path", "sent", "status"),
    [
        ("POST", "/responses", b"no json", 400),
        ("POST", "/responses", b"[]", 400),
        ("POST", "/responses", b'{"input":"x","simulate":{"tokenz":1}}', 400),
        ("GET", "/responses", b"", 405),
        ("DELETE", "/responses/resp_0", b"", 405),
        ("GET", "/responses/resp_0/cancel", b"", 405),
        ("GET", "/responses/resp_0?stream=perhaps", b"", 400),
        ("GET", "/responses/resp_0?starting_after=x", b"", 400),
        ("POST", "/responses/resp_0/cancel?stream=true", b"", 400),
    ],
)
async def test_errors_have_openais_shape(
    client: httpx.AsyncClient, method: str, path: str, sent: bytes, status: int
) -> None:
    """Each of them."""
    answer = await client.request(method, path, content=sent)
    assert answer.status_code == status
    assert answer.json()["error"].keys() == {"message", "type", "param", "code"}


async def test_a_wrong_token_is_refused() -> None:
    """On each path, in OpenAI's shape."""
    guarded = Simulator(token="right")  # noqa: S106 - there is no secret
    async with guarded, httpx.AsyncClient() as client:
        for method, path in (("POST", ""), ("GET", "/resp_0"), ("POST", "/resp_0/cancel")):
            answer = await client.request(method, f"{guarded.url}/responses{path}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


async def test_faults_of_the_request_strike_the_request(client: httpx.AsyncClient) -> None:
    """No answer, and a web page."""
    script = Script(fault=Fault(kind="refuse"))
    with pytest.raises(httpx.HTTPError):
        await client.post("/responses", json={**QUESTION, "simulate": script.as_dict()})
    script = Script(fault=Fault(kind="html"))
    answer = await client.post("/responses", json={**QUESTION, "simulate": script.as_dict()})
    assert answer.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("kind", ["slow_headers", "slow_first_token"])
async def test_a_slow_one_begins_at_once_and_answers_later(
    client: httpx.AsyncClient, kind: Any
) -> None:
    """The response is there, its first word is not."""
    path = await begin(client, Script(tokens=3, fault=Fault(kind=kind, seconds=600)))
    assert (await client.get(path)).json()["status"] == "in_progress"


async def test_a_fault_for_the_first_attempts_is_over_after_them(client: httpx.AsyncClient) -> None:
    """Counted by the script's key, as for chat completions."""
    script = Script(tokens=3, fault=Fault(kind="status", status=503), attempts=1, key="once")
    body = {**QUESTION, "simulate": script.as_dict()}
    statuses = [(await client.post("/responses", json=body)).status_code for _ in range(2)]
    assert statuses == [503, 200]
