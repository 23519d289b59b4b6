"""A Redis server that tells what it spends."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path
from typing import Any

import redis

from ops.local.server import EmbeddedServer

PATIENCE = 120.0
"""Seconds for a reply: a million jobs are not forgotten at once."""

LOOP = "local sum = 0 for number = 1, 100000 do sum = sum + number end return sum"
"""Half a millisecond or more of nothing but the core's own work."""


class Server(EmbeddedServer):
    """Reached over TCP, as in most installations; durable as Penstock's own server is.

    Attributes:
        redis_url: what workers and clients connect to.
        redis: a client of it, for looking at it.
    """

    def __init__(self, directory: Path) -> None:
        port = free_port()
        super().__init__(directory, port=port)
        self.redis_url = f"redis://127.0.0.1:{port}/0"
        self.redis: Any = redis.Redis.from_url(self.redis_url, socket_timeout=PATIENCE)

    def stop(self, timeout: float = PATIENCE) -> None:
        """Stop it, and close the client."""
        self.redis.close()
        super().stop(timeout)

    def reset(self) -> None:
        """Empty it, and zero its counters."""
        self.redis.flushall()
        self.redis.config_resetstat()

    def calls(self, command: str) -> int:
        """How often it ran a command since its start or `reset`, in scripts too."""
        return self._counted(command, "calls")

    def microseconds(self, command: str) -> int:
        """What it has spent on a command since its start or `reset`, with what its scripts did."""
        return self._counted(command, "usec")

    def pace(self) -> int:
        """Microseconds of a loop that is always the same: more while a neighbour slows the core."""
        before = self.microseconds("eval")
        self.redis.eval(LOOP, 0)
        return self.microseconds("eval") - before

    def main_thread(self) -> float:
        """CPU seconds of its main thread, user and system."""
        used = self.redis.info("cpu")
        return float(used["used_cpu_user_main_thread"] + used["used_cpu_sys_main_thread"])

    def memory(self) -> int:
        """Bytes of used_memory."""
        return int(self.redis.info("memory")["used_memory"])

    def is_at_rest(self) -> bool:
        """Whether it writes no append-only file anew."""
        return not self.redis.info("persistence")["aof_rewrite_in_progress"]

    def _counted(self, command: str, what: str) -> int:
        return int(self.redis.info("commandstats").get(f"cmdstat_{command}", {}).get(what, 0))


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port: int = server.getsockname()[1]
    return port
