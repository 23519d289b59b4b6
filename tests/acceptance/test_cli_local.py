"""`penstock demo` and `penstock up`: everything in one command, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ops.local.server import EmbeddedServer
from ops.simulator import SimulatorThread
from penstock import Client, JobState, Settings
from tests.forks import PENSTOCK
from tests.gateways import http
from tests.terminal import on_a_terminal
from tests.waiting import until


def processes_of(directory: Path) -> list[int]:
    """The processes that know of this directory by their arguments or environment, ours apart."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue  # it has just ended, or is none of ours
        if str(directory).encode() in told and int(process.name) != os.getpid():
            found.append(int(process.name))
    return found


@pytest.fixture
def directory(state_dir: Path) -> Iterator[Path]:
    """An empty directory; what still runs there in the end is killed."""
    yield state_dir
    for pid in processes_of(state_dir):
        os.kill(pid, signal.SIGKILL)


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def penstock(directory: Path) -> Iterator[Start]:
    """Starts commands in the directory, where their temporary files go too."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [PENSTOCK, *arguments],
            cwd=directory,
            env={
                **os.environ,
                "TMPDIR": str(directory),
                "PENSTOCK_GATEWAY_PORT": "0",
                **environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


def test_the_demo_shows_one_answer_and_leaves_nothing(directory: Path, penstock: Start) -> None:
    """In an empty directory: the answer on stdout, the rest on stderr, no process and no file."""
    demo = penstock("demo", "What is a penstock?")
    out, err = demo.communicate(timeout=60)
    assert (demo.returncode, err.count("penstock:")) == (0, 0)
    assert out.startswith("Hello!")
    assert out.endswith("✓\n")
    introduction, job, *_, closing = err.splitlines()
    assert introduction.endswith("set DEEPINFRA_TOKEN for a real one")
    assert job.endswith(": What is a penstock?")
    for word in ("tokens", "$", "first token after", "tokens/s"):
        assert word in closing
    assert processes_of(directory) == []
    assert list(directory.iterdir()) == []


def test_an_interrupted_demo_leaves_nothing_either(directory: Path) -> None:
    """Ctrl-C in the middle of the answer: exit status 130, no process, no file."""
    with on_a_terminal("demo", TMPDIR=str(directory)) as terminal:
        terminal.until(lambda text: "simulated model: no real" in text)
        terminal.type("\x03")
        assert terminal.wait() == 130
    assert processes_of(directory) == []
    assert list(directory.iterdir()) == []


def test_the_demo_on_a_server_of_ones_own_keeps_to_its_route(
    settings: Settings, client: Client, penstock: Start
) -> None:
    """With PENSTOCK_REDIS_URL that server is used, and other people's jobs are left alone."""
    waiting = client.submit([{"role": "user", "content": "Hi"}])
    demo = penstock("demo", PENSTOCK_REDIS_URL=settings.server_url)
    out, _ = demo.communicate(timeout=60)
    assert (demo.returncode, out[:6]) == (0, "Hello!")
    assert waiting.record().state == JobState.QUEUED
    (shown,) = client.list("demo")
    assert (shown.route, shown.state) == ("demo", JobState.COMPLETED)


def test_a_demo_whose_upstream_refuses_fails_with_its_error(
    directory: Path, penstock: Start
) -> None:
    """With a token the real upstream is asked; what it says is the error, and status is 1."""
    with SimulatorThread(token="another") as upstream:  # noqa: S106 - nobody's
        settings = {"DEEPINFRA_TOKEN": "secret-0f2a", "PENSTOCK_UPSTREAM_URL": upstream.url}
        demo = penstock("demo", **settings)
        out, err = demo.communicate(timeout=60)
    assert (demo.returncode, out) == (1, "")
    assert "failed after 1 attempt: " in err
    assert "secret-0f2a" not in err
    assert processes_of(directory) == []


def test_a_demo_without_its_server_says_so_at_once(penstock: Start) -> None:
    """A named server that is not there is status 3, before anything is started."""
    demo = penstock("demo", PENSTOCK_REDIS_URL="redis://127.0.0.1:1/0")
    out, err = demo.communicate(timeout=60)
    assert (demo.returncode, out) == (3, "")
    assert err.startswith("penstock: cannot reach Redis at redis://127.0.0.1:1/0")


