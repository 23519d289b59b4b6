"""The embedded server: a Redis or Valkey process for one state directory.

It listens on `<state_dir>/redis.sock` only, keeps an append-only file, and evicts nothing. Two
locks in the directory make every start free of races, however the processes before it ended:

- `server.lock` is inherited by the server itself, so it is held exactly as long as one runs.
- `owner.lock` is held by the Penstock process that will stop the server.

When the owner is killed the server keeps running, and nobody holds `owner.lock`: the next start
adopts that server, with the directives it was started with, and stops it in the end.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from ops.local.append_only import AppendOnlyFile
from ops.local.binary import check_binary, find_binary
from ops.local.directory import check_socket_path, prepare_directory, unusable
from ops.local.lock import LockFile
from ops.local.probe import Answer, listener, ping
from ops.local.process import Process
from ops.local.server_log import ServerLog
from penstock.errors import ConfigurationError

log = structlog.get_logger(__name__)

POLL_INTERVAL = 0.01
READY_TIMEOUT = 30.0
"""Seconds a server may be silent; loading a large append-only file is not silence."""

STOP_TIMEOUT = 20.0
"""Seconds from SIGTERM to SIGKILL: Redis itself gives a shutdown 10 s (`shutdown-timeout`)."""

DIRECTIVES = {
    "port": "0",
    "unixsocketperm": "700",
    "daemonize": "no",
    "dir": ".",
    "save": "",
    "appendonly": "yes",
    "maxmemory-policy": "noeviction",
    "stream-node-max-bytes": "1024",
}
"""Accepted jobs live nowhere else: they go to disk, and are never evicted to make room. A stream
allots its first node whole, and a waiting job's feed has one event: at the server's own 4096 bytes
that is three quarters of what the job takes."""


class ServerRunning(ConfigurationError):
    """Another process owns the server of this state directory; `pid` is the server's."""

    def __init__(self, state_dir: Path, pid: int | None) -> None:
        self.pid = pid
        super().__init__(
            f"a server for {state_dir} runs already (pid {pid or 'unknown'}): "
            "stop it first, or set PENSTOCK_STATE_DIR to another directory"
        )


