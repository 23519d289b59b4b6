"""The simulator over real connections: what it sends, when, and how it breaks off."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import msgspec
import openai
import pytest

from ops.simulator import Fault, Script, Simulator, SimulatorThread, predict, render
from ops.simulator.chunk import completion

QUESTION: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}]}
BUSY = (
    b'{"error":{"message":"Model busy, retry later","type":"invalid_request_error",'
    b'"param":null,"code":"engine_overloaded"}}'
)


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """A simulator without limits or pacing."""
    async with Simulator() as running:
        yield running


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[httpx.AsyncClient]:
    """A client of it."""
    async with httpx.AsyncClient(base_url=simulator.url, timeout=10) as session:
        yield session


async def ask(client: httpx.AsyncClient, script: Script, **fields: Any) -> httpx.Response:
    """Post a streaming request with this script and read the answer to its end."""
    body = {**QUESTION, "stream": True, "simulate": script.as_dict(), **fields}
    return await client.post("/chat/completions", json=body)


def raw_request(script: Script, **fields: Any) -> bytes:
    """A request to write to a socket."""
    body = {**QUESTION, "stream": True, "simulate": script.as_dict(), **fields}
    encoded = msgspec.json.encode(body)
    head = b"POST /chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n"
    return head % len(encoded) + encoded


async def exchange(simulator: Simulator, sent: bytes) -> tuple[bytes, BaseException | None]:
    """Everything a socket receives until its end, and the error it ended with, if any."""
    reader, writer = await asyncio.open_connection(simulator.host, simulator.port)
    writer.write(sent)
    received, error = b"", None
    try:
        while part := await reader.read(65_536):
            received += part
    except OSError as broken:
        error = broken
    writer.close()
    return received, error


def unchunked(body: bytes) -> tuple[bytes, bool]:
    """The bytes in the HTTP chunks, and whether the last chunk is there."""
    found = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            return found, rest == b"\r\n"
        found += rest[:length]
        body = rest[length + 2 :]
    return found, False


async def test_a_stream_is_what_was_predicted_to_the_byte(
    simulator: Simulator, client: httpx.AsyncClient
) -> None:
    """`render` tells the body of a streamed answer, `predict` the plain one."""
    script = Script(tokens=300, reasoning=5, tool_calls=2)
    streamed = await ask(client, script, n=2)
    plain = await ask(client, script, n=2, stream=False)
    request = {**QUESTION, "n": 2, "simulate": script.as_dict()}
    assert streamed.content == render(request)
    assert streamed.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert plain.json() == completion(predict(request), script)
    assert simulator.stats.completed == 2


async def test_the_official_client_reads_it(simulator: Simulator) -> None:
    """OpenAI's own library understands the streaming and the plain form."""
    expected = predict(QUESTION)
    question: Any = {**QUESTION, "model": expected.model}
    async with openai.AsyncOpenAI(base_url=simulator.url, api_key="any") as official:
        plain = await official.chat.completions.create(**question)
        stream = await official.chat.completions.create(**question, stream=True)
        parts = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert plain.choices[0].message.content == expected.choices[0].content
    assert "".join(parts) == expected.choices[0].content
    assert plain.usage is not None
    assert plain.usage.total_tokens == expected.usage["total_tokens"]


@pytest.mark.parametrize("base", ["/v1/openai", "/v1", ""])
async def test_any_base_path_is_served(simulator: Simulator, base: str) -> None:
    """Chat completions and models are found wherever a base URL puts them."""
    address = f"http://{simulator.host}:{simulator.port}{base}"
    async with httpx.AsyncClient(base_url=address) as client:
        assert (await client.post("/chat/completions", json=QUESTION)).status_code == 200
        listed = (await client.get("/models")).json()
    assert listed["data"][0]["id"] == "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B"


async def test_what_is_not_served_is_said_as_json(client: httpx.AsyncClient) -> None:
    """Unknown paths, wrong methods and bodies that are no JSON have their status."""
    assert (await client.get("/embeddings")).json() == {"detail": "Not Found"}
    assert (await client.get("/chat/completions")).status_code == 405
    wrong = await client.post("/chat/completions", content=b"{")
    assert (wrong.status_code, wrong.json()["error"]["type"]) == (400, "invalid_request_error")
    unknown = await client.post("/chat/completions", json={**QUESTION, "simulate": {"x": 1}})
    assert unknown.status_code == 422
    assert unknown.json()["detail"][0]["loc"] == ["body", "simulate", "x"]


