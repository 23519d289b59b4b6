"""HTTP requests are understood in any pieces, and nonsense is refused."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.simulator.parser import MAX_BODY_BYTES, MAX_HEAD_BYTES, Request, RequestParser
from ops.simulator.rejection import Rejection

POST = b"POST /v1/chat/completions?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
GET = b"GET /v1/models HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def parse(*pieces: bytes) -> list[Request]:
    """Every request in these pieces."""
    parser, found = RequestParser(), []
    for piece in pieces:
        parser.feed(piece)
        while request := parser.next_request():
            found.append(request)
    return found


@given(st.lists(st.integers(0, len(POST + GET)), max_size=8).map(sorted))
def test_pieces_do_not_matter(cuts: list[int]) -> None:
    """Two pipelined requests are the same two, wherever the network cuts them."""
    both = POST + GET
    edges = [0, *cuts, len(both)]
    post, get = parse(*(both[a:b] for a, b in pairwise(edges)))
    assert (post.method, post.path, post.body) == ("POST", "/v1/chat/completions", b"body")
    assert (get.method, get.path, get.body) == ("GET", "/v1/models", b"")
    assert post.keeps_alive
    assert not get.keeps_alive


REFUSED = [
    (b"\x16\x03\x01 hello\r\n\r\n", 400),
    (b"GET /\r\n\r\n", 400),
    (b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", 505),
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nname : value\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1), 413),
    (b"GET / HTTP/1.1\r\nX: " + b"x" * MAX_HEAD_BYTES, 431),
]


@pytest.mark.parametrize(("sent", "status"), REFUSED)
def test_what_is_no_request_is_refused(sent: bytes, status: int) -> None:
    """Each kind of nonsense has its status."""
    with pytest.raises(Rejection) as caught:
        parse(sent)
    assert caught.value.status == status


def test_a_waiting_client_is_noticed_once() -> None:
    """`Expect: 100-continue` asks for one interim answer while the body is missing."""
    parser = RequestParser()
    parser.feed(POST.replace(b"\r\n\r\nbody", b"\r\nExpect: 100-continue\r\n\r\n"))
    assert parser.next_request() is None
    assert [parser.take_continue(), parser.take_continue()] == [True, False]
