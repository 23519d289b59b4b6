"""Somebody who receives webhooks: real HTTP, with answers and misbehaviour of a test's choosing."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, NamedTuple

from tests.waiting import until

ALLOWED = {"PENSTOCK_WEBHOOK_HTTP": "true", "PENSTOCK_WEBHOOK_ALLOW": "127.0.0.0/8"}
"""What a worker's environment needs so that it calls a receiver of this machine."""


class Received(NamedTuple):
    """One call."""

    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Reply(NamedTuple):
    """How to answer: a status and headers, or by dropping the connection or hanging."""

    status: int = 200
    headers: Mapping[str, str] = MappingProxyType({})
    body: bytes = b""
    drops: bool = False
    hangs: bool = False


class Receiver:
    """Answers each call with the next reply, and all further ones with the last."""

    def __init__(
        self,
        replies: Sequence[Reply] = (Reply(),),
        tls: ssl.SSLContext | None = None,
        port: int = 0,
    ) -> None:
        self.received: list[Received] = []
        self.replies = list(replies)
        self.let_go = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self._server.daemon_threads = True
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def port(self) -> int:
        return int(self._server.server_port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def next_reply(self) -> Reply:
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]

    def until_called(self, times: int = 1, timeout: float = 15) -> list[Received]:
        """Wait until it was called so often."""
        until(lambda: len(self.received) >= times, timeout)
        return self.received

    def __enter__(self) -> Receiver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.received.append(Received(headers, body))
            reply = receiver.next_reply()
            if reply.hangs:
                receiver.let_go.wait(30)
            if reply.drops or reply.hangs:
                self.close_connection = True
                return
            self.send_response(reply.status)
            for name, value in {"content-length": str(len(reply.body)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


def receiving(*replies: Reply) -> Iterator[Receiver]:
    """For fixtures."""
    with Receiver(replies or (Reply(),)) as receiver:
        yield receiver