async def test_a_token_is_asked_for_where_one_is_set() -> None:
    """Only the configured bearer token is let in."""
    async with Simulator(token="secret") as simulator:  # noqa: S106 - a test's token
        for given, status in (("secret", 200), ("wrong", 401)):
            headers = {"authorization": f"Bearer {given}"}
            async with httpx.AsyncClient(base_url=simulator.url, headers=headers) as client:
                answer = await client.post("/chat/completions", json=QUESTION)
                assert answer.status_code == status
                assert (await client.get("/models")).status_code == status
        assert simulator.stats.by_status == {200: 1, 401: 1}


async def test_pipelined_requests_are_answered_in_order(simulator: Simulator) -> None:
    """One connection carries several requests, and closes when the last one says so."""
    first, second = Script(text="first"), Script(text="second")
    closing = raw_request(second).replace(b"host: a", b"host: a\r\nconnection: close")
    received, error = await exchange(simulator, raw_request(first) + closing)
    assert error is None
    assert re.findall(rb"first|second", received) == [b"first", b"second"]
    assert received.count(b"HTTP/1.1 200 OK") == 2


async def test_a_waiting_body_is_called_for(simulator: Simulator) -> None:
    """`Expect: 100-continue` gets its interim answer before the body comes."""
    reader, writer = await asyncio.open_connection(simulator.host, simulator.port)
    head, _, body = raw_request(Script()).partition(b"\r\n\r\n")
    writer.write(head + b"\r\nexpect: 100-continue\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
    writer.close()


async def test_malformed_http_is_refused_and_the_connection_closed(simulator: Simulator) -> None:
    """Nonsense gets 400 and an end, not an exception in the server."""
    received, error = await exchange(simulator, b"hello\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n")
    assert error is None


@pytest.mark.parametrize("size", [1, 3])
async def test_a_body_may_come_in_slivers(simulator: Simulator, size: int) -> None:
    """Each HTTP chunk holds as few bytes as asked for, splitting characters and marks alike."""
    script = Script(text="é漢", newline="\r\n", split=size)
    sent = raw_request(script).replace(b"host: a", b"host: a\r\nconnection: close")
    received, _ = await exchange(simulator, sent)
    body = received.partition(b"\r\n\r\n")[2]
    whole, ended = unchunked(body)
    assert (whole, ended) == (render(QUESTION, script=script), True)
    sizes = [int(line, 16) for line in re.findall(rb"(?:^|\r\n)([0-9a-f]+)\r\n", body)]
    assert max(sizes) <= size


CUTS = [("reset", ConnectionResetError, False), ("close", None, False), ("eof", None, True)]


@pytest.mark.parametrize(("kind", "ends_with", "whole"), CUTS)
@pytest.mark.parametrize("on_uvloop", [False, True])
async def test_a_connection_breaks_at_its_byte(
    kind: Any, ends_with: type[OSError] | None, whole: bool, on_uvloop: bool
) -> None:
    """Resets, early closes and clean early ends come behind exactly the bytes before them."""
    body = render(QUESTION, script=Script(text="é"))
    positions = (0, 1, 100, len(body) - 1, len(body))
    async with Simulator() as here:
        with SimulatorThread() as there:
            simulator = there.simulator if on_uvloop else here
            for at in positions:
                script = Script(text="é", fault=Fault(kind=kind, byte=at))
                sent = raw_request(script).replace(b"host: a", b"host: a\r\nconnection: close")
                received, error = await exchange(simulator, sent)
                found = unchunked(received.partition(b"\r\n\r\n")[2])
                assert found == (body[:at], whole)
                assert (type(error) if error else None) is ends_with


async def test_a_refused_connection_says_nothing(simulator: Simulator) -> None:
    """`refuse` resets before any answer."""
    script = Script(fault=Fault(kind="refuse"))
    received, error = await exchange(simulator, raw_request(script))
    assert received == b""
    assert isinstance(error, ConnectionResetError)
    assert simulator.stats.broken_off == 1


async def test_a_stall_lasts_until_the_client_leaves(simulator: Simulator) -> None:
    """Behind a stall the socket stays open, with comments or nothing, and its end is counted."""
    reader, writer = await asyncio.open_connection(simulator.host, simulator.port)
    script = Script(fault=Fault(kind="stall", event=1, heartbeat=0.01))
    writer.write(raw_request(script))
    for _ in range(3):
        await reader.readuntil(b"\r\n: the simulator is still here\n\n")
    assert simulator.stats.in_flight == 1
    writer.close()
    await simulator.until(lambda stats: stats.aborted_by_client == 1 and stats.in_flight == 0)


async def test_a_client_that_leaves_stops_the_production(
    simulator: Simulator, client: httpx.AsyncClient
) -> None:
    """A closed connection ends the answer, paced or not, read or not, and is counted."""
    paced, unread = Script(tokens=1_000_000, gap=0.001), Script(tokens=1_000_000)
    for number, script in enumerate((paced, unread), start=1):
        reader, writer = await asyncio.open_connection(simulator.host, simulator.port)
        writer.write(raw_request(script))
        await reader.readuntil(b"data: ")
        (body,) = [each.response.body for each in simulator._connections if each.response]
        writer.close()
        await simulator.until(lambda stats, n=number: stats.aborted_by_client == n)
        made = body.tokens
        await ask(client, Script(tokens=5, gap=0.005))
        assert body.tokens == made
    assert simulator.stats.in_flight == 0
    assert 0 < simulator.stats.tokens < 1_000_000


async def test_a_client_that_does_not_read_stops_the_production(simulator: Simulator) -> None:
    """Once the socket's buffers are full, tokens wait for the client instead of filling memory."""
    reader, writer = await asyncio.open_connection(simulator.host, simulator.port)
    writer.write(raw_request(Script(tokens=1_000_000)))
    await reader.readuntil(b"data: ")
    (sending,) = [each._sending for each in simulator._connections]
    assert sending is not None
    async with asyncio.timeout(10):
        while not sending._paused:  # noqa: ASYNC110 - asyncio tells only the transport
            await asyncio.sleep(0)
    assert sending.response.body.tokens < 1_000_000
    writer.close()
    await simulator.until(lambda stats: stats.aborted_by_client == 1)


STATUSES: list[tuple[dict[str, Any], int, bytes]] = [
    ({"status": 429}, 429, BUSY),
    ({"status": 429, "form": "string"}, 429, b'{"error":"Model busy, retry later"}'),
    ({"status": 503, "form": "empty"}, 503, b""),
    ({"status": 529, "error": {"message": "full"}}, 529, b'{"error":{"message":"full"}}'),
    (
        {"status": 422, "error": "too long"},
        422,
        b'{"detail":[{"loc":["body","messages"],"msg":"too long","type":"value_error"}]}',
    ),
]


@pytest.mark.parametrize(("fields", "status", "body"), STATUSES)
async def test_an_error_status_has_the_body_asked_for(
    client: httpx.AsyncClient, fields: dict[str, Any], status: int, body: bytes
) -> None:
    """Every documented form of an error body can be had with any status."""
    answer = await ask(client, Script(fault=Fault(kind="status", **fields)))
    assert (answer.status_code, answer.content) == (status, body)


async def test_a_retry_is_asked_for_in_each_notation(client: httpx.AsyncClient) -> None:
    """Retry-After in seconds and as a date, and retry-after-ms."""
    headers = []
    for notation in ("seconds", "date", "milliseconds"):
        fault = Fault(kind="status", status=429, retry_after=30, retry_after_as=notation)  # type: ignore[arg-type]
        headers.append((await ask(client, Script(fault=fault))).headers)
    assert headers[0]["retry-after"] == "30"
    assert 28 < parsedate_to_datetime(headers[1]["retry-after"]).timestamp() - time.time() <= 31
    assert headers[2]["retry-after-ms"] == "30000"


async def test_a_web_page_is_a_200_too(client: httpx.AsyncClient) -> None:
    """`html` answers what a proxy in maintenance would."""
    answer = await ask(client, Script(fault=Fault(kind="html")))
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.text.startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("error_object", b'{"error":'),
        ("bad_json", b'{"id":'),
        ("eof", b""),
        ("finish", b'{"id":'),
        ("oversized_event", b'{"id":'),
    ],
)
async def test_faults_hit_the_plain_form_too(
    client: httpx.AsyncClient, kind: Any, body: bytes
) -> None:
    """Without streaming a fault spoils the one object, within correct HTTP."""
    script = Script(fault=Fault(kind=kind, size=2_000_000))
    answer = await ask(client, script, stream=False)
    assert answer.status_code == 200
    assert answer.content.startswith(body)
    if kind == "finish":
        assert answer.json()["choices"][0]["finish_reason"] == "abort"
    if kind == "oversized_event":
        assert len(answer.content) > 2_000_000


