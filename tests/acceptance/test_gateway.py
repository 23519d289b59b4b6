"""Gateways that are killed: what was posted is posted once, and a browser goes on by itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from penstock import Client, Settings
from tests.acceptance.browser import CHROMIUM, REQUIRED, browser, page_server
from tests.gateways import GatewayProcess, http
from tests.integration.feeds import MESSAGES, Speaker
from tests.processes import free_port
from tests.waiting import until

Start = Callable[..., GatewayProcess]


@pytest.fixture
def start(settings: Settings) -> Iterator[Start]:
    """Starts gateways, always on the same port; all end with the test."""
    started: list[GatewayProcess] = []
    port = free_port()

    def start(**environment: str) -> GatewayProcess:
        gateway = GatewayProcess(settings.server_url, port=port, **environment)
        started.append(gateway)
        return gateway.until_ready()

    yield start
    for gateway in started:
        gateway.kill()


KEYS, KILLS = 60, 2
POSTED: list[tuple[str, dict[str, Any]]] = [
    ("/v1/jobs", {"messages": MESSAGES}),
    ("/v1/responses", {"input": "Hello", "background": True}),
]
"""What is posted under every other key."""


def test_a_post_that_is_repeated_through_kills_is_one_job(start: Start, client: Client) -> None:
    """Kill -9 of the gateway under POSTs of both APIs: retried with its key, each is there once."""
    gateway = start()
    answered: dict[str, set[str]] = {f"{number}": set() for number in range(KEYS)}
    lost = threading.Semaphore(0)

    def post(key: str) -> None:
        """Until it is answered, and once more."""
        ids, headers = answered[key], {"Idempotency-Key": key}
        path, body = POSTED[int(key) % len(POSTED)]
        while key not in again:
            try:
                answer = api.post(path, json=body, headers=headers)
            except httpx.TransportError:
                lost.release()
                continue
            assert answer.is_success, answer.text
            if ids:
                again.add(key)
            ids.add(answer.json()["id"].replace("resp_", "job_"))

    again: set[str] = set()
    with http(gateway.url) as api, ThreadPoolExecutor(4) as pool:
        posting = [pool.submit(post, key) for key in answered]
        for kill in range(KILLS):
            share = (kill + 1) * KEYS // (KILLS + 2)
            until(lambda share=share: sum(map(bool, answered.values())) >= share, timeout=60)  # type: ignore[misc]
            gateway.kill()
            assert lost.acquire(timeout=30)
            gateway = start()
        for each in posting:
            each.result(60)
    ids = [id_ for found in answered.values() for id_ in found]
    assert len(ids) == KEYS
    assert sorted(ids) == sorted(record.id for record in client.list(limit=10 * KEYS))


@pytest.mark.skipif(not CHROMIUM and not REQUIRED, reason="there is no Chromium here")
def test_a_browser_follows_is_cut_off_and_comes_back(
    start: Start, client: Client, registered: None, state_dir: Path
) -> None:
    """The example of http-api.md, its gateway killed and replaced: the exact text, once."""
    words = [f"word {number} " for number in range(40)]
    job = client.submit(MESSAGES)
    speaker = Speaker(client, job)
    with page_server() as server:
        gateway = start(PENSTOCK_GATEWAY_ORIGINS=server.origin)
        with http(gateway.url) as api:
            server.events = api.post(f"/v1/jobs/{job.id}/token").json()["events"]
        with browser(f"{server.origin}/?gateway={gateway.url}&job={job.id}", state_dir):
            for word in words[:10]:
                speaker.say(word)
            until(lambda: shown(server.reports) == "".join(words[:10]), timeout=60)
            gateway.kill()
            for word in words[10:20]:
                speaker.say(word)
            start(PENSTOCK_GATEWAY_ORIGINS=server.origin)
            until(lambda: shown(server.reports) == "".join(words[:20]), timeout=60)
            for word in words[20:]:
                speaker.say(word)
            speaker.finish()
            last = until(lambda: [r for r in server.reports if r["done"]], timeout=60)
    assert [(r["text"], r["opened"]) for r in last] == [("".join(words), 2)]


def shown(reports: list[dict[str, str]]) -> str:
    """What the page shows."""
    return max((report["text"] for report in reports), key=len, default="")
