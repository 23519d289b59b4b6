"""`penstock top` on real terminals: what it shows, what its keys do, and what it leaves behind."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from ops.local.server import EmbeddedServer
from penstock import AsyncClient, Client, JobState, Settings, attendance
from tests.integration.feeds import MESSAGES, Speaker
from tests.terminal import CommandLine, Terminal, on_a_terminal

SHOWN = "\x1b[?1049h"
LEFT, CURSOR = "\x1b[?1049l", "\x1b[?25h"
"""To the terminal's other screen, back from it, and the cursor that was hidden there."""

Watch = Callable[..., AbstractContextManager[Terminal]]


@pytest.fixture
def watch(settings: Settings, registered: None) -> Watch:
    """`penstock top` on a terminal of 80 by 24, on a server with a route."""

    def watch(**environment: str) -> AbstractContextManager[Terminal]:
        given = {"PENSTOCK_REDIS_URL": settings.server_url, "COLUMNS": "80", "LINES": "24"}
        return on_a_terminal("top", **{**given, **environment})

    return watch


def screen(terminal: Terminal) -> str:
    """The last whole picture, without its colours."""
    pictures = terminal.text.split("\x1b[H")
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", pictures[-2] if len(pictures) > 1 else "")


def speak(client: Client, text: str, **fields: str) -> Speaker:
    """A job that runs and has said this."""
    speaker = Speaker(client, client.submit(MESSAGES, **fields))
    speaker.say(text)
    return speaker


def test_it_shows_jobs_with_their_last_words_and_failures_with_their_reason(
    watch: Watch, client: Client
) -> None:
    """Words come as they are said; what a terminal would obey is not passed on."""
    said = attendance.attend("w@here", ["default"], version="1", concurrency=9, streams=2)
    client.store.run(said)
    speaker = speak(client, "first words ", tenant="acme")
    speak(client, "x").fail()
    with watch() as terminal:
        terminal.until(lambda _: "first words" in screen(terminal))
        speaker.say("and \x1b[31mred\x07 \u202eones")
        terminal.until(lambda _: "first words and [31mred ones" in screen(terminal))
        shown = screen(terminal)
        terminal.type("q")
        assert terminal.wait() == 0
    assert "\x1b[31mred" not in terminal.text
    assert not {"\x07", "\u202e"} & set(terminal.text)
    lines = shown.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    for text in ("1 worker ", "w@here", "2/9", "acme", "default", "ok", "FAILED"):
        assert text in shown
    assert shown.partition("FAILED")[2].splitlines()[1].rstrip().endswith(" no")


def test_its_keys_choose_cancel_and_run_again(watch: Watch, client: Client) -> None:
    """Each after a question that only y answers; a job that cannot be is told about."""
    running, failed = speak(client, "going on"), speak(client, "x")
    failed.fail()
    with watch() as terminal:
        terminal.until(lambda _: "going on" in screen(terminal))
        terminal.type("c")
        terminal.until(lambda _: "choose a job" in screen(terminal))
        terminal.type("j")
        terminal.until(lambda _: f"{running.id}   " in screen(terminal))
        terminal.type("c")
        terminal.until(lambda _: f"cancel {running.id}? (y/n)" in screen(terminal))
        terminal.type("n")
        terminal.until(lambda _: "(y/n)" not in screen(terminal))
        assert client.get(running.id).cancel_reason is None
        terminal.type("cy")
        terminal.until(lambda _: f"{running.id} is being stopped" in screen(terminal))
        assert client.get(running.id).cancel_reason
        terminal.type("ry")
        terminal.until(lambda _: "only a failed job can be run again" in screen(terminal))
        terminal.type("\x1b[B")
        terminal.until(lambda _: f"{failed.id}   " in screen(terminal))
        terminal.type("cy")
        terminal.until(lambda _: f"{failed.id} is failed already" in screen(terminal))
        terminal.type("ry")
        terminal.until(lambda _: f"{failed.id} is queued again" in screen(terminal))
        assert client.get(failed.id).state == JobState.ADMITTED
        terminal.type("\x1b[Aq")
        assert terminal.wait() == 0


def by_signal(number: signal.Signals) -> Callable[[Terminal], None]:
    """Send it."""
    return lambda terminal: os.kill(terminal.pid, number)


def by_key(key: str) -> Callable[[Terminal], None]:
    """Press it."""
    return lambda terminal: terminal.type(key)


@pytest.mark.parametrize(
    ("leave", "status"),
    [
        (by_key("q"), 0),
        (by_key("\x03"), 0),
        (by_signal(signal.SIGTERM), 143),
        (by_signal(signal.SIGHUP), 129),
    ],
    ids=["q", "ctrl-c", "term", "hup"],
)
def test_the_terminal_is_as_it_was_whichever_way_it_ends(
    watch: Watch, leave: Callable[[Terminal], None], status: int
) -> None:
    """The shell's own screen, with its cursor, and what is typed shows again."""
    with watch() as terminal:
        terminal.until(lambda text: "q quit" in text)
        assert not terminal.is_usual
        terminal.type("\x1a")  # Ctrl-Z, which would leave our picture there
        leave(terminal)
        assert terminal.wait() == status
        assert terminal.is_usual
    assert terminal.text.index(SHOWN) < terminal.text.rindex(LEFT)
    assert terminal.text.rindex("\x1b[?25l") < terminal.text.rindex(CURSOR)
    assert "Traceback" not in terminal.text


@pytest.fixture
def own_server(state_dir: Path) -> Iterator[EmbeddedServer]:
    """A server that a test may stop."""
    with EmbeddedServer(state_dir) as server:
        yield server


def test_a_server_that_goes_away_is_waited_for(watch: Watch, own_server: EmbeddedServer) -> None:
    """The last picture stays, and says so; q works all the same."""
    with watch(PENSTOCK_REDIS_URL=own_server.url) as terminal:
        terminal.until(lambda text: "q quit" in text)
        own_server.stop()
        terminal.until(lambda _: "cannot reach Redis" in screen(terminal))
        terminal.type("q")
        assert terminal.wait() == 0
        assert terminal.is_usual


def test_it_can_be_printed_once(cli: CommandLine, registered: None, client: Client) -> None:
    """In a pipe, with whole ids and the words so far; an empty server is no error."""
    assert cli("top").status == 0
    job = speak(client, "so far")
    said = cli("top", "--once")
    assert (said.status, said.err) == (0, "")
    assert re.search(rf"{job.id} default +default +[0-9.]+ s so far", said.out)
    assert "\x1b" not in said.out


async def test_the_asynchronous_client_knows_it_too(
    settings: Settings, registered: None, client: Client
) -> None:
    """`overview` and `workers` of both clients are the same."""
    job = client.submit(MESSAGES, tenant="acme")
    client.store.run(
        attendance.attend("w@here", ["default"], version="1", concurrency=9, streams=0)
    )
    async with AsyncClient(settings) as asynchronous:
        first = await asynchronous.overview()
        second = await asynchronous.overview(first)
        assert await asynchronous.workers() == client.workers() == second.workers
    assert [job.id for job in second.glance.jobs] == [job.id]
    assert (first.surveys, [s.route for s in second.surveys]) == ([], ["default"])
    assert [tenant.name for tenant in client.overview(second).glance.tenants] == ["acme"]
