"""Jobs through the gateways of a composition, and what every role of its Redis is refused."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import signal
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
import redis

from penstock.state import TERMINAL
from tests.acceptance.composed import Composition
from tests.acceptance.figures import quantile
from tests.acceptance.fleet import until
from tests.refusals import outside, taken
from tests.roles import granted

TENANTS = 10
AT_A_TIME = 40
"""Requests under way: as a few dozen clients would send them."""

PAGE = 100
ENDED = set(map(str, TERMINAL))
KEPT = os.environ.get("COMPOSE_RESULT")
"""A file for the figures, where somebody wants to keep them."""

WATCHED = os.environ.get("COMPOSE_PROMETHEUS")
"""A folder for Prometheus's data, where somebody wants to draw pictures of the run."""

CONFIG = """
[tenants.t0]
budget_day = 0.05
[tenants.t1]
budget_day = 0.1
budget_month = 2
"""
"""Two tenants have a budget that their jobs do not spend."""


@dataclass
class Figures:
    """What came of a run.

    Attributes:
        submitted: jobs accepted over HTTP, each once.
        limited: requests answered 429 and sent again, as their Retry-After says.
        states, attempts: of the jobs at the end, over HTTP.
        submit_seconds, finish_seconds: until all were accepted, and all had ended.
        accept_p50, accept_p99: seconds of a request.
        exits: statuses of workers and gateways after SIGTERM.
        refused: by role, how many commands it was refused; `taken`: those it was not.
    """

    gateways: int
    workers: int
    submitted: int = 0
    limited: int = 0
    submit_seconds: float = 0
    finish_seconds: float = 0
    accept_p50: float = 0
    accept_p99: float = 0
    states: dict[str, int] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    exits: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    taken: dict[str, list[str]] = field(default_factory=dict)


async def run(directory: Path, *, jobs: int, gateways: int, workers: int) -> Figures:
    """Start it all, run the jobs, try the roles, stop it; the figures."""
    figures = Figures(gateways, workers)
    composition = Composition(directory, CONFIG)
    try:
        composition.start_redis()
        await until(lambda: _answers(composition), "Redis")
        composition.start_all(gateways, workers)
        keys = [composition.make_key(f"t{number}") for number in range(TENANTS)]
        await _listening(composition.gateways)
        if WATCHED:
            composition.watch(Path(WATCHED))
        await _work(composition.gateways, keys, jobs, figures)
        _try_roles(composition, figures)
        figures.exits = await composition.stop()
        if WATCHED:
            composition.programs["prometheus-0"].signal(signal.SIGTERM)
            await composition.programs["prometheus-0"].ended()
    finally:
        composition.kill()
    _keep(figures)
    return figures


def _answers(composition: Composition) -> bool:
    with redis.Redis.from_url(composition.url("operator")) as operator:
        try:
            return bool(operator.ping())
        except redis.ConnectionError:
            return False


async def _listening(urls: list[str]) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        for url in urls:
            async with asyncio.timeout(60):
                while True:
                    try:
                        await http.get(f"{url}/v1/openapi.json")
                        break
                    except httpx.TransportError:
                        await asyncio.sleep(0.05)


async def _work(urls: list[str], keys: list[str], jobs: int, figures: Figures) -> None:
    began = time.monotonic()
    turns = iter(range(jobs))  # shared: whoever is free takes the next
    seconds: list[float] = []
    limits = httpx.Limits(max_connections=AT_A_TIME)
    async with httpx.AsyncClient(trust_env=False, timeout=60, limits=limits) as http:

        async def client() -> None:
            for number in turns:
                seconds.append(await _submit(http, urls, keys, number, figures))

        await asyncio.gather(*(client() for _ in range(AT_A_TIME)))
        figures.submitted = len(seconds)
        figures.submit_seconds = round(time.monotonic() - began, 1)
        figures.accept_p50, figures.accept_p99 = (
            round(quantile(sorted(seconds), q), 4) for q in (0.5, 0.99)
        )
        await _until_all_ended(http, urls[0], keys, figures)
    figures.finish_seconds = round(time.monotonic() - began, 1)


async def _submit(
    http: httpx.AsyncClient, urls: list[str], keys: list[str], number: int, figures: Figures
) -> float:
    """One job; how long its accepted request took."""
    headers = {
        "Authorization": f"Bearer {keys[number % len(keys)]}",
        "Idempotency-Key": f"job-{number}",
    }
    body = {"messages": [{"role": "user", "content": f"number {number}"}], "max_tokens": 60}
    while True:
        began = time.monotonic()
        url = f"{urls[number % len(urls)]}/v1/jobs"
        answer = await http.post(url, headers=headers, json=body)
        if answer.status_code == 202:
            return time.monotonic() - began
        assert answer.status_code == 429, answer.text
        figures.limited += 1
        await asyncio.sleep(float(answer.headers["Retry-After"]))


async def _until_all_ended(
    http: httpx.AsyncClient, url: str, keys: list[str], figures: Figures
) -> None:
    """Ask for each tenant's jobs until none is under way; notes their states at the end."""
    async with asyncio.timeout(400):
        while True:
            records = [record for key in keys for record in await _listed(http, url, key)]
            states = Counter(record["state"] for record in records)
            if set(states) <= ENDED:
                break
            await asyncio.sleep(2)
    figures.states = dict(states)
    figures.attempts = dict(Counter(str(record["attempt"]) for record in records))


async def _listed(http: httpx.AsyncClient, url: str, key: str) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    after: str | None = None
    headers = {"Authorization": f"Bearer {key}"}
    while True:
        asked = {"limit": PAGE, **({"after": after} if after else {})}
        answer = await http.get(f"{url}/v1/jobs", headers=headers, params=asked)
        if answer.status_code == 429:
            await asyncio.sleep(float(answer.headers["Retry-After"]))
            continue
        page = answer.json()
        records += page["data"]
        after = page["next"]
        if after is None:
            return records


def _try_roles(composition: Composition, figures: Figures) -> None:
    """Each role tries what is not on its list, on the server that has all the jobs."""
    for role in granted():
        if role not in ("default", "operator"):
            untried = outside(role, composition.url("operator"))
            figures.taken[role] = taken(composition.url(role), untried)
            figures.refused[role] = len(untried) - len(figures.taken[role])


def _keep(figures: Figures) -> None:
    about = {"cores": os.cpu_count(), "python": platform.python_version()}
    text = json.dumps({**about, **asdict(figures)}, indent=1)
    print(text)  # noqa: T201 - the figures are what `make chaos` is for
    if KEPT:
        Path(KEPT).write_text(f"{text}\n")
