"""The native API over real HTTP, with a real worker where an answer is needed."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from penstock import Client, Settings
from penstock.commands import register
from penstock.settings import RouteOverrides, Tenant
from penstock.store import Store
from producers.gateway import telemetry
from producers.gateway.stream import HEARTBEAT
from tests.gateways import GatewayThread, http
from tests.integration.feeds import MESSAGES, Speaker
from tests.processes import Started
from tests.waiting import until
from worker.dispatch import CELERY_VERSION, render_template

BODY = {"messages": MESSAGES}
TEMPLATE = render_template()


@pytest.fixture
def api(gateway: GatewayThread, registered: None) -> Iterator[httpx.Client]:
    """A client of a gateway without keys; jobs are admitted, and run by whoever claims them."""
    with http(gateway.url) as api:
        yield api


def submit(api: httpx.Client, **fields: Any) -> dict[str, Any]:
    answer = api.post("/v1/jobs", json={**BODY, **fields})
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


def events_of(api: httpx.Client, job: str, **options: Any) -> list[dict[str, Any]]:
    """A whole stream, parsed as the specification says; each event is checked against its data."""
    answer = api.get(f"/v1/jobs/{job}/events", **options)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    found = []
    for block in answer.text.split("\n\n")[:-1]:
        lines = [line for line in block.split("\n") if not line.startswith((":", "retry:"))]
        fields = dict(line.split(": ", 1) for line in lines)
        event = json.loads(fields["data"])
        assert (fields["id"], fields["event"]) == (event["id"], event["type"])
        found.append(event)
    return found


def error_of(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of an error, whose body is as documented."""
    error = answer.json()["error"]
    assert set(error) == {"type", "code", "message"}
    return answer.status_code, error["code"]


def test_a_job_goes_in_and_its_events_come_out(
    gateway: GatewayThread, start_worker: Started
) -> None:
    """POST, then the events as they come, then the record with its answer."""
    start_worker()
    with http(gateway.url) as client:
        accepted = client.post("/v1/jobs", json=BODY)
        assert accepted.status_code == 202
        links = accepted.json()["links"]
        assert accepted.headers["location"] == links["self"]
        with client.stream("GET", links["events"]) as stream:
            kinds = [line for line in stream.iter_lines() if line.startswith("event: ")]
        assert (kinds[0], kinds[-1]) == ("event: queued", "event: completed")
        record = client.get(links["self"]).json()
        waited = client.post("/v1/jobs?wait=30", json=BODY)
    assert record["state"] == waited.json()["state"] == "completed"
    assert record["outcome"]["choices"][0]["message"]["content"]
    assert waited.status_code == 200
    assert waited.json()["outcome"]["object"] == "chat.completion"


def test_waiting_ends_with_its_time(api: httpx.Client) -> None:
    """A job that is not over in time answers 202, and goes on."""
    answer = api.post("/v1/jobs?wait=0.05", json=BODY)
    assert (answer.status_code, answer.json()["state"]) == (202, "admitted")


def test_a_stream_is_joined_anywhere(api: httpx.Client, client: Client) -> None:
    """From the start, behind `after`, behind Last-Event-ID (it goes before), after the end."""
    job = submit(api)["id"]
    speaker = Speaker(client, client.job(job))
    speaker.say("a", "b\n\nc")
    speaker.finish()
    whole = events_of(api, job)
    assert whole == [json.loads(raw) for raw in _stored(client, job)]
    assert events_of(api, job, params={"after": "1-2"}) == whole[3:]
    headers = {"Last-Event-ID": "1-3"}
    assert events_of(api, job, headers=headers, params={"after": "0-1"}) == whole[4:]
    assert api.get(f"/v1/jobs/{job}/events?after={whole[-1]['id']}").status_code == 204
    assert error_of(api.get(f"/v1/jobs/{job}/events?after=x")) == (400, "invalid_request")


def _stored(client: Client, job: str) -> list[bytes]:
    return [entry[1][b"event"] for entry in client.store.redis.xrange(f"penstock:feed:{job}")]


