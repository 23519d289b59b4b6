"""`penstock routes`: the table of routes, on a real server."""

from __future__ import annotations

import json
import re

import pytest

from penstock import AsyncClient, Client, Settings, attendance, commands, keys
from penstock.commands import Feedback
from penstock.settings import RouteOverrides, Tenant
from penstock.store import Store
from tests.terminal import CommandLine, on_a_terminal
from tests.waiting import until
from worker.dispatch import CELERY_VERSION, render_template

MESSAGES = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def busy(settings: Settings, store: Store, client: Client) -> None:
    """A route with all of its three jobs at a time, and seven that wait; and an idle one."""
    default = RouteOverrides(concurrency=3, requests_per_minute=600, tokens_per_minute=100_000)
    idle = RouteOverrides(model="idle-model")
    changed = settings.applying({"default": default, "idle": idle}, {"b": Tenant(concurrency=1)})
    routes = changed.resolved_routes
    store.run(commands.register(render_template(), CELERY_VERSION, routes, changed.tenants))
    for tenant in ["a"] * 6 + ["b"] * 4:
        client.submit(MESSAGES, tenant=tenant)


def columns(table: str) -> dict[str, dict[str, str]]:
    """The rows of a table by their first cell, each by the names above."""
    head, *rows = table.partition("LONGEST LINES")[0].splitlines()
    starts = [match.start() for match in re.finditer(r"\S+(?: \S+)*", head)]
    assert starts[0] == 0
    names = re.findall(r"\S+(?: \S+)*", head)
    cells = [re.split(r" {2,}", row) for row in rows]
    return {row[0]: dict(zip(names, row, strict=False)) for row in cells}


def test_the_table_shows_use_lines_and_limits(cli: CommandLine, busy: None) -> None:
    """In a pipe it is printed once: what runs of what may, what waits and whose it is."""
    said = cli("routes")
    assert (said.status, said.err) == (0, "")
    table = columns(said.out)
    assert list(table) == ["default", "idle"]
    row = table["default"]
    assert (row["STATE"], row["WAITING"], row["IN USE"]) == ("no worker", "7", "3/3")
    assert row["REQ/MIN"] == "3/600"
    assert row["TOK/MIN"].endswith("/100k")
    assert int(row["TOK/MIN"].partition("/")[0]) > 0
    assert "default        b 4, a 3" in said.out.partition("LONGEST LINES")[2]
    assert table["idle"]["IN USE"] == "0/200"


def test_json_is_one_object_a_route(cli: CommandLine, busy: None) -> None:
    """Programs read the same, whole."""
    rows = [json.loads(line) for line in cli("routes", "--json").out.splitlines()]
    default, idle = rows
    assert (default["route"], default["in_use"], default["allowed"]) == ("default", 3, 3)
    assert sum(default["tenants"].values()) == default["waiting"] == 7
    assert (idle["route"], idle["model"], idle["waiting"]) == ("idle", "idle-model", 0)


def test_a_route_that_was_pushed_back_shows_it(cli: CommandLine, busy: None, store: Store) -> None:
    """For how long nothing is admitted."""
    (message, *_) = store.redis.lrange(keys.queue("default"), -1, -1)
    job = re.search(r"job_[0-9A-Z]{26}", message.decode())
    assert job is not None
    claimed = store.run(commands.claim(job[0], "holder"))
    assert isinstance(claimed, commands.Claim)
    pushed_back = Feedback("busy", 30.0)
    store.run(commands.requeue(job[0], claimed.holder, "test", 0, "retry", None, pushed_back))
    attend(store, "default")
    row = columns(cli("routes", "--once").out)["default"]
    assert re.fullmatch(r"paused (2\d|30)s", row["STATE"])


def test_a_route_that_no_worker_serves_shows_it(cli: CommandLine, busy: None, store: Store) -> None:
    """Once the last one has left, or is silent; those that serve others do not count."""
    attend(store, "default")
    table = columns(cli("routes").out)
    assert (table["default"]["STATE"], table["idle"]["STATE"]) == ("ok", "no worker")
    store.run(attendance.depart("worker@here"))
    assert columns(cli("routes").out)["default"]["STATE"] == "no worker"
    attend(store, "idle", gone=0.001)
    until(lambda: columns(cli("routes").out)["idle"]["STATE"] == "no worker")
    assert store.run(attendance.muster()) == []


def attend(store: Store, *routes: str, gone: float | None = None) -> None:
    """As if a worker of these routes were there."""
    said = attendance.attend("worker@here", routes, version="0.1.0", concurrency=5, streams=0)
    if gone is not None:
        name, _, *rest = said.arguments
        said = said._replace(arguments=[name, gone, *rest])
    store.run(said)


def test_the_table_fits_a_terminal_of_80_columns(settings: Settings, store: Store) -> None:
    """With long names and large limits no line is longer, and nothing is cut but a name."""
    name = "a-route-with-a-name-that-is-as-long-as-names-may-be-and-that-is-64"
    wide = RouteOverrides(concurrency=20_000, requests_per_minute=10**6, tokens_per_minute=10**8)
    routes = settings.applying({name[:64]: wide, "default": wide}, {}).resolved_routes
    store.run(commands.register(render_template(), CELERY_VERSION, routes, {}))
    arguments = {"PENSTOCK_REDIS_URL": settings.server_url, "COLUMNS": "80", "LINES": "24"}
    with on_a_terminal("routes", "--once", **arguments) as terminal:
        assert terminal.wait() == 0
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in terminal.text.splitlines()]
    assert len(lines) == 3
    assert max(map(len, lines)) <= 80
    assert lines[1].startswith("a-route-with")
    for line in lines[1:]:
        assert {"worker", "0/20k", "0/1.0M", "0/100.0M"} <= set(line.split())


def test_without_any_route_it_says_so(cli: CommandLine) -> None:
    """An empty server is no error, and stdout stays empty."""
    said = cli("routes")
    assert (said.status, said.out) == (0, "")
    assert "no route has had a worker" in said.err


def test_a_terminal_shows_it_live(settings: Settings, busy: None, client: Client) -> None:
    """The table is drawn again as things change, until Ctrl-C, which is no failure."""
    with on_a_terminal("routes", PENSTOCK_REDIS_URL=settings.server_url, COLUMNS="80") as terminal:
        terminal.until(lambda text: "3/3" in text and "LONGEST LINES" in text)
        client.submit(MESSAGES, tenant="late")
        terminal.until(lambda text: "late 1" in text)
        terminal.type("\x03")
        assert terminal.wait() == 0
    assert "Traceback" not in terminal.text


def test_a_server_out_of_reach_is_status_3(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, no traceback; for the table and for apply."""
    monkeypatch.setenv("PENSTOCK_REDIS_URL", "redis://127.0.0.1:1/0")
    said = cli("routes")
    assert said.status == 3
    assert len(said.err.splitlines()) == 1


async def test_the_asynchronous_client_knows_it_too(settings: Settings, busy: None) -> None:
    """`surveys` and `apply` of both clients are the same."""
    async with AsyncClient(settings) as client:
        assert [survey.route for survey in await client.surveys()] == ["default", "idle"]
        assert await client.apply() == 0
        assert (await client.surveys())[0].configured == 200
