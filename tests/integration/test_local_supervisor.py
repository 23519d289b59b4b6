"""The supervisor, with real processes and real signals."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ops.local.child import Child, embedded, port_answers, program
from ops.local.server import EmbeddedServer
from ops.local.supervisor import Supervisor
from penstock.errors import ConfigurationError

DEADLINE = 10.0

SLEEPER = "echo $$ >> {file}; exec sleep 60"
STUBBORN = "trap '' TERM; echo $$ >> {file}; while :; do sleep 60; done"
DRAINING = (
    "trap 'echo {name} >> {ends}; exit 0' TERM; echo $$ >> {file}; while :; do sleep .01; done"
)

UP = """
import sys, structlog
from pathlib import Path
from ops.local.child import program
from ops.local.supervisor import Supervisor
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
children = [program(f"child-{n}", ["sh", "-c", text]) for n, text in enumerate(sys.argv[1:])]
sys.exit(Supervisor([children]).run())
"""


@pytest.fixture
def state_dir() -> Iterator[Path]:
    """A directory with a path short enough for a Unix socket."""
    path = Path(tempfile.mkdtemp(dir="/tmp", prefix="ps-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def up() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a supervisor of shell programs as a process of its own."""
    started: list[subprocess.Popen[str]] = []

    def start(*texts: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-c", UP, *texts]
        started.append(subprocess.Popen(argv, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.terminate()  # not SIGKILL: its children would go on, and hold the pipe open
        process.communicate(timeout=DEADLINE)


def shell(name: str, text: str, ready: Callable[[], bool] | None = None) -> Child:
    """A child that is a line of shell."""
    return program(name, ["sh", "-c", text], ready=ready)


def until(condition: Callable[[], object]) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come about"
        time.sleep(0.005)


def pids(file: Path) -> list[int]:
    """The pids that the lives of a child wrote, in order."""
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def gone(pid: int) -> bool:
    """Whether the process has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_child_that_ends_is_started_again(tmp_path: Path) -> None:
    """Each unexpected end is followed by a new life, later each time, and a line that says why."""
    file = tmp_path / "pids"

    def lived(times: int) -> Callable[[], bool]:
        return lambda: len(pids(file)) == times

    async def crash_twice() -> int:
        for life in (1, 2):
            await asyncio.to_thread(until, lived(life))
            os.kill(pids(file)[-1], signal.SIGKILL)
        await asyncio.to_thread(until, lived(3))
        return 7

    with capture_logs() as logs:
        assert Supervisor([[shell("worker", SLEEPER.format(file=file))]]).run(crash_twice) == 7
    restarts = [line for line in logs if line["action"] == "child_restarted"]
    assert [line["delay"] for line in restarts] == [0.2, 0.4]
    assert {(line["child"], line["reason"]) for line in restarts} == {
        ("worker", "was ended by SIGKILL")
    }
    assert all(gone(pid) for pid in pids(file))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything_cleanly(
    tmp_path: Path, up: Callable[..., subprocess.Popen[str]], number: signal.Signals
) -> None:
    """Ctrl-C, SIGTERM and a closed terminal end each child with one SIGTERM; the status is 0."""
    ends, files = tmp_path / "ends", [tmp_path / "a", tmp_path / "b"]
    process = up(*(DRAINING.format(name=file.name, ends=ends, file=file) for file in files))
    until(lambda: all(pids(file) for file in files))
    process.send_signal(number)
    assert process.wait(DEADLINE) == 0
    assert sorted(ends.read_text().split()) == ["a", "b"]
    assert all(gone(pids(file)[0]) for file in files)


def test_a_second_signal_kills_at_once(
    tmp_path: Path, up: Callable[..., subprocess.Popen[str]]
) -> None:
    """Whoever presses Ctrl-C twice does not wait for the grace period."""
    file = tmp_path / "pid"
    process = up(STUBBORN.format(file=file))
    assert process.stderr is not None
    until(lambda: pids(file))
    process.send_signal(signal.SIGINT)
    while "supervisor_stopping" not in process.stderr.readline():
        pass
    assert not gone(pids(file)[0])
    process.send_signal(signal.SIGINT)
    assert process.wait(DEADLINE) == 0
    until(lambda: gone(pids(file)[0]))


def test_children_do_not_hear_the_terminal(
    tmp_path: Path, up: Callable[..., subprocess.Popen[str]]
) -> None:
    """Each child has a session of its own, so Ctrl-C reaches it only through the supervisor."""
    file = tmp_path / "pid"
    process = up(SLEEPER.format(file=file))
    until(lambda: pids(file))
    assert os.getsid(pids(file)[0]) == pids(file)[0] != os.getsid(process.pid)
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE) == 0


def test_a_child_that_does_not_stop_is_killed_after_the_grace(tmp_path: Path) -> None:
    """The grace period bounds a stop, and what the child started ends with it."""
    file = tmp_path / "pid"
    text = "sleep 60 & echo $! >> {file}; " + STUBBORN

    async def wait_for_start() -> int:
        await asyncio.to_thread(until, lambda: len(pids(file)) == 2)
        return 0

    with capture_logs() as logs:
        supervisor = Supervisor([[shell("worker", text.format(file=file))]], grace=0.05)
        assert supervisor.run(wait_for_start) == 0
    assert [line["child"] for line in logs if line["action"] == "child_killed"] == ["worker"]
    until(lambda: all(gone(pid) for pid in pids(file)))


def test_groups_start_in_order_and_stop_in_reverse(tmp_path: Path) -> None:
    """Workers start when their server is ready, and the server ends when they have ended."""
    ends, first, second = tmp_path / "ends", tmp_path / "first", tmp_path / "second"
    seen: list[bool] = []

    def server_is_ready() -> bool:
        seen.append(second.exists())
        return first.exists() and len(seen) > 2

    async def wait_for_second() -> int:
        await asyncio.to_thread(until, second.exists)
        return 0

    groups = [
        [shell("server", DRAINING.format(name="server", ends=ends, file=first), server_is_ready)],
        [shell("worker", DRAINING.format(name="worker", ends=ends, file=second))],
    ]
    assert Supervisor(groups).run(wait_for_second) == 0
    assert len(seen) > 2
    assert not any(seen)
    assert ends.read_text().split() == ["worker", "server"]


def test_a_child_that_never_gets_ready_stops_the_start(tmp_path: Path) -> None:
    """A child that ends before it was ready is an error, not a loop; the others are stopped."""
    file = tmp_path / "pid"
    children = [shell("other", SLEEPER.format(file=file)), shell("broken", "exit 2", lambda: False)]
    with pytest.raises(
        ConfigurationError, match="broken did not get ready: it ended with status 2"
    ):
        Supervisor([children]).run()
    assert all(gone(pid) for pid in pids(file))


def test_a_child_that_is_not_ready_in_time_stops_the_start() -> None:
    """The wait for a ready hook has an end."""
    child = program("slow", ["sleep", "60"], ready=lambda: False, ready_timeout=0.05)
    with pytest.raises(ConfigurationError, match=r"slow .* was not ready within 0.05 s"):
        Supervisor([[child]]).run()


def test_a_program_that_does_not_exist_is_an_error_in_words() -> None:
    """A wrong command line is named, without a traceback's worth of detail."""
    with pytest.raises(ConfigurationError, match="cannot start no-such-program: No such file"):
        Supervisor([[program("worker", ["no-such-program"])]]).run()


def test_a_signal_cuts_the_foreground_short(tmp_path: Path) -> None:
    """An interrupted `penstock demo` is cancelled, cleans up, and does not claim success."""
    file = tmp_path / "pid"
    cleaned: list[bool] = []

    async def interrupt_itself() -> int:
        await asyncio.to_thread(until, lambda: pids(file))
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)
        return 0

    status = Supervisor([[shell("worker", SLEEPER.format(file=file))]]).run(interrupt_itself)
    assert (status, cleaned) == (130, [True])
    assert gone(pids(file)[0])


def test_a_failing_foreground_stops_the_children(tmp_path: Path) -> None:
    """An error of the foreground reaches the caller, after every child has ended."""
    file = tmp_path / "pid"

    async def fail() -> int:
        await asyncio.to_thread(until, lambda: pids(file))
        raise ConfigurationError("no good")

    with pytest.raises(ConfigurationError, match="no good"):
        Supervisor([[shell("worker", SLEEPER.format(file=file))]]).run(fail)
    assert gone(pids(file)[0])


def test_environment_and_output_reach_where_they_should(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child inherits the environment and adds to it; it prints on our stderr or into its file."""
    monkeypatch.setenv("INHERITED", "yes")
    ends, file = tmp_path / "ends", tmp_path / "out"
    argv = ["sh", "-c", f"echo $INHERITED $ADDED; echo x >> {ends}; exec sleep 60"]

    async def wait_for_both() -> int:
        await asyncio.to_thread(until, lambda: ends.exists() and ends.read_text() == "x\nx\n")
        return 0

    children = [
        program("loud", argv, env={"ADDED": "loud"}),
        program("quiet", argv, env={"ADDED": "quiet"}, output=file),
    ]
    with capture_logs():
        assert Supervisor([children]).run(wait_for_both) == 0
    assert capfd.readouterr() == ("", "yes loud\n")
    assert file.read_text() == "yes quiet\n"


def test_a_port_is_ready_once_it_answers() -> None:
    """The TCP hook turns true when somebody listens, and not before."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        ready = port_answers("127.0.0.1", listening.getsockname()[1])
        assert not ready()
        listening.listen()
        assert ready()


def test_a_killed_server_comes_back_with_its_data(state_dir: Path) -> None:
    """The embedded server under supervision is started again on the same socket and data."""
    server = EmbeddedServer(state_dir)
    server.start()
    before = server.pid
    assert before is not None

    async def kill_it() -> int:
        os.kill(before, signal.SIGKILL)
        await asyncio.to_thread(until, lambda: server.pid not in (None, before))
        await asyncio.to_thread(until, server.is_ready)
        return 0

    try:
        with capture_logs() as logs:
            assert Supervisor([[embedded(server)]]).run(kill_it) == 0
    finally:
        server.stop()
    reasons = [line["reason"] for line in logs if line["action"] == "child_restarted"]
    assert len(reasons) == 1
    assert str(server.log.path) in reasons[0]
    assert not server.socket_path.exists()
    with EmbeddedServer(state_dir):
        pass  # the lock is free again
