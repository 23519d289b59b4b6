"""One server as ops/redis sets it up: users by role, and TLS."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from pathlib import Path
from typing import Any

import redis

from ops.local.binary import find_binary
from tests.processes import free_port
from tests.roles import ROOT

OPERATIONS = ROOT / "ops" / "redis"


class Guarded:
    """A server with users, and how each of them reaches it.

    Args:
        directory: where everything is.
        tls: whether it speaks TLS and nothing else, and asks clients for certificates.
    """

    def __init__(self, directory: Path, *, tls: bool = False) -> None:
        self.port = free_port()
        self.directory = directory
        address = [f"127.0.0.1:{self.port}"]
        if tls:
            address.append("rediss")
            subprocess.run(
                [OPERATIONS / "make-certificates.sh", directory, "127.0.0.1"], check=True
            )
        subprocess.run([OPERATIONS / "make-users.sh", directory, *address], check=True)
        here = directory / "redis.conf"
        here.write_text(self._configuration("redis.conf"))
        listens = ["--port", str(self.port)]
        if tls:
            here.write_text(here.read_text() + self._configuration("tls.conf"))
            listens = ["--tls-port", str(self.port), "--tls-auth-clients", "yes"]
        self._command = [
            find_binary(), here, *listens, "--bind", "127.0.0.1",
            "--aclfile", directory / "redis" / "users.acl", "--logfile", "server.log",
        ]  # fmt: skip
        self.start()

    def start(self) -> None:
        """Start it, also again, with all that it kept."""
        self.process = subprocess.Popen(self._command)

    def end(self, by: signal.Signals = signal.SIGTERM) -> None:
        """End it, with this signal."""
        self.process.send_signal(by)
        self.process.wait(20)

    def _configuration(self, name: str) -> str:
        text = (OPERATIONS / name).read_text()
        assert name != "redis.conf" or "\ndir /data\n" in text
        text = text.replace("\ndir /data\n", f"\ndir {self.directory}/redis\n")
        return text.replace("/etc/penstock/tls/", f"{self.directory}/tls/")

    def url(self, role: str) -> str:
        """What PENSTOCK_REDIS_URL_FILE of this role holds."""
        return (self.directory / role / "redis-url").read_text().strip()

    def connect(self, role: str) -> Any:
        """A connection as this role."""
        return redis.Redis.from_url(self.url(role), decode_responses=True)

    def answers(self) -> bool:
        """Whether it is up."""
        assert self.process.poll() is None, (self.directory / "redis" / "server.log").read_text()
        with contextlib.suppress(redis.ConnectionError), self.connect("operator") as operator:
            return bool(operator.ping())
        return False