async def test_a_plain_answer_can_break_in_the_middle(client: httpx.AsyncClient) -> None:
    """A Content-Length that is never reached is an error to its reader."""
    script = Script(fault=Fault(kind="close", byte=10))
    with pytest.raises(httpx.RemoteProtocolError):
        await ask(client, script, stream=False)


@pytest.mark.parametrize("kind", ["slow_headers", "slow_first_token"])
async def test_slow_answers_are_late_and_right(client: httpx.AsyncClient, kind: Any) -> None:
    """The slow kinds delay an answer that is otherwise as predicted."""
    began = time.monotonic()
    answer = await ask(client, Script(tokens=5, fault=Fault(kind=kind, seconds=0.1)))
    assert time.monotonic() - began >= 0.09
    assert answer.content == render(QUESTION, script=Script(tokens=5))


@pytest.mark.parametrize("script", [Script(), Script(split=100), Script(jitter=0.5)])
async def test_tokens_come_in_rhythm(client: httpx.AsyncClient, script: Script) -> None:
    """Time to first token and the gaps add up, and the bytes are those of an unpaced answer."""
    paced = msgspec.structs.replace(script, tokens=11, ttft=0.05, gap=0.01)
    began = time.monotonic()
    answer = await ask(client, paced)
    assert time.monotonic() - began >= (0.05 + 10 * 0.01) * (1 - (script.jitter or 0)) - 0.005
    assert answer.content == render(QUESTION, script=Script(tokens=11))