def test_a_silent_stream_beats_without_ending_an_event(
    api: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heartbeats are comments with no blank line, so no parser takes one for an event's end."""
    monkeypatch.setattr("penstock.feed.SILENCE", 0.05)
    job = submit(api)["id"]
    received = b""
    with api.stream("GET", f"/v1/jobs/{job}/events") as stream:
        for chunk in stream.iter_raw():
            received += chunk
            if received.endswith(3 * HEARTBEAT):
                break
    assert received.count(b"\n\n") == received.count(b"data: ") == 1


def test_the_same_key_gives_the_same_job(api: httpx.Client) -> None:
    """As a header and in the body; two that differ, and another body with it, are refused."""
    answers = [
        api.post("/v1/jobs", json=BODY, headers={"Idempotency-Key": "k"}).json() for _ in range(2)
    ]
    assert answers[0]["id"] == answers[1]["id"] == submit(api, idempotency_key="k")["id"]
    other = api.post("/v1/jobs", json={**BODY, "n": 2}, headers={"Idempotency-Key": "k"})
    assert error_of(other) == (422, "idempotency_conflict")
    two = {**BODY, "idempotency_key": "l"}
    both = api.post("/v1/jobs", json=two, headers={"Idempotency-Key": "k"})
    assert error_of(both) == (422, "idempotency_conflict")


def test_jobs_are_listed_in_pages(api: httpx.Client) -> None:
    """Newest first, every job once, filtered by state and metadata; the next page is `next`."""
    jobs = [submit(api, metadata={"n": str(n % 2), "team": "blue"})["id"] for n in range(10)]
    api.post(f"/v1/jobs/{jobs[0]}/cancel")
    assert list(_pages(api, limit=3)) == jobs[::-1]
    assert list(_pages(api, limit=2, metadata=["n=1", "team=blue"])) == jobs[1::2][::-1]
    assert list(_pages(api, limit=2, state="cancelled")) == jobs[:1]
    assert list(_pages(api, limit=2, metadata="team=red")) == []
    assert error_of(api.get("/v1/jobs?after=x")) == (400, "invalid_request")
    assert error_of(api.get("/v1/jobs?metadata=x")) == (400, "invalid_request")
    assert error_of(api.get("/v1/jobs?state=x")) == (400, "invalid_request")


def _pages(api: httpx.Client, **params: Any) -> Iterator[str]:
    after: dict[str, str] = {}
    while True:
        page = api.get("/v1/jobs", params={**params, **after}).json()
        assert len(page["data"]) <= params["limit"]
        assert all("outcome" not in job for job in page["data"])
        yield from (job["id"] for job in page["data"])
        if page["next"] is None:
            return
        after = {"after": page["next"]}


def test_a_job_is_cancelled_and_erased(api: httpx.Client, client: Client) -> None:
    """Waiting at once, running by its worker; only what is over can be erased, and is gone then."""
    job = submit(api, idempotency_key="k")["id"]
    Speaker(client, client.job(job))
    assert api.post(f"/v1/jobs/{job}/cancel").json()["state"] == "running"
    assert error_of(api.delete(f"/v1/jobs/{job}")) == (409, "invalid_transition")
    waiting = submit(api)["id"]
    assert api.post(f"/v1/jobs/{waiting}/cancel").json()["state"] == "cancelled"
    assert api.post(f"/v1/jobs/{waiting}/cancel").status_code == 202
    assert api.delete(f"/v1/jobs/{waiting}").status_code == 204
    assert error_of(api.delete(f"/v1/jobs/{waiting}")) == (404, "job_not_found")
    assert error_of(api.get(f"/v1/jobs/{waiting}")) == (404, "job_not_found")
    assert [key for key in client.store.redis.scan_iter() if waiting.encode() in key] == []
    assert list(_pages(api, limit=10)) == [job]


def test_an_erased_job_frees_its_idempotency_key(api: httpx.Client, client: Client) -> None:
    """Nothing is left that points at it; the same key makes a new job."""
    job = submit(api, idempotency_key="k")["id"]
    client.cancel(job)
    client.erase(job)
    assert submit(api, idempotency_key="k")["id"] != job


def test_a_failed_job_is_run_again_once_for_each_key(api: httpx.Client, client: Client) -> None:
    """A retry that is repeated with its key, however late, does not run the job once more."""
    job = submit(api)["id"]
    Speaker(client, client.job(job)).fail()
    for key in ("one", "two"):
        again = api.post(f"/v1/jobs/{job}/retry", headers={"Idempotency-Key": key})
        assert (again.status_code, again.json()["state"]) == (202, "admitted")
        Speaker(client, client.job(job), holder=key).fail()
    late = api.post(f"/v1/jobs/{job}/retry", headers={"Idempotency-Key": "one"})
    assert (late.status_code, late.json()["state"]) == (202, "failed")
    other = submit(api)["id"]
    assert error_of(api.post(f"/v1/jobs/{other}/retry")) == (409, "invalid_transition")


@pytest.mark.parametrize(
    ("content", "headers", "error"),
    [
        (b"{", {}, (400, "not_json")),
        (b"\xff", {}, (400, "not_json")),
        (b"[" * 100_000, {}, (400, "not_json")),
        (b"[]", {}, (400, "not_an_object")),
        (b"", {}, (400, "invalid_request")),
        (b'{"messages":[]}', {}, (400, "invalid_request")),
        (b'{"messages":[{"role":"user","content":"x"}],"self":1,"route":"x"}', {},
         (404, "unknown_route")),
        (b'{"messages":[{"role":"user","content":"x"}],"tenant":7}', {}, (400, "invalid_request")),
        (b"{}", {"Content-Type": "text/plain"}, (415, "not_json")),
        (b"{}", {"Idempotency-Key": "k" * 256}, (400, "invalid_request")),
        (b" " * (8 * 2**20 + 1), {}, (413, "request_too_large")),
    ],
)  # fmt: skip
def test_a_wrong_body_is_answered_in_words(
    api: httpx.Client, content: bytes, headers: dict[str, str], error: tuple[int, str]
) -> None:
    """Each mistake has its status and code, and nothing is stored."""
    given = {"Content-Type": "application/json", **headers}
    assert error_of(api.post("/v1/jobs", content=content, headers=given)) == error
    assert api.get("/v1/jobs").json()["data"] == []


def test_a_body_without_a_length_is_counted_while_it_comes(api: httpx.Client) -> None:
    """A chunked body is refused as soon as it is over 8 MiB, not when it ends."""

    def endless() -> Iterator[bytes]:
        while True:
            yield b" " * 65_536

    try:
        answer = api.post(
            "/v1/jobs", content=endless(), headers={"Content-Type": "application/json"}
        )
    except httpx.WriteError:
        return  # the gateway closed the connection while we were still sending
    assert error_of(answer) == (413, "request_too_large")


def test_unknown_paths_and_methods_are_errors_like_others(api: httpx.Client) -> None:
    """The framework's own refusals have the documented body and the security headers too."""
    missing, wrong = api.get("/v1/nothing"), api.put("/v1/jobs")
    assert (error_of(missing), error_of(wrong)) == ((404, "no_such_path"), (405, "no_such_method"))
    assert missing.json()["error"]["message"].startswith("there is nothing at this path; ")
    assert wrong.json()["error"]["message"].startswith("this path does not take PUT; ")
    assert wrong.headers["allow"] == "GET, POST"
    assert api.post("/v1/openapi.json").headers["allow"] == "GET"
    for answer in (missing, wrong, api.get("/v1/jobs")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "server" not in answer.headers
        assert "access-control-allow-origin" not in answer.headers


def test_a_gateway_without_its_server_says_so_without_saying_where(
    settings: Settings,
) -> None:
    """503 with Retry-After; the body names no host, and comes soon."""
    away = settings.model_copy(update={"redis_url": "redis://me:secret@127.0.0.1:1/0"})
    with GatewayThread(away) as gateway, http(gateway.url) as api:
        answer = api.get("/v1/jobs")
    assert error_of(answer) == (503, "queue_unavailable")
    assert answer.headers["retry-after"] == "1"
    assert "127.0.0.1" not in answer.text


@pytest.mark.parametrize("forbidden", ["-evalsha", "-hget"], ids=["a script", "inside a script"])
def test_a_queue_that_refuses_the_gateway_says_so_without_internals(
    settings: Settings, store: Store, forbidden: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """503 with Retry-After, also in OpenAI's shape; the log alone says what Redis said."""
    user = ["ACL", "SETUSER", "bounded", "on", ">secret", "~*", "&*", "+@all"]
    store.redis.execute_command(*user)
    url = settings.server_url.replace("unix://", "unix://bounded:secret@")
    try:
        bounded = settings.model_copy(update={"redis_url": url})
        with GatewayThread(bounded) as gateway, http(gateway.url) as api:
            assert api.get("/v1/jobs").status_code == 200
            store.redis.execute_command("ACL", "SETUSER", "bounded", forbidden)
            answers = [
                api.post("/v1/jobs", json=BODY),
                api.post("/v1/chat/completions", json=BODY),
            ]
    finally:
        store.redis.acl_deluser("bounded")
    assert error_of(answers[0]) == (503, "queue_refused")
    for answer in answers:
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
        assert not {"bounded", "NOPERM", "unix"} & set(re.split(r"\W", answer.text))
    assert "queue_refused" in "".join(capsys.readouterr())


def test_a_waiting_job_says_how_long_it_will_wait(store: Store, settings: Settings) -> None:
    """Its place in the line, and no outlook once it has a worker, or in a list."""
    one = settings.applying({"default": RouteOverrides(concurrency=1)}, {})
    store.run(register(TEMPLATE, CELERY_VERSION, one.resolved_routes, {}))
    with GatewayThread(settings) as gateway, http(gateway.url) as api:
        first, _, third = (submit(api)["id"] for _ in range(3))
        assert api.get(f"/v1/jobs/{first}").json()["outlook"] is None
        assert api.get(f"/v1/jobs/{third}").json()["outlook"] == {"position": 2, "wait": None}
        assert all("outlook" not in job for job in api.get("/v1/jobs").json()["data"])


def test_everything_wrong_with_a_request_is_told_at_once(api: httpx.Client) -> None:
    """A missing field of the body beside a wrong option, in words that are ours."""
    wrong = api.post("/v1/jobs", json={"priority": 10, "webhook": {"url": "x"}, "n": "2"})
    assert wrong.json()["error"]["message"] == (
        "invalid request: priority: must be 9 or less; webhook.url: is no webhook's URL; "
        "messages: is missing; n: must be a whole number"
    )
    query = api.get("/v1/jobs", params={"limit": "many", "after": "x", "state": "y"})
    said = query.json()["error"]["message"]
    assert "limit: must be a whole number" in said
    assert not re.search(r"Input|String|Value|pattern", said)


def test_every_path_names_a_parameter_that_it_does_not_have(api: httpx.Client) -> None:
    """All of the document's, but for hooks, whose senders sign first; and the document itself."""
    paths: dict[str, list[str]] = {"/v1/openapi.json": ["get"]}
    paths |= {path: [*item] for path, item in api.get("/v1/openapi.json").json()["paths"].items()}
    del paths["/v1/hooks/{name}"]
    assert len(paths) > 10
    for path, methods in paths.items():
        for method in methods:
            answer = api.request(method, path.replace("{id}", "x"), params={"unheard": 1})
            told = answer.json()["error"]
            assert (answer.status_code, told["code"]) == (400, "unknown_parameter"), (method, path)
            assert told["message"].startswith("unheard: ")


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        (b'{"messages":[],"n":1e999}', "number_out_of_range", "1.8e308"),
        (b'{"messages":[],"x":"\\ud800"}', "not_json", "half a character"),
        (b'{"messages":', "not_json", "valid JSON in UTF-8"),
    ],
)
def test_what_cannot_be_read_is_told_apart(
    api: httpx.Client, content: bytes, code: str, says: str
) -> None:
    """JSON whose number no computer holds, half a character, and what is no JSON at all."""
    answer = api.post("/v1/jobs", content=content, headers={"Content-Type": "application/json"})
    assert error_of(answer) == (400, code)
    assert says in answer.json()["error"]["message"]


def test_a_request_that_dawdles_is_refused(settings: Settings) -> None:
    """A body that does not come in within gateway_timeout is a 408, and no connection stays."""
    hasty = settings.model_copy(update={"gateway_timeout": 1.0})
    with GatewayThread(hasty) as gateway:
        slow = socket.create_connection(gateway.address, timeout=10)
        with slow:
            slow.sendall(
                b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                b"Content-Length: 100\r\n\r\n{"
            )
            received = b""
            while chunk := slow.recv(65_536):
                received += chunk
    assert received.startswith(b"HTTP/1.1 408 ")
    assert b'"request_timeout"' in received


def test_a_queue_that_dawdles_is_not_the_senders_fault(settings: Settings, store: Store) -> None:
    """Whoever has said all, or has nothing to say, gets 504: not asked to send it faster."""
    hasty = settings.model_copy(update={"gateway_timeout": 0.3})
    with GatewayThread(hasty) as gateway, http(gateway.url) as api:
        assert api.get("/v1/jobs").status_code == 200
        store.redis.client_pause(60_000, all=False)
        try:
            native = [api.get("/v1/jobs"), api.post("/v1/jobs", json=BODY)]
            others = api.post("/v1/chat/completions", json=BODY)
        finally:
            store.redis.client_unpause()
    assert [error_of(answer) for answer in native] == [(504, "too_slow")] * 2
    assert (others.status_code, others.json()["error"]["code"]) == (504, "too_slow")


def test_a_head_that_dawdles_is_refused(settings: Settings) -> None:
    """A half head is a 408 after gateway_timeout, a second one too; silence is an end."""
    hasty = settings.model_copy(update={"gateway_timeout": 0.5})
    with GatewayThread(hasty) as gateway:
        said = [b"GET /v1/jobs HTTP/1.1\r\nHost: 127", WHOLE + b"GET /v1/jo", b""]
        slow = [socket.create_connection(gateway.address, timeout=10) for _ in said]
        for connection, text in zip(slow, said, strict=True):
            connection.sendall(text)
        half, second, silent = [to_the_end(connection) for connection in slow]
    assert half.startswith(b"HTTP/1.1 408 ")
    assert b'"request_timeout"' in half
    assert second.startswith(b"HTTP/1.1 404 ")
    assert b"HTTP/1.1 408 " in second
    assert silent == b""


@pytest.mark.parametrize("end", [b"\r\n\r\n", b""])
def test_a_head_that_is_large_is_refused(gateway: GatewayThread, end: bytes) -> None:
    """Over 64 KiB of headers is a 431, whether they end or not, and the connection is closed."""
    large = socket.create_connection(gateway.address, timeout=10)
    large.sendall(HEAD + b"X: " + b"x" * 66_000 + end)
    received = to_the_end(large)
    assert received.startswith(b"HTTP/1.1 431 ")
    assert b'"head_too_large"' in received
    assert b"x-content-type-options: nosniff" in received


def test_a_large_head_is_refused_in_the_shape_of_its_path(gateway: GatewayThread) -> None:
    """A client of OpenAI's API reads an error like every other one there."""
    large = socket.create_connection(gateway.address, timeout=10)
    large.sendall(b"GET /v1/models?x=1 HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 66_000)
    _, _, body = to_the_end(large).partition(b"\r\n\r\n")
    assert json.loads(body)["error"].keys() == {"message", "type", "param", "code"}


def test_a_head_without_end_is_cut_off(gateway: GatewayThread) -> None:
    """Who sends a header of 64 MiB does not get far."""
    with socket.create_connection(gateway.address, timeout=10) as endless:
        endless.sendall(HEAD)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            endless.sendall(b"X: " + b"x" * 64 * 1024 * 1024)


@pytest.mark.parametrize(
    "endless", [b"2\r\n{}\r\n0\r\nX: ", b"2;x="], ids=["trailer", "chunk extension"]
)
def test_what_is_around_a_body_has_an_end(gateway: GatewayThread, endless: bytes) -> None:
    """Over 64 KiB without a byte of body end the connection, long before gateway_timeout."""
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(gateway.address, timeout=10) as sender:
        sender.sendall(head + endless)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            sender.sendall(b"x" * 64 * 1024 * 1024)


def test_a_body_in_small_chunks_is_taken(api: httpx.Client) -> None:
    """The framing of each chunk is larger than what is in it."""
    body = b'{"messages": [{"role": "user", "content": "' + b"x" * 20_000 + b'"}]}'
    pieces = (body[at : at + 1] for at in range(len(body)))
    sent = api.post("/v1/jobs", content=pieces, headers={"content-type": "application/json"})
    assert sent.status_code == 202


def test_a_head_of_nearly_the_size_passes(api: httpx.Client) -> None:
    """What is just within is taken, and the connection is used again."""
    for _ in range(2):
        assert api.get("/v1/jobs", headers={"x-large": "x" * 65_000}).status_code == 200


def test_what_is_no_http_is_refused_in_our_own_words(gateway: GatewayThread) -> None:
    """A 400 with the native body."""
    stranger = socket.create_connection(gateway.address, timeout=10)
    stranger.sendall(b"\x16\x03\x01 hello\r\n\r\n")
    received = to_the_end(stranger)
    assert received.startswith(b"HTTP/1.1 400 ")
    assert b'"not_http"' in received


HEAD = b"GET /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\n"
WHOLE = b"GET /nothing HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def to_the_end(connection: socket.socket) -> bytes:
    with connection:
        return b"".join(iter(lambda: connection.recv(65_536), b""))


def test_a_reader_that_stalls_catches_up_and_loses_nothing(
    gateway: GatewayThread, client: Client, registered: None
) -> None:
    """Its socket is full, it falls behind, and what it missed comes from the Stream, in order."""
    job = client.submit(MESSAGES)
    speaker = Speaker(client, job)
    behind = telemetry.BEHIND._value.get()
    with socket.socket() as stalled:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.settimeout(10)
        stalled.connect(gateway.address)
        stalled.sendall(
            b"GET /v1/jobs/%s/events HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n" % job.id.encode()
        )
        received = stalled.recv(1)
        said = 0
        while telemetry.BEHIND._value.get() == behind:
            assert (said := said + 50) < 5000, "no socket is so large"
            speaker.say(*["x" * 4096] * 50)
        speaker.finish()
        received += b"".join(iter(lambda: stalled.recv(1024 * 1024), b""))
    cursors = [id_.decode() for id_ in re.findall(rb"^id: (.*)$", received, re.MULTILINE)]
    assert cursors == ["0-1", *(f"1-{n}" for n in range(1, said + 3))]
    assert received.count(b"x" * 4096) == said


MISSPELT = {"headers": {"X-Penstock-Prority": "9"}}


@pytest.mark.parametrize(
    ("method", "path", "more", "named"),
    [
        ("GET", "/v1/jobs?status=failed", {}, "status"),
        ("POST", "/v1/jobs?Wait=3", {"json": BODY}, "Wait"),
        ("POST", "/v1/responses?foo=1", {"json": {"input": "Hi"}}, "foo"),
        ("POST", "/v1/jobs", {"json": BODY, "headers": {"X-Penstock-Priority": "9"}}, "x-penstock"),
        ("POST", "/v1/jobs/{job}/cancel", {"json": {"reason": "enough"}}, "reason"),
        ("POST", "/v1/jobs/{job}/retry", {"json": {"force": True}}, "force"),
        ("POST", "/v1/responses/{response}/cancel", {"json": {"reason": "enough"}}, "reason"),
        ("GET", "/v1/jobs?metadata=nothing", {}, "metadata: "),
        ("GET", "/v1/models", MISSPELT, "x-penstock-prority: is unknown"),
        ("GET", "/v1/models/m", MISSPELT, "x-penstock-prority: is unknown"),
        ("GET", "/v1/responses/{response}", MISSPELT, "x-penstock-prority: is unknown"),
        ("POST", "/v1/responses/{response}/cancel", MISSPELT, "x-penstock-prority: is unknown"),
        ("DELETE", "/v1/responses/{response}", MISSPELT, "x-penstock-prority: is unknown"),
        ("GET", "/v1/responses/{response}?starting_after=3", {}, "starting_after: "),
        ("POST", "/v1/chat/completions",
         {"json": {"model": "m", **BODY}, "headers": {"idempotency-key": ""}}, "idempotency_key"),
    ],
)  # fmt: skip
def test_what_nobody_would_hear_is_refused_by_name(
    api: httpx.Client, method: str, path: str, more: dict[str, Any], named: str
) -> None:
    """Unknown parameters, headers and bodies are a 400: never ignored in silence."""
    job = submit(api)["id"]
    path = path.format(job=job, response=job.replace("job_", "resp_"))
    answer = api.request(method, path, **more)
    assert answer.status_code == 400, answer.text
    assert named in answer.json()["error"]["message"]
    assert api.get(f"/v1/jobs/{job}").json()["state"] == "admitted"


def test_a_library_may_send_its_options_with_every_request(api: httpx.Client) -> None:
    """Those that there are pass where nothing is asked, as a library's own default headers."""
    headers = {"X-Penstock-Priority": "9", "X-Penstock-On-Disconnect": "continue"}
    response = submit(api)["id"].replace("job_", "resp_")
    for method, path in (("GET", ""), ("POST", "/cancel"), ("DELETE", "")):
        answer = api.request(method, f"/v1/responses/{response}{path}", headers=headers)
        assert answer.status_code == 200, answer.text
    assert api.get("/v1/models", headers=headers).status_code == 200


def test_a_tenant_may_have_so_many_jobs_waiting(api: httpx.Client, store: Store) -> None:
    """max_waiting counts what waits, delayed ones too; what runs or is over makes room."""
    settings = Settings.load()
    tenants = {"*": Tenant(max_waiting=2)}
    _register(store, settings, tenants)
    jobs = [submit(api, delay=100)["id"] for _ in range(2)]
    refused = api.post("/v1/jobs", json=BODY)
    assert error_of(refused) == (429, "too_many_waiting")
    assert refused.headers["retry-after"]
    api.post(f"/v1/jobs/{jobs[0]}/cancel")
    running = submit(api)  # is admitted at once, so it waits no longer
    assert api.get(running["links"]["self"]).json()["state"] == "admitted"
    submit(api, delay=100)
    assert api.post("/v1/jobs", json=BODY).status_code == 429


def _register(store: Store, settings: Settings, tenants: dict[str, Tenant]) -> None:
    store.run(register(render_template(), CELERY_VERSION, settings.resolved_routes, tenants))


def test_pages_of_other_origins_come_in_only_where_they_are_named(
    settings: Settings, registered: None
) -> None:
    """CORS is off unless configured; without keys even a page's simple request is refused."""
    opened = settings.model_copy(update={"gateway_origins": ("https://a.example",)})
    with GatewayThread(opened) as gateway, http(gateway.url) as api:
        named = api.get("/v1/jobs", headers={"Origin": "https://a.example"})
        other = api.get("/v1/jobs", headers={"Origin": "https://b.example"})
        rebound = api.get("/v1/jobs", headers={"Host": "evil.example"})
        asks = {"Access-Control-Request-Method": "POST"}
        preflights = [
            api.options("/v1/jobs", headers={"Origin": f"https://{who}.example", **asks})
            for who in "ab"
        ]
    assert [answer.status_code for answer in preflights] == [200, 400]
    assert all(answer.headers["x-content-type-options"] == "nosniff" for answer in preflights)
    assert named.headers["access-control-allow-origin"] == "https://a.example"
    assert named.status_code == 200
    assert error_of(other) == (403, "foreign_origin")
    assert "access-control-allow-origin" not in other.headers
    assert error_of(rebound) == (421, "foreign_host")


def test_a_gateway_that_stops_ends_its_streams(
    settings: Settings, client: Client, registered: None
) -> None:
    """Readers are let go without a terminal event at once, and go on elsewhere by their cursor."""
    with GatewayThread(settings) as first, http(first.url) as api:
        job = submit(api)["id"]
        with api.stream("GET", f"/v1/jobs/{job}/events") as stream:
            chunks = stream.iter_bytes()
            seen = next(chunks)
            while b"data: " not in seen:
                seen += next(chunks)
            first.server.should_exit = True
            seen += b"".join(chunks)
        first.thread.join(timeout=5)
        assert not first.thread.is_alive()
    speaker = Speaker(client, client.job(job))
    speaker.finish()
    assert seen.count(b"event: ") == seen.count(b"event: queued") == 1
    with GatewayThread(settings) as second, http(second.url) as api:
        rest = events_of(api, job, headers={"Last-Event-ID": "0-1"})
    assert [event["type"] for event in rest] == ["started", "completed"]


def test_readers_that_leave_are_noticed(
    api: httpx.Client, gateway: GatewayThread, client: Client
) -> None:
    """A stream whose client has gone is given up, and so is its subscription."""
    job = submit(api)["id"]

    def listening() -> int:
        return int(client.store.redis.pubsub_numsub(f"penstock:feed:{job}")[0][1])

    with api.stream("GET", f"/v1/jobs/{job}/events") as stream:
        chunks = stream.iter_raw()  # kept, because httpx closes with its iterator
        next(chunks)
        until(lambda: listening() == 1)
    until(lambda: listening() == 0)


def test_a_fault_of_ours_shows_nothing_of_itself(
    api: httpx.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An unexpected error is a plain 500; the log has its kind and place, never its text."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the prompt was: secret-0f2a")

    monkeypatch.setattr("penstock.client.AsyncClient.page", fail)
    answer = api.get("/v1/jobs")
    assert error_of(answer) == (500, "internal_error")
    assert "secret-0f2a" not in answer.text + caplog.text