def test_a_worker_that_does_not_start_shows_its_last_words(directory: Path) -> None:
    """Its log is not on the screen while all goes well, so its end goes into the error."""
    code = (
        "import sys; from ops.local import fleet; from ops.cli import main; "
        "sys.argv[1:] = ['demo']; "
        "fleet.PENSTOCK = ('sh', '-c', 'echo I am broken >&2; exit 7'); sys.exit(main())"
    )
    environment = {**os.environ, "TMPDIR": str(directory)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(
        "penstock: worker-1 did not get ready: it ended with status 7; "
        "its log ends with:\nI am broken\n"
    )
    assert list(directory.iterdir()) == []


WRONG = """\
[routes.fast]
concurrency = -1
fallback = ["slwo"]

[routes.one]
fallback = ["two"]

[routes.two]
model = "another"
fallback = ["one"]

[tenants.zug]
weight = 0
budget_day = 5
"""

TOLD = """\
penstock: penstock.toml:2: routes.fast.concurrency: must be 1 or more; give a larger number, \
or leave it out for 200
penstock: penstock.toml:3: routes.fast.fallback #1: there is no route 'slwo'; \
known routes: default, fast, one, two; choose one of these, or add a table [routes.slwo]
penstock: penstock.toml:6: routes.one.fallback #1: leads back: one -> two -> one; \
take one of them out
penstock: penstock.toml:8: routes.two.prices: is missing: tenants have budgets, and the default \
prices are not this model's; add prices = { input = …, output = … }, USD per 1M tokens
penstock: penstock.toml:13: tenants.zug.weight: must be 0.001 or more; give a larger number, \
or leave it out for 1
"""


@pytest.mark.parametrize("command", ["worker", "gateway", "up"])
def test_nothing_starts_with_a_wrong_configuration(
    directory: Path, penstock: Start, command: str
) -> None:
    """Status 2 and, all at once, each mistake with file, line and remedy; nothing is left there."""
    (directory / "penstock.toml").write_text(WRONG)
    started = penstock(command)
    assert started.communicate(timeout=60) == ("", TOLD)
    assert started.returncode == 2
    assert [path.name for path in directory.iterdir()] == ["penstock.toml"]


def test_up_runs_until_ctrl_c_and_keeps_its_data(directory: Path, penstock: Start) -> None:
    """Jobs from other processes are answered; a second `up` is refused; SIGINT ends it with 0."""
    up = penstock("up", "--simulate", "--workers", "2")
    read_until(up, "penstock is up")
    words = dict(line.split(maxsplit=1) for line in read_until(up, "stop ").splitlines())
    assert words["server"] == f"unix://{directory}/.penstock/redis.sock"
    assert words["data"] == ".penstock/"
    assert words["upstream"].endswith("/v1/openai (simulated)")
    assert words["watch"] == "redis-cli -s .penstock/redis.sock SUBSCRIBE penstock:feed:<job>"

    with http(words["gateway"]) as api:
        answer = api.post(
            "/v1/jobs?wait=30", json={"messages": [{"role": "user", "content": "Hi"}]}
        )
    assert answer.json()["state"] == "completed"

    submit = penstock("submit", "Hello!", "--wait")
    out, err = submit.communicate(timeout=30)
    assert submit.returncode == 0
    assert json.loads(out)["object"] == "chat.completion"

    again = penstock("up")
    refused = again.communicate(timeout=30)[1]
    assert again.returncode == 2
    assert f"a server for {directory}/.penstock runs already" in refused

    up.send_signal(signal.SIGINT)
    up.communicate(timeout=60)
    assert up.returncode == 0
    assert processes_of(directory) == []

    with (
        EmbeddedServer(directory / ".penstock") as server,
        Client(Settings.load(redis_url=server.url)) as client,
    ):
        assert client.get(err.strip()).state == JobState.COMPLETED


def test_who_is_left_behind_by_up_stops(directory: Path, penstock: Start) -> None:
    """After kill -9 of `penstock up` worker and simulator go; the server waits for the next one."""
    up = penstock("up", "--simulate")
    settings = Settings.load(state_dir=directory / ".penstock")
    until(lambda: settings.server_url.startswith("unix:"), timeout=60)
    with Client(settings) as client:
        job = client.submit([{"role": "user", "content": "Hi"}])
        job.result(timeout=60)
        up.kill()
        up.wait()
        for pipe in filter(None, (up.stdout, up.stderr)):
            pipe.close()
        server = int(client.store.redis.info()["process_id"])
    until(lambda: processes_of(directory) == [server], timeout=30)


def test_up_without_a_free_port_goes_on_without_a_gateway(penstock: Start) -> None:
    """A taken port costs the gateway only: the line says which, and which setting to change.

    Started deaf to Ctrl-C, as by a script in the background, it says how it is stopped then.
    """
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which a child inherits
        up = penstock("up", "--simulate", PENSTOCK_GATEWAY_PORT=str(port))
        signal.signal(signal.SIGINT, before)
        said = read_until(up, "stop ")
    assert said.endswith(f"stop      kill {up.pid}\n")
    assert f"none: port {port} is taken; set PENSTOCK_GATEWAY_PORT to another" in said
    up.terminate()
    up.communicate(timeout=60)
    assert up.returncode == 0


def test_up_warns_where_there_is_no_token(penstock: Start, settings: Settings) -> None:
    """Without token and simulator the jobs would fail: said at once, with both ways out.

    On a given server jobs are watched with what has its password and knows its Sentinels.
    """
    up = penstock("up", PENSTOCK_REDIS_URL=settings.server_url)
    said = read_until(up, "warning: no token")
    assert "watch     penstock follow <job> --json\n" in said
    warning = said.splitlines()[-1]
    assert "Set DEEPINFRA_TOKEN" in warning
    assert "penstock up --simulate" in warning
    up.terminate()
    up.communicate(timeout=60)
    assert up.returncode == 0


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """What it says on stderr up to the line with this text."""
    assert process.stderr is not None
    said = ""
    while text not in said:
        line = process.stderr.readline()
        assert line, f"it ended, and said: {said}"
        said += line
    return said
