"""The calls themselves: real sockets, a canary that must hear nothing, a resolver that lies."""

from __future__ import annotations

import ipaddress
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.gateways import NO_TLS
from tests.receiver import Receiver, Reply, receiving
from worker.webhooks import MAX_ANSWER, Answer, Courier

LOCAL = [ipaddress.ip_network("127.0.0.0/8")]
HEADERS = {"webhook-id": "msg_1"}
CONNECTIONS: list[Any] = []
"""Every address that this thread, the event loop's, connects to while `counted` is in use."""

_counting = 0
"""The thread; others are of tests before this, such as what exports their spans."""


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _counting == threading.get_ident() and event == "socket.connect":
        CONNECTIONS.append(arguments[1])
        if not str(arguments[1][0]).startswith("127."):
            raise PermissionError("a test calls nobody but this machine")


sys.addaudithook(_audit)


@pytest.fixture
def counted() -> Iterator[list[Any]]:
    """Connections this thread makes, whoever answers."""
    global _counting
    CONNECTIONS.clear()
    _counting = threading.get_ident()
    yield CONNECTIONS
    _counting = 0


@pytest.fixture
def canary() -> Iterator[Receiver]:
    """Somebody on this machine who must not be called."""
    yield from receiving()


class Liar:
    """A resolver that gives each answer once, and then the last for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


async def post(url: str, **options: Any) -> Answer:
    """One call by a courier with these options."""
    courier = Courier(3, **{"trust": NO_TLS, **options})
    try:
        return await courier.post(url, b"{}", HEADERS)
    finally:
        await courier.close()


LITERALS = """
127.0.0.1 127.0.0.2 127.1 127.0.1 2130706433 0x7f000001 0x7f.0.0.1 0177.0.0.1 017700000001 0
0.0.0.0 127.0.0.1. 10.0.0.1 100.64.0.1 169.254.169.254 2852039166 0xa9fea9fe 172.16.0.1 192.0.0.8
192.0.2.1 192.88.99.1 192.168.0.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 240.0.0.1
255.255.255.255 [::1] [::] [::ffff:127.0.0.1] [::ffff:7f00:1] [::127.0.0.1] [::ffff:0:127.0.0.1]
[64:ff9b::127.0.0.1] [64:ff9b:1::127.0.0.1] [2002:7f00:1::] [2001:0:4136:e378:8000:63bf:80ff:fffe]
[2001:db8::1] [100::1] [3fff::1] [5f00::1] [fc00::1] [fd00:ec2::254] [fe80::1] [fec0::1] [ff02::1]
[ff0e::1] [4000::1] localhost LOCALHOST localhost.
"""

ODD = [
    "\u2460\u2461\u2466.\u24ea.\u24ea.\u2460",
    "127\u30020\u30020\u30021",
    "\uff11\uff12\uff17.\uff10.\uff10.\uff11",
]
"""Digits and dots that name resolution takes for ours."""

RESOLVED = """
127.0.0.1 ::1 ::ffff:127.0.0.1 10.0.0.1 169.254.169.254 fd00:ec2::254 64:ff9b::7f00:1
2002:7f00:1:: fe80::1%lo 224.0.0.1 0.0.0.0 100.64.0.1
"""


@pytest.mark.parametrize("host", [*LITERALS.split(), *ODD])
async def test_no_form_of_a_special_address_is_called(
    host: str, canary: Receiver, counted: list[Any]
) -> None:
    """However an address is written: nothing is connected, though http is allowed."""
    answer = await post(f"http://{host}:{canary.port}/", http=True)
    assert answer.status is None
    assert answer.error
    assert counted == []
    assert canary.received == []


@pytest.mark.parametrize("address", RESOLVED.split())
async def test_no_name_leads_to_a_special_address(
    address: str, canary: Receiver, counted: list[Any]
) -> None:
    """A name that resolves to one, alone or beside a global one, is not called at all."""
    for answers in ([address], ["8.8.8.8", address], [address, "8.8.8.8"]):
        url = f"http://hook.example:{canary.port}/"
        answer = await post(url, http=True, resolver=Liar(answers))
        assert "open internet" in answer.error or "zone" in answer.error
        assert not answer.lasting
    assert counted == []


@pytest.mark.parametrize(
    "url",
    ["http://8.8.8.8@127.0.0.1:{port}/", "http://127.0.0.1:{port}#@8.8.8.8/",
     "http://127.0.0.1:{port}\\@8.8.8.8/", "http://8.8.8.8:80@127.0.0.1:{port}/",
     "https://127.0.0.1:{port}/", "ftp://127.0.0.1:{port}/", "file:///etc/passwd", "//127.0.0.1/",
     "gopher://127.0.0.1:{port}/", "http:127.0.0.1:{port}", "http://[::1%25lo]:{port}/",
     "http://[127.0.0.1]:{port}/", "http://127.0.0.1:{port}:80/", "http:///x", ""],
)  # fmt: skip
async def test_no_odd_url_leads_astray(url: str, canary: Receiver, counted: list[Any]) -> None:
    """What readers of URLs disagree on is refused, or read as the address that it is."""
    answer = await post(url.format(port=canary.port), http=True)
    assert answer.status is None
    assert answer.error
    assert counted == []


async def test_a_name_that_is_bound_anew_is_called_where_it_was_checked(
    canary: Receiver, counted: list[Any]
) -> None:
    """A call resolves once: the second answer, which is private, is never asked for or used."""
    liar = Liar(["127.0.0.9"], ["127.0.0.1"])
    url = f"http://hook.example:{canary.port}/"
    courier = Courier(3, http=True, allowed=[ipaddress.ip_network("127.0.0.9")], resolver=liar)
    first = await courier.post(url, b"{}", HEADERS)
    assert liar.asked == 1
    assert first.status is None
    assert counted == [("127.0.0.9", canary.port)]
    counted.clear()
    second = await courier.post(url, b"{}", HEADERS)
    assert "127.0.0.1 is not on the open internet" in second.error
    assert counted == []
    assert canary.received == []
    await courier.close()


async def test_the_canary_would_hear_a_call(canary: Receiver, counted: list[Any]) -> None:
    """The control of all tests above: with its network allowed, the canary is called."""
    answer = await post(canary.url, http=True, allowed=LOCAL)
    assert answer == Answer(200)
    assert len(canary.received) == 1
    assert counted == [("127.0.0.1", canary.port)]


async def test_what_no_try_can_make_good_is_said_to_last(
    canary: Receiver, counted: list[Any]
) -> None:
    """Plain http, and a special address itself: refused before anything is resolved."""
    liar = Liar(["127.0.0.1"])
    plain = await post(canary.url, allowed=LOCAL, resolver=liar)
    special = await post(f"https://10.0.0.1:{canary.port}/", resolver=liar)
    assert plain.lasting
    assert special.lasting
    assert "https" in plain.error
    assert (liar.asked, counted) == (0, [])


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
async def test_a_redirect_is_a_failure_and_leads_nowhere(status: int, canary: Receiver) -> None:
    """Where a redirect points to is not called, though it would be allowed."""
    reply = Reply(status, {"location": canary.url})
    with Receiver([reply]) as receiver:
        answer = await post(receiver.url, http=True, allowed=LOCAL)
    assert answer.status == status
    assert answer.error
    assert canary.received == []


async def test_no_proxy_of_the_environment_is_used(
    canary: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy could go where this worker must not."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, canary.url)
    with Receiver() as receiver:
        assert await post(receiver.url, http=True, allowed=LOCAL) == Answer(200)
        assert len(receiver.received) == 1
    assert canary.received == []


async def test_an_answer_counts_by_its_status_and_is_not_read_to_its_end() -> None:
    """An endless body costs nothing: its status is known."""
    with Receiver([Reply(200, body=b"x" * MAX_ANSWER * 200)]) as receiver:
        assert await post(receiver.url, http=True, allowed=LOCAL) == Answer(200)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(500), "the endpoint answered 500: not a success"),
        (Reply(drops=True), "Server disconnected without sending a response."),
        (Reply(hangs=True), "no answer within 0.3 s"),
    ],
)
async def test_a_bad_receiver_is_an_answer_too(reply: Reply, error: str) -> None:
    """Statuses, dropped connections and silence end in one line of ours."""
    with Receiver([reply]) as receiver:
        courier = Courier(0.3, http=True, allowed=LOCAL)
        answer = await courier.post(receiver.url, b"{}", HEADERS)
        await courier.close()
    assert answer.error == error


async def test_what_the_endpoint_asks_to_wait_is_heard() -> None:
    """Retry-After in seconds or as a date, within a day."""
    with Receiver([Reply(503, {"retry-after": "7"}), Reply(429, {"retry-after": "9999999"})]) as it:
        first = await post(it.url, http=True, allowed=LOCAL)
        second = await post(it.url, http=True, allowed=LOCAL)
    assert (first.retry_after, second.retry_after) == (7, 86_400)


async def test_the_second_address_is_tried_when_the_first_is_deaf() -> None:
    """A name with two addresses works while one of them does."""
    with Receiver() as receiver:
        url = f"http://hook.example:{receiver.port}/x?y=1"
        resolver = Liar(["127.0.0.9", "127.0.0.1"])
        answer = await post(url, http=True, allowed=LOCAL, resolver=resolver)
        (call,) = receiver.received
    assert answer == Answer(200)
    assert call.headers["host"] == f"hook.example:{receiver.port}"


class Certificates:
    """An authority of our own, and a server's certificate for some names."""

    def __init__(self, directory: Path, names: str) -> None:
        self.certificate, self.key = directory / "cert.pem", directory / "key.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-keyout", self.key, "-out", self.certificate, "-days", "2",
             "-subj", "/CN=test", "-addext", f"subjectAltName={names}"],
            check=True, capture_output=True,
        )  # fmt: skip

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate))


async def test_name_and_certificate_stay_those_of_the_url(tmp_path: Path) -> None:
    """The address is pinned, and TLS still asks for the name: another name's server is refused."""
    certificates = Certificates(tmp_path, "DNS:hook.example")
    asked: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.certificate, certificates.key)
    context.sni_callback = lambda _, name, __: asked.append(name)
    with Receiver(tls=context) as receiver:
        options = {"allowed": LOCAL, "trust": certificates.trust, "resolver": Liar(["127.0.0.1"])}
        good = await post(f"https://hook.example:{receiver.port}/", **options)
        bad = await post(f"https://other.example:{receiver.port}/", **options)
        assert len(receiver.received) == 1
    assert good == Answer(200)
    assert asked == ["hook.example", "other.example"]
    assert "certificate verify failed" in bad.error