async def test_a_fault_strikes_the_first_attempts_only(client: httpx.AsyncClient) -> None:
    """`attempts` counts requests with the same key, so that a retry succeeds."""
    fault = Fault(kind="status", status=503)
    by_key = Script(fault=fault, attempts=2, key="a")
    found = [(await ask(client, by_key, seed=i)).status_code for i in range(3)]
    by_body = Script(fault=fault, attempts=1)
    found += [(await ask(client, by_body, seed=i)).status_code for i in (0, 0, 1)]
    assert found == [503, 503, 200, 503, 200, 503]


async def test_varying_attempts_say_different_things(client: httpx.AsyncClient) -> None:
    """With `vary`, every attempt has its own predicted text."""
    script = Script(tokens=20, vary=True)
    for attempt in (1, 2):
        answer = await ask(client, script)
        assert answer.content == render(QUESTION, script=script, attempt=attempt)


async def test_tests_can_script_requests_that_know_nothing_of_it(
    simulator: Simulator, client: httpx.AsyncClient
) -> None:
    """`play` strikes the next plain requests; what was received can be looked at."""
    simulator.play(Script(fault=Fault(kind="status", status=500)))
    headers = {"authorization": "Bearer x"}
    found = [
        (await client.post("/chat/completions", json=QUESTION, headers=headers)).status_code
        for _ in range(2)
    ]
    assert found == [500, 200]
    assert simulator.received[0].headers["authorization"] == "Bearer x"
    assert msgspec.json.decode(simulator.received[0].body) == QUESTION


async def test_concurrency_is_limited_and_can_be_changed(
    simulator: Simulator, client: httpx.AsyncClient
) -> None:
    """Requests beyond the limit get the documented 429 until a place is free or the limit grows."""
    simulator.limits.concurrency = 2
    stalled = Script(fault=Fault(kind="stall"))
    waiting = [asyncio.create_task(ask(client, stalled)) for _ in range(2)]
    await simulator.until(lambda stats: stats.in_flight == 2)
    refused = await ask(client, Script())
    assert (refused.status_code, refused.content) == (429, BUSY)
    simulator.limits.concurrency = 3
    assert (await ask(client, Script())).status_code == 200
    first = simulator.stats.in_flight_seconds
    await simulator.until(lambda stats: stats.in_flight_seconds > first)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    await simulator.until(lambda stats: stats.in_flight == 0)
    assert simulator.stats.peak_in_flight == 3
    last = simulator.stats.in_flight_seconds
    assert simulator.stats.in_flight_seconds == last


