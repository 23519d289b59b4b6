"""Ask the server behind a Unix socket whether it is ready, in two lines of its protocol."""

from __future__ import annotations

import enum
import socket
import struct
from pathlib import Path

ANSWER_TIMEOUT = 1.0
"""Seconds to wait for a reply: a healthy server answers a PING in under a millisecond."""

PEER_CREDENTIALS = struct.Struct("3i")
"""`struct ucred` of unix(7): pid, uid, gid."""


class Answer(enum.Enum):
    """What a PING brought."""

    READY = "ready"
    LOADING = "loading"
    SILENT = "silent"


def ping(path: Path) -> Answer:
    """PING the server. Errors other than LOADING (NOAUTH, BUSY …) come from a server that is up."""
    try:
        with _connect(path) as connection:
            connection.sendall(b"PING\r\n")
            reply = connection.recv(256)
    except OSError:
        return Answer.SILENT
    if not reply:
        return Answer.SILENT
    return Answer.LOADING if reply.startswith(b"-LOADING") else Answer.READY


def listener(path: Path) -> int | None:
    """The pid of the process that listens on the socket, from the kernel; None if nobody does."""
    try:
        with _connect(path) as connection:
            credentials = connection.getsockopt(
                socket.SOL_SOCKET, socket.SO_PEERCRED, PEER_CREDENTIALS.size
            )
    except OSError:
        return None
    pid: int = PEER_CREDENTIALS.unpack(credentials)[0]
    return pid or None


def _connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(ANSWER_TIMEOUT)
    try:
        connection.connect(str(path))
    except OSError:
        connection.close()
        raise
    return connection
