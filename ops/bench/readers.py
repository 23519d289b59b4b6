"""Readers of event streams, as cheap as they can be: they must not be what is measured.

    python -m ops.bench.readers PORT STALLED APART PATH...

opens a stream for each path, says `reading` once every reader has its first event, and in the end
prints one JSON object: see Tally. The first APART readers are not timed, and their sockets hold as
little as they can. The first STALLED of them stop reading then, until all others have come to their
end.
"""

from __future__ import annotations

import asyncio
import re
import socket
import sys
import time
from array import array
from typing import cast

import msgspec
import uvloop

from ops.bench.result import percentile

EVENT = re.compile(rb'id: (\d+)-(\d+)\nevent: (\w+)\ndata: .*?"time":([\d.]+)')
PATIENCE = 300.0


class Tally(msgspec.Struct):
    """What the readers saw.

    Attributes:
        events: of all readers.
        missing: ids that were passed over, and events behind the terminal one; 0 is right.
        ended: readers that got a terminal event.
        p50, p99, worst: milliseconds from Redis's clock to a reader that is timed.
    """

    events: int
    missing: int
    ended: int
    p50: float
    p99: float
    worst: float


class Reader(asyncio.Protocol):
    """One stream, read from its raw bytes; chunk lengths between events do not look like any."""

    delays = array("d")

    def __init__(self, path: str, is_timed: bool) -> None:
        self.path, self.is_timed = path, is_timed
        self.begun, self.ended = asyncio.Event(), asyncio.Event()
        self.events = self.missing = 0
        self._attempt = self._n = 0
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(f"GET {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        """Take whole events."""
        now = time.time()
        whole, found, self._rest = (self._rest + data).rpartition(b"\n\n")
        if not found:
            return
        for attempt, n, kind, moment in EVENT.findall(whole):
            self._take(int(attempt), int(n), kind)
            if self.is_timed:
                self.delays.append(now - float(moment))
        self.begun.set()

    def _take(self, attempt: int, n: int, kind: bytes) -> None:
        if self.ended.is_set() or (attempt == self._attempt and n != self._n + 1):
            self.missing += 1
        self._attempt, self._n = attempt, n
        self.events += 1
        if kind == b"completed":
            self.ended.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Whatever has not come will not come."""
        self.ended.set()


async def read(port: int, stalled: int, apart: int, paths: list[str]) -> Tally:
    """Read every stream to its end."""
    readers = [Reader(path, number >= apart) for number, path in enumerate(paths)]
    for reader in readers:
        await connect(reader, port)
    await asyncio.wait_for(asyncio.gather(*(r.begun.wait() for r in readers)), PATIENCE)
    del Reader.delays[:]
    for reader in readers[:stalled]:
        reader.transport.pause_reading()
    print("reading", flush=True)
    await asyncio.wait_for(asyncio.gather(*(r.ended.wait() for r in readers[stalled:])), PATIENCE)
    for reader in readers[:stalled]:
        reader.transport.resume_reading()
    await asyncio.wait_for(asyncio.gather(*(r.ended.wait() for r in readers)), PATIENCE)
    delays = Reader.delays
    return Tally(
        events=sum(reader.events for reader in readers),
        missing=sum(reader.missing for reader in readers),
        ended=sum(reader.events > 0 and reader.ended.is_set() for reader in readers),
        p50=round(percentile(delays, 0.5) * 1000, 1),
        p99=round(percentile(delays, 0.99) * 1000, 1),
        worst=round(max(delays) * 1000, 1),
    )


async def connect(reader: Reader, port: int) -> None:
    """Open a reader's connection: of those that are not timed with the smallest buffer there is."""
    loop = asyncio.get_running_loop()
    connection = socket.socket()
    connection.setblocking(False)
    if not reader.is_timed:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await loop.sock_connect(connection, ("127.0.0.1", port))
    await loop.create_connection(lambda: reader, sock=connection)


def main() -> None:
    """Read, and tell."""
    port, stalled, apart, *paths = sys.argv[1:]
    tally = uvloop.run(read(int(port), int(stalled), int(apart), paths))
    print(msgspec.json.encode(tally).decode(), flush=True)


if __name__ == "__main__":
    main()
