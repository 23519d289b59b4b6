"""The embedded server, with the real programs."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.local.append_only import AppendOnlyFile
from ops.local.binary import find_binary
from ops.local.probe import listener
from ops.local.server import EmbeddedServer, ServerRunning
from penstock.errors import ConfigurationError

REDIS = shutil.which("redis-server")
BINARIES = [
    pytest.param(
        REDIS, id="redis", marks=pytest.mark.skipif(REDIS is None, reason="no redis-server here")
    ),
    pytest.param(None, id="valkey"),
]

STARTER = """
import sys, structlog
from ops.local.probe import listener
from ops.local.server import EmbeddedServer, ServerRunning
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
sys.stdin.readline()
server = EmbeddedServer(sys.argv[1])
try:
    server.start()
    print("started", server.pid, flush=True)
except ServerRunning as error:
    print("refused", error.pid, flush=True)
sys.stdin.readline()
server.stop()
"""


@pytest.fixture
def state_dir() -> Iterator[Path]:
    """A directory with a path short enough for a Unix socket; no server outlives it."""
    path = Path(tempfile.mkdtemp(dir="/tmp", prefix="ps-"))
    yield path
    left_over = listener(path / "redis.sock")
    if left_over is not None and left_over != os.getpid():
        os.kill(left_over, signal.SIGKILL)
    shutil.rmtree(path)


@pytest.fixture(params=BINARIES)
def binary(request: pytest.FixtureRequest) -> Path:
    """Each kind of server in turn."""
    return Path(request.param) if request.param else find_binary(prefer="valkey")


@pytest.fixture
def starters() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that are killed in the end, however the test ends."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def starter(state_dir: Path) -> subprocess.Popen[str]:
    """A process of its own that starts a server after the first line it is sent."""
    return subprocess.Popen(
        [sys.executable, "-c", STARTER, str(state_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def tell(process: subprocess.Popen[str]) -> None:
    """Let it go on to its next step."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> tuple[str, int]:
    """Its answer: `started` or `refused`, and the server's pid."""
    assert process.stdout is not None
    word, number = process.stdout.readline().split()
    return word, int(number)


def ask(server: EmbeddedServer, command: str) -> str:
    """The server's raw reply to an inline command."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(server.socket_path))
        connection.sendall(f"{command}\r\n".encode())
        return connection.recv(65536).decode()


def test_it_serves_as_promised(state_dir: Path, binary: Path) -> None:
    """It keeps an append-only file, evicts nothing, has no TCP port and a private socket."""
    with EmbeddedServer(state_dir, binary=binary) as server:
        for directive, value in {
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            "port": "0",
            "save": "",
        }.items():
            assert f"\r\n{value}\r\n" in ask(server, f"CONFIG GET {directive}")
        assert stat.S_IMODE(server.socket_path.stat().st_mode) == 0o700
        assert server.url == f"unix://{state_dir}/redis.sock"


def test_data_survives_a_stop(state_dir: Path, binary: Path) -> None:
    """A clean stop waits for the process to end and leaves the data, and nothing stale."""
    server = EmbeddedServer(state_dir, binary=binary)
    server.start()
    pid = server.pid
    assert pid is not None
    assert ask(server, "SET job kept") == "+OK\r\n"
    server.stop()
    assert server.pid is None
    assert not Path(f"/proc/{pid}").exists()
    assert not server.socket_path.exists()
    with server:
        assert "kept" in ask(server, "GET job")


def test_data_survives_a_kill(state_dir: Path, binary: Path) -> None:
    """After kill -9 the stale socket is replaced and what was acknowledged is still there."""
    server = EmbeddedServer(state_dir, binary=binary, appendfsync="always")
    server.start()
    ask(server, "SET job kept")
    server.kill()
    assert server.socket_path.is_socket()
    with server:
        assert "kept" in ask(server, "GET job")


def test_directives_and_a_tcp_port_can_be_given(state_dir: Path) -> None:
    """Tests and tools can set further directives, several words long, and listen on TCP too."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    more = {"maxmemory": "10mb", "client-output-buffer-limit": "pubsub 32mb 8mb 60"}
    with EmbeddedServer(state_dir, directives=more, port=port) as server:
        assert "10485760" in ask(server, "CONFIG GET maxmemory")
        assert "pubsub 33554432 8388608 60" in ask(server, "CONFIG GET client-output-buffer-limit")
        socket.create_connection(("127.0.0.1", port)).close()


def test_a_second_owner_is_refused(state_dir: Path) -> None:
    """While the owner lives nobody else gets its server, and the error says which pid it has."""
    with EmbeddedServer(state_dir) as server:
        with pytest.raises(ServerRunning, match=f"runs already .pid {server.pid}.") as raised:
            EmbeddedServer(state_dir).start()
        assert raised.value.pid == server.pid
        server.start()  # the owner itself may ask again


def test_starts_at_the_same_time_make_one_server(
    state_dir: Path, starters: list[subprocess.Popen[str]]
) -> None:
    """Of several processes that start in one directory at once, one wins and all know its pid."""
    starters += [starter(state_dir) for _ in range(3)]
    for process in starters:
        tell(process)
    answers = [hear(process) for process in starters]
    assert sorted(word for word, _ in answers) == ["refused", "refused", "started"]
    assert len({pid for _, pid in answers}) == 1
    for process in starters:
        tell(process)
        assert process.wait() == 0


