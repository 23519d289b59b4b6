"""A set of servers as ops/redis sets it up: a primary, two replicas, and three Sentinels."""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from pathlib import Path
from typing import Any, Self

import redis

from ops.local.binary import find_binary
from tests.processes import free_port
from tests.roles import ROOT
from tests.waiting import until

OPERATIONS = ROOT / "ops" / "redis"
HERE = "127.0.0.1"
SERVERS = SENTINELS = 3


class Member:
    """A server or a Sentinel that can be killed and started again, on its own file.

    Args:
        directory: of its own.
        configuration: what redis-server is to read; it writes there too.
        port: where it listens.
        tls: whom to trust, where it has TLS.
        login: of somebody who may look.
    """

    def __init__(
        self, directory: Path, configuration: str, port: int, tls: Path | None, login: Any
    ) -> None:
        directory.mkdir(parents=True)
        self.port = port
        self.directory = directory
        self.file = directory / "server.conf"
        self.file.write_text(configuration)
        self._client: Any = redis.Redis(
            HERE, port, ssl=tls is not None, ssl_ca_certs=tls and str(tls), decode_responses=True,
            socket_timeout=1, retry=None, **login,
        )  # fmt: skip

    def start(self, *arguments: str) -> None:
        """Start it, not waiting for it to answer."""
        self.process = subprocess.Popen(
            [find_binary(), self.file, "--dir", self.directory,
             "--logfile", "log", *arguments],
        )  # fmt: skip

    def ask(self, *command: str) -> Any:
        """Its answer to a command; None where it does not answer, or cannot do it now."""
        with contextlib.suppress(redis.RedisError):
            return self._client.execute_command(*command)
        return None

    def kill(self) -> None:
        """SIGKILL it; `killed_at` is when, by the wall clock."""
        self.process.kill()
        self.process.wait()
        self.killed_at = time.time()

    @property
    def log(self) -> str:
        """What it has told."""
        return (self.directory / "log").read_text()


class ServerSet:
    """The set; a context manager too.

    Args:
        directory: where everything is; made here.
        tls: whether everything speaks TLS and nothing else.
        down_after: milliseconds of silence until a Sentinel misses a server; None: it is told who
            has been killed, as a machine that does everything at once makes anybody look dead.
        appendfsync: of the servers.
    """

    def __init__(
        self,
        directory: Path,
        *,
        tls: bool = False,
        down_after: int | None = None,
        appendfsync: str = "everysec",
    ) -> None:
        self.directory = directory
        self._authority = directory / "tls" / "ca.crt" if tls else None
        self._conducted = down_after is None
        after = "after-milliseconds penstock"
        self._changes = {
            "/etc/penstock": str(directory),
            "\nappendfsync everysec\n": f"\nappendfsync {appendfsync}\n",
            "\ndir /data\n": "\n",
            "\nbind * -::*\n": f"\nbind {HERE}\n",
            f"{after} 5000": f"{after} {down_after or 60_000}",
            "failover-timeout penstock 30000": "failover-timeout penstock 2000",
        }
        self.servers: list[Member] = []
        self.sentinels: list[Member] = []

    def url_of(self, role: str) -> str:
        """What PENSTOCK_REDIS_URL_FILE of this role holds."""
        return (self.directory / role / "redis-url").read_text().strip()

    @property
    def url(self) -> str:
        """Of somebody who may do everything."""
        return self.url_of("operator")

    def start(self) -> None:
        """Make everything; wait until the Sentinels know it all and the replicas are whole."""
        ports = [free_port() for _ in range(SERVERS + SENTINELS)]
        self._prepare(ports)
        for number, port in enumerate(ports):
            member = self._member(number, port)
            if number < SERVERS:
                member.start(*(["--replicaof", HERE, str(ports[0])] if number else []))
                self.servers.append(member)
            else:
                member.start("--sentinel")
                self.sentinels.append(member)
        until(lambda: all(map(self._is_complete, self.sentinels)), timeout=30)
        until(lambda: _replicas(self.servers[0]) == SERVERS - 1, timeout=30)

    def _prepare(self, ports: list[int]) -> None:
        asked = ",".join(f"{HERE}:{port}" for port in ports[SERVERS:])
        scheme = "sentinel"
        if self._authority:
            scheme = "sentinels"
            subprocess.run([OPERATIONS / "make-certificates.sh", self.directory, HERE], check=True)
        users = [OPERATIONS / "make-users.sh", self.directory, asked, scheme, f"{HERE}:{ports[0]}"]
        subprocess.run(users, check=True)
        for name in ("redis.conf", "tls.conf"):
            (self.directory / name).write_text(self._here((OPERATIONS / name).read_text()))

    def _here(self, text: str) -> str:
        for there, here in self._changes.items():
            text = text.replace(there, here)
        return text

    def _member(self, number: int, port: int) -> Member:
        if number < SERVERS:
            user, text = "operator", (OPERATIONS / "replica.conf").read_text()
            text += f"\ninclude {self.directory}/tls.conf\n" if self._authority else ""
        else:
            user, text = "sentinel", (self.directory / "sentinel" / "sentinel.conf").read_text()
        text = self._here(text) + f"\n{'tls-port' if self._authority else 'port'} {port}\n"
        login = {"username": user, "password": (self.directory / user / "password").read_text()}
        if user == "sentinel":
            login = {"username": "conductor", "password": ""}
            text += (
                "user conductor on nopass resetchannels -@all +client|setname +sentinel|failover\n"
            )
        return Member(self.directory / str(number), text, port, self._authority, login)

    def _is_complete(self, sentinel: Member) -> bool:
        """As its own file tells: the user `sentinel` must not ask."""
        assert sentinel.process.poll() is None, sentinel.log
        text = sentinel.file.read_text()
        others = text.count("known-sentinel"), text.count("known-replica")
        return others == (SENTINELS - 1, SERVERS - 1)

    @property
    def primary(self) -> Member:
        """The server that all Sentinels that run call the primary, once they agree."""
        return until(self._agreed, timeout=30)

    def _agreed(self) -> Member | None:
        texts = [each.file.read_text() for each in self.sentinels if each.process.poll() is None]
        named = {re.findall(r"^sentinel monitor penstock \S+ (\d+)", t, re.M)[-1] for t in texts}
        return next((m for m in self.servers if {str(m.port)} == named), None)

    def fail_over(self) -> Member:
        """Kill the primary with SIGKILL, and wait until another one is; the killed one.

        It stays away.
        """
        killed = self.primary
        killed.kill()
        if self._conducted:
            until(lambda: self.sentinels[0].ask("SENTINEL", "FAILOVER", "penstock"), timeout=30)
        until(lambda: self._agreed() not in (None, killed), timeout=60)
        return killed

    def bring_back(self, killed: Member) -> None:
        """Start a server again, as whatever supervises it would, and wait until it is a replica."""
        killed.start()
        until(lambda: _replicas(self.primary) == SERVERS - 1, timeout=60)

    def kill(self) -> None:
        """End all."""
        for member in [*self.sentinels, *self.servers]:
            member.kill()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def _replicas(member: Member) -> int:
    """Those that have caught up."""
    about = member.ask("INFO", "replication") or {}
    return sum(
        about[name]["state"] == "online" and about[name]["lag"] <= 1
        for name in about
        if name.startswith("slave") and isinstance(about[name], dict)
    )