class EmbeddedServer:
    """The server of one state directory; also a context manager that starts and stops it.

    Arguments:
        state_dir: where its data, socket, locks and log live; made if missing.
        appendfsync: `everysec`, `always` or `no`, as in redis.conf.
        directives: more lines of redis.conf, such as `{"maxmemory": "10mb"}`; they win over the
            ones above. A value with several words is split as a shell would.
        port: a TCP port on 127.0.0.1 to listen on as well; None for none.
        binary: the server program; None for the first of `find_binary()` that can read the data
            the directory holds.
    """

    def __init__(
        self,
        state_dir: Path | str,
        *,
        appendfsync: str = "everysec",
        directives: Mapping[str, str] | None = None,
        port: int | None = None,
        binary: Path | str | None = None,
    ) -> None:
        self.state_dir = Path(state_dir).absolute()
        self.socket_path = self.state_dir / "redis.sock"
        self.url = f"unix://{self.socket_path}"
        self.log = ServerLog(self.state_dir)
        self._tcp = {} if port is None else {"port": str(port), "bind": "127.0.0.1"}
        self._directives = {"appendfsync": appendfsync, **(directives or {})}
        self._binary = Path(binary) if binary else None
        self._server_lock = LockFile(self.state_dir / "server.lock")
        self._owner_lock = LockFile(self.state_dir / "owner.lock")
        self._process: Process | None = None

    @property
    def pid(self) -> int | None:
        """The running server's process id; None if this object owns none that runs."""
        process = self._process
        return process.pid if process is not None and process.running else None

    def start(self) -> None:
        """Start the server, or adopt one whose owner is gone, and return when it answers.

        Does nothing if it runs already. Raises ServerRunning if another process owns it, and
        ConfigurationError, with the server's last words, if it cannot start.
        """
        process = self.spawn()
        try:
            self._await_ready(process)
        except BaseException:
            self.kill()
            raise

    def spawn(self) -> Process:
        """As `start`, but return at once; `is_ready` tells when it answers."""
        if self._process is not None and self._process.running:
            return self._process
        prepare_directory(self.state_dir)
        check_socket_path(self.socket_path)
        try:
            self._process = self._own()
        except BaseException as error:
            self._owner_lock.release()
            if isinstance(error, OSError):
                raise unusable(self.state_dir, error) from error
            raise
        return self._process

    def is_ready(self) -> bool:
        """Whether the server answers and has loaded its data."""
        return ping(self.socket_path) is Answer.READY

    def explain(self) -> str:
        """What the server's log says about its end, with advice; for people."""
        return self.log.explain()

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """Stop it with SIGTERM and return when it has ended; SIGKILL after `timeout` seconds."""
        process = self._process
        if process is not None and process.running:
            process.terminate()
            action = "server_stopped" if process.wait(timeout) else "server_killed"
            log.info("server stopped", action=action, pid=process.pid)
        self.kill()

    def kill(self) -> None:
        """SIGKILL it, as a crash would, and return when it has ended; the socket file stays."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
        self._owner_lock.release()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _own(self) -> Process:
        """Become the owner of a new server or an orphaned one, waiting for one that just ends."""
        deadline = time.monotonic() + READY_TIMEOUT
        while True:
            if self._owner_lock.acquire():
                if process := self._launch() or self._adopt():
                    return process
            elif ping(self.socket_path) is not Answer.SILENT:
                raise ServerRunning(self.state_dir, listener(self.socket_path))
            if time.monotonic() > deadline:
                raise ConfigurationError(self._stuck())
            time.sleep(POLL_INTERVAL)

    def _launch(self) -> Process | None:
        """A new server process, unless one is alive already."""
        if not self._server_lock.acquire():
            return None
        try:
            if stranger := listener(self.socket_path):  # started by hand, it knows no lock
                raise ServerRunning(self.state_dir, stranger)
            binary = self._choose_binary()
            self.socket_path.unlink(missing_ok=True)
            process = self._execute(binary)
            self._server_lock.write(str(process.pid))
        finally:
            self._server_lock.release()  # from here on the server holds it
        log.info("server started", action="server_started", pid=process.pid, binary=str(binary))
        return process

    def _execute(self, binary: Path) -> Process:
        lines = {**DIRECTIVES, "unixsocket": str(self.socket_path), **self._tcp}
        argv = [str(binary)]
        for name, value in lines.items():
            argv += [f"--{name}", value]
        for name, value in self._directives.items():
            argv += [f"--{name}", *(shlex.split(value) or [""])]
        with self.log.rotate() as output:
            return Process.spawn(
                argv,
                cwd=self.state_dir,
                output=output,
                pass_fds=[self._server_lock.fileno()],
                umask=0o077,
            )

    def _adopt(self) -> Process | None:
        """The server a killed owner left behind, if it listens yet."""
        pid = listener(self.socket_path)
        if pid is None:
            return None
        try:
            process = Process(pid)
        except ProcessLookupError:
            return None
        log.info("server adopted", action="server_adopted", pid=pid, state_dir=str(self.state_dir))
        return process

    def _choose_binary(self) -> Path:
        if self._binary is not None:
            return check_binary(self._binary)
        return find_binary(prefer="valkey" if AppendOnlyFile(self.state_dir).needs_valkey else "")

    def _await_ready(self, process: Process) -> None:
        deadline = time.monotonic() + READY_TIMEOUT
        while not process.wait(POLL_INTERVAL):
            answer = ping(self.socket_path)
            if answer is Answer.READY:
                return
            if answer is Answer.LOADING:
                deadline = time.monotonic() + READY_TIMEOUT
            if time.monotonic() > deadline:
                raise ConfigurationError(f"the server does not answer: {self.explain()}")
        raise ConfigurationError(f"the server {process.describe()}: {self.explain()}")

    def _stuck(self) -> str:
        pid = self._server_lock.read() or "unknown"
        return (
            f"a server for {self.state_dir} (pid {pid}) holds its lock but does not answer: "
            f"end it with kill -9 {pid}, or set PENSTOCK_STATE_DIR to another directory"
        )