async def test_rates_are_limited() -> None:
    """Requests and tokens per minute answer 429 with Retry-After where that is wanted."""
    options: list[dict[str, Any]] = [{"requests_per_minute": 1}, {"tokens_per_minute": 150}]
    for limit in options:
        async with Simulator(**limit, retry_after=True) as simulator, httpx.AsyncClient() as client:
            client.base_url = httpx.URL(simulator.url)
            found = [await ask(client, Script(tokens=100)) for _ in range(2)]
        assert [answer.status_code for answer in found] == [200, 429]
        assert 55 <= int(found[1].headers["retry-after"]) <= 60


async def test_other_processes_have_the_same_controls(simulator: Simulator) -> None:
    """Stats, faults and limits can be read and set over HTTP."""
    address = f"http://{simulator.host}:{simulator.port}"
    async with httpx.AsyncClient(base_url=address) as client:
        entry = {"simulate": {"fault": {"kind": "status", "status": 418}}, "times": None}
        await client.post("/simulator/faults", json=entry)
        await client.post("/simulator/limits", json={"requests_per_minute": 2})
        found = [await client.post("/chat/completions", json=QUESTION)]
        await client.delete("/simulator/faults")
        found += [await client.post("/chat/completions", json=QUESTION) for _ in range(2)]
        assert [answer.status_code for answer in found] == [418, 200, 429]
        wrong = await client.post("/simulator/limits", json={"rpm": 2})
        assert wrong.status_code == 422
        stats = (await client.get("/simulator/stats")).json()
    assert stats.pop("in_flight_seconds") >= 0
    assert stats == {
        "requests": 3,
        "in_flight": 0,
        "peak_in_flight": 1,
        "completed": 2,
        "broken_off": 0,
        "aborted_by_client": 0,
        "by_status": {"418": 1, "200": 1, "429": 1},
        "by_key": {},
        "tokens": predict(QUESTION).tokens,
        "charged": 0,
    }


async def test_many_streams_at_once_are_each_their_own(
    simulator: Simulator, client: httpx.AsyncClient
) -> None:
    """A hundred answers side by side are all as predicted."""
    scripts = [Script(tokens=50, seed=number, gap=0.001) for number in range(100)]
    answers = await asyncio.gather(*(ask(client, script) for script in scripts))
    for script, answer in zip(scripts, answers, strict=True):
        assert answer.content == render(QUESTION, script=script)
    assert simulator.stats.tokens == 100 * 50


def test_it_runs_in_a_thread_for_tests_that_are_no_coroutines() -> None:
    """The thread serves, waits for conditions and ends."""
    with SimulatorThread(seed=3) as running:
        answer = httpx.post(f"{running.url}/chat/completions", json=QUESTION)
        running.until(lambda stats: stats.completed == 1)
    assert answer.json()["choices"][0]["message"] == predict(QUESTION, seed=3).messages[0]


def test_a_port_in_use_is_said_before_anything_runs() -> None:
    """The thread's caller gets the OSError, and no thread stays behind."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        thread = SimulatorThread(port=taken.getsockname()[1])
        with pytest.raises(OSError, match="in use"):
            thread.__enter__()


def command(*arguments: str) -> list[str]:
    """The command that starts a process."""
    return [sys.executable, "-m", "ops.simulator", *arguments]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_serves_until_told_to_stop(number: signal.Signals) -> None:
    """It says how to use it, answers, and ends with status 0 while a stream is open."""
    with subprocess.Popen(command("--port", "0"), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        url = process.stderr.readline().partition("PENSTOCK_UPSTREAM_URL=")[2].strip()
        body = {**QUESTION, "stream": True, "simulate": {"fault": {"kind": "stall"}}}
        with httpx.stream("POST", f"{url}/chat/completions", json=body) as answer:
            assert answer.status_code == 200
            process.send_signal(number)
            assert process.wait(10) == 0
        assert process.stderr.read() == ""


def test_a_process_says_in_one_line_that_its_port_is_taken() -> None:
    """Exit status 2 and what to do, no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            command("--port", str(port)), capture_output=True, text=True, timeout=20, check=False
        )
    assert done.returncode == 2
    assert done.stderr == (
        f"Error: 127.0.0.1:{port} is in use; choose another --port, or 0 for a free one\n"
    )