def test_a_server_without_owner_is_adopted(
    state_dir: Path, starters: list[subprocess.Popen[str]]
) -> None:
    """A server outlives its killed owner; the next start adopts it, and stops it in the end."""
    starters.append(starter(state_dir))
    tell(starters[0])
    _, pid = hear(starters[0])
    starters[0].kill()
    starters[0].wait()
    with EmbeddedServer(state_dir) as server:
        assert server.pid == pid
        assert ask(server, "PING") == "+PONG\r\n"
    assert not server.socket_path.exists()


def test_a_hung_server_is_named(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that holds the lock but answers nobody is named, with its pid."""
    monkeypatch.setattr("ops.local.server.READY_TIMEOUT", 0.05)
    monkeypatch.setattr("ops.local.probe.ANSWER_TIMEOUT", 0.05)
    server = EmbeddedServer(state_dir)
    server.start()
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(ConfigurationError, match=f"pid {pid}.* does not answer"):
            EmbeddedServer(state_dir).start()
    finally:
        server.kill()


def test_a_server_started_by_hand_is_left_alone(state_dir: Path) -> None:
    """A server that knows no lock but listens on our socket is not pushed off it."""
    path = state_dir / "redis.sock"
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.bind(str(path))
        stranger.listen()
        with pytest.raises(ServerRunning, match=f"pid {os.getpid()}"):
            EmbeddedServer(state_dir).start()
        assert path.is_socket()


def test_stale_files_are_no_obstacle(state_dir: Path) -> None:
    """Lock files and a socket that were left behind do not keep a new server from starting."""
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(state_dir / "redis.sock"))
    (state_dir / "server.lock").write_text("1")
    (state_dir / "owner.lock").touch()
    with EmbeddedServer(state_dir) as server:
        assert ask(server, "PING") == "+PONG\r\n"


def test_a_damaged_append_only_file_points_to_the_repair(state_dir: Path, binary: Path) -> None:
    """Damaged data is never thrown away silently: the error names the tool and the file."""
    server = EmbeddedServer(state_dir, binary=binary)
    with server:
        for number in range(3):
            ask(server, f"SET key{number} {'x' * 50}")
    (log,) = server.state_dir.glob("appendonlydir/*.incr.aof")
    log.write_bytes(log.read_bytes().replace(b"$3\r\nSET", b"@@@@SET", 1))
    with pytest.raises(ConfigurationError, match=r"redis-check-aof --fix .*manifest") as raised:
        server.start()
    assert str(server.log.path) in str(raised.value)
    assert server.pid is None


def test_a_torn_last_write_is_no_damage(state_dir: Path, binary: Path) -> None:
    """A power cut in the middle of a write loses that write and nothing else."""
    server = EmbeddedServer(state_dir, binary=binary)
    with server:
        ask(server, "SET job kept")
        ask(server, "SET torn away")
    (log,) = server.state_dir.glob("appendonlydir/*.incr.aof")
    log.write_bytes(log.read_bytes()[:-5])
    with server:
        assert "kept" in ask(server, "GET job")
        assert ask(server, "GET torn") == "$-1\r\n"


@pytest.mark.skipif(REDIS is None, reason="no redis-server here")
def test_data_of_valkey_is_not_called_damaged(state_dir: Path) -> None:
    """Redis would repair Valkey's newer files by emptying them; Valkey is chosen, or asked for."""
    with EmbeddedServer(state_dir, binary=find_binary(prefer="valkey")) as server:
        ask(server, "SET job kept")
    assert AppendOnlyFile(state_dir).needs_valkey
    with pytest.raises(ConfigurationError, match="written by another kind") as raised:
        EmbeddedServer(state_dir, binary=REDIS).start()
    assert "--fix" not in str(raised.value).splitlines()[0]
    with EmbeddedServer(state_dir) as server:
        assert "kept" in ask(server, "GET job")


@pytest.fixture
def full_disk(state_dir: Path) -> Iterator[Path]:
    """A tiny file system without a free byte."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "none", str(state_dir)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a tiny tmpfs needs root")
    try:
        with pytest.raises(OSError, match="No space left"):
            (state_dir / "filler").write_bytes(bytes(1 << 20))
        yield state_dir
    finally:
        subprocess.run(["umount", str(state_dir)], check=True)


def test_a_full_disk_is_named(full_disk: Path, binary: Path) -> None:
    """When the server cannot write, the error says that the disk is full, and which one."""
    with pytest.raises(ConfigurationError, match=f"the disk of {full_disk} is full"):
        EmbeddedServer(full_disk, binary=binary).start()


def test_a_port_that_is_taken_shows_the_last_words(state_dir: Path) -> None:
    """Whatever else keeps the server from starting, its own last log lines are shown."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = EmbeddedServer(state_dir, port=taken.getsockname()[1])
        with pytest.raises(ConfigurationError, match="Address already in use"):
            server.start()
    with EmbeddedServer(state_dir) as server:  # the failed start left nothing in the way
        assert server.is_ready()


def test_a_start_returns_when_the_data_is_loaded(state_dir: Path, binary: Path) -> None:
    """A server that still loads its data refuses commands; no caller gets to see that."""
    with EmbeddedServer(state_dir, binary=binary) as server:
        ask(server, "EVAL \"for i = 1, 4000 do redis.call('RPUSH', 'list', i) end\" 0")
    slow = {"enable-debug-command": "yes", "key-load-delay": "50"}
    with EmbeddedServer(state_dir, binary=binary, directives=slow) as server:
        assert ask(server, "LLEN list") == ":4000\r\n"
