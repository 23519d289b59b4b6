"""How much the simulator can feed: tokens per CPU second of its process, and what pacing costs.

    python -m ops.bench.simulator_rate

The simulator and the reader are separate processes. The reader counts the streams that ended whole;
the tokens are those the simulator reports, its CPU time is what the kernel charged to it (user and
system), read from /proc. What this does not show: the cost of a client that parses what it reads.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import uvloop

TICKS = os.sysconf("SC_CLK_TCK")
WHOLE = b"\r\n0\r\n\r\n"


class Reader(asyncio.Protocol):
    """Asks the same again and again, and throws the answers away."""

    def __init__(self, request: bytes, deadline: float) -> None:
        self._request = request
        self._deadline = deadline
        self._tail = b""
        self.whole = 0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        self._tail = (self._tail + data[-8:])[-8:]
        if not self._tail.endswith(WHOLE):
            return
        self.whole += 1
        self._tail = b""
        if time.monotonic() < self._deadline:
            self._transport.write(self._request)
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        self.done.set_result(None)


def request(number: int, simulate: dict[str, object]) -> bytes:
    """A chat request as bytes; each connection asks something else."""
    messages = [{"role": "user", "content": f"question {number}"}]
    body = json.dumps({"messages": messages, "stream": True, "simulate": simulate}).encode()
    line = b"POST /v1/openai/chat/completions HTTP/1.1\r\n"
    return line + b"host: simulator\r\ncontent-length: %d\r\n\r\n" % len(body) + body


async def read(port: int, connections: int, seconds: float, simulate: dict[str, object]) -> int:
    """Read for so long on so many connections; the number of whole answers."""
    loop, deadline = asyncio.get_running_loop(), time.monotonic() + seconds
    readers = []
    for number in range(connections):
        asks = partial(Reader, request(number, simulate), deadline)
        _, reader = await loop.create_connection(asks, "127.0.0.1", port)
        readers.append(reader)
    await asyncio.gather(*(reader.done for reader in readers))
    return sum(reader.whole for reader in readers)


@contextmanager
def simulator() -> Iterator[tuple[int, int]]:
    """A simulator process: (pid, port)."""
    command = [sys.executable, "-m", "ops.simulator", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None  # noqa: S101 - it is a pipe
        found = re.search(r":(\d+)/", process.stderr.readline())
        assert found is not None  # noqa: S101 - the line the simulator always prints
        try:
            yield process.pid, int(found[1])
        finally:
            process.terminate()


def cpu(pid: int) -> float:
    """CPU seconds of a process so far, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def measure(title: str, connections: int, seconds: float, simulate: dict[str, object]) -> None:
    """One line of the table."""
    with simulator() as (pid, port):
        used, began = cpu(pid), time.monotonic()
        whole = uvloop.run(read(port, connections, seconds, simulate))
        used, wall = cpu(pid) - used, time.monotonic() - began
        stats = f"http://127.0.0.1:{port}/simulator/stats"
        tokens = json.load(urllib.request.urlopen(stats))["tokens"]
    print(
        f"{title:38} {connections:5} connections  {whole:6} answers  {tokens:9} tokens  "
        f"{wall:5.1f} s wall  {used:5.2f} s CPU  {tokens / used:9.0f} tokens/CPU-s  "
        f"{100 * used / wall:3.0f} % of a core"
    )


def main() -> None:
    """Print the table."""
    print(f"{os.cpu_count()} cores, {platform.platform()}, Python {platform.python_version()}")
    measure("no pacing, 200 tokens an answer", 100, 5, {"tokens": 200})
    measure("no pacing, 2000 tokens an answer", 100, 5, {"tokens": 2000})
    measure("20 tokens/s, 200 tokens an answer", 2000, 9, {"tokens": 200, "gap": 0.05})


if __name__ == "__main__":
    main()
