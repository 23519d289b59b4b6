"""A headless Chromium that shows one page, and the server that page comes from."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.examples import ROOT, blocks

PAGE = Path(__file__).with_name("page.html")
DOCUMENT = ROOT / "docs" / "http-api.md"

GAP = "// THE EXAMPLE OF docs/http-api.md"
"""In the page, for what the document tells a page to do."""

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
REQUIRED = bool(os.environ.get("BROWSER_REQUIRED"))
"""Set where a missing browser shall fail: see .ci/run."""


def page() -> str:
    """The page, with the example of the document in it."""
    (example,) = (block.text for block in blocks(DOCUMENT) if block.language == "js")
    text = PAGE.read_text()
    assert GAP in text
    return text.replace(GAP, example)


class PageServer(ThreadingHTTPServer):
    """Serves the page, and hears what it shows.

    Attributes:
        events: the path of a job's events, with a token that the page's own server asked for.
        reports: what the page told; one may overtake another.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), partial(_Handler))
        self.events = ""
        self.reports: list[dict[str, Any]] = []

    @property
    def origin(self) -> str:
        """Where the page comes from, as browsers say it."""
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: PageServer

    def do_GET(self) -> None:
        if self.path.startswith("/my-backend/token?"):
            self._answer(json.dumps({"events": self.server.events}).encode())
        else:
            self._answer(page().encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.reports.append(json.loads(body))
        self._answer(b"")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@contextmanager
def page_server() -> Iterator[PageServer]:
    """Serve the page until the end of the block."""
    with PageServer() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@contextmanager
def browser(url: str, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Show a page; it reaches nothing but this machine."""
    assert CHROMIUM
    process = subprocess.Popen(
        [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
         "--no-first-run", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--no-proxy-server", "--remote-debugging-port=0",
         "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
         f"--user-data-dir={directory}", url],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)
