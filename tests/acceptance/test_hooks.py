"""From a webhook in to a webhook out: the gateway, a worker and both senders' signatures."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from penstock import Client
from tests.gateways import GatewayProcess, http
from tests.processes import Started, free_port, run_cli
from tests.receiver import ALLOWED, Receiver
from tests.waiting import until

IN, OUT = "canary-in-93b1", "whsec_" + base64.b64encode(b"canary-out-5d07, and some more").decode()
SECRETS = {"HOOK_IN": IN, "HOOK_OUT": OUT}
PAYLOAD = {"action": "opened", "issue": {"title": "It broke"}}
BODY = json.dumps(PAYLOAD).encode()
HEADERS = {
    "x-github-event": "issues",
    "x-hub-signature-256": "sha256=" + hmac.new(IN.encode(), BODY, hashlib.sha256).hexdigest(),
}


def configured(directory: Path, url: str, route: str = "default") -> dict[str, str]:
    """A penstock.toml with a hook whose answers go to a URL; the environment that names it."""
    path = directory / "penstock.toml"
    path.write_text(f"""
[hooks.triage]
verify = "github"
secret_env = "HOOK_IN"
route = "{route}"
filter = "payload.action == 'opened'"
request = {{ simulate = {{ tokens = 4, ttft = 0.01 }} }}
answer = {{ webhook = {{ url = "{url}", secret_env = "HOOK_OUT", events = ["completed"] }} }}

[[hooks.triage.messages]]
content = "{{{{ payload.issue.title }}}}"
""")
    return {"PENSTOCK_CONFIG": str(path), **SECRETS}


def test_what_comes_in_goes_out(client: Client, start_worker: Started, tmp_path: Path) -> None:
    """A delivery becomes a job, and its answer is delivered, signed, to the hook's endpoint."""
    start_worker(**ALLOWED)
    with Receiver() as receiver:
        environment = configured(tmp_path, receiver.url)
        gateway = GatewayProcess(client.settings.server_url, **environment).until_ready()
        try:
            with http(gateway.url) as door:
                answer = door.post("/v1/hooks/triage", content=BODY, headers=HEADERS)
        finally:
            gateway.kill()
        (call,) = receiver.until_called()
    assert answer.status_code == 202
    Webhook(OUT).verify(call.body, call.headers)
    assert call.json["data"]["job"] == answer.json()["job"]
    assert call.json["metadata"]["hook"] == "triage"


def test_a_gateway_may_be_killed_while_deliveries_come(client: Client, tmp_path: Path) -> None:
    """Kill -9 under four senders, who send again until a 2xx: one job each, none lost."""
    environment = configured(tmp_path, "https://example.com/")
    url, port, broken = client.settings.server_url, free_port(), []
    jobs: dict[int, str] = {}
    door = http(f"http://127.0.0.1:{port}")

    def until_taken(n: int) -> None:
        """Send until it is a job."""

        def taken() -> str:
            try:
                return send(door, json.dumps({**PAYLOAD, "n": n}).encode())
            except httpx.TransportError:
                broken.append(n)
                return ""

        jobs[n] = until(taken, timeout=30)

    gateway = GatewayProcess(url, port=port, **environment).until_ready()
    try:
        with ThreadPoolExecutor(4) as senders:
            sent = [senders.submit(until_taken, n) for n in range(300)]
            for count in (30, 130):
                until(lambda count=count: len(jobs) >= count, timeout=30)
                gateway.kill()
                gateway = GatewayProcess(url, port=port, **environment).until_ready()
            for each in sent:
                each.result()
    finally:
        gateway.kill()
        door.close()
    assert len(broken) >= 2, "each kill met somebody"
    assert {job.id for job in client.list(limit=500)} == set(jobs.values())
    assert len(set(jobs.values())) == 300


def send(door: httpx.Client, body: bytes) -> str:
    """Send one delivery; the job it became."""
    proof = "sha256=" + hmac.new(IN.encode(), body, hashlib.sha256).hexdigest()
    answer = door.post("/v1/hooks/triage", content=body, headers={"x-hub-signature-256": proof})
    assert answer.status_code in (200, 202), answer.text
    return str(answer.json()["job"])


@pytest.fixture
def command(client: Client, tmp_path: Path) -> Any:
    """Run `penstock hooks test` on the configured hook."""
    environment = configured(tmp_path, "https://example.com/")

    def run(*arguments: str, payload: Any = PAYLOAD) -> Any:
        text = payload if isinstance(payload, str) else json.dumps(payload)
        return run_cli(client.settings.server_url, "hooks", "test", *arguments,
                       input_=text, **environment)  # fmt: skip

    return run


def test_the_command_shows_what_would_be_submitted(command: Any, client: Client) -> None:
    """One line of JSON without secrets; nothing is submitted."""
    done = command("triage", "--payload", "-")
    shown = json.loads(done.stdout)
    assert shown["messages"] == [{"role": "user", "content": "It broke"}]
    assert shown["webhook"] == {"url": "https://example.com/", "events": ["completed"]}
    assert OUT not in done.stdout
    assert list(client.list()) == []
    ignored = command("triage", "--payload", "-", payload={"action": "closed"})
    assert (ignored.returncode, ignored.stdout) == (0, "")
    assert "the filter ignores this payload" in ignored.stderr


@pytest.mark.parametrize(
    ("arguments", "payload", "text"),
    [
        (["nobody", "--payload", "-"], "{}", "there is no hook 'nobody'; known hooks: triage."),
        (["triage", "--payload", "/not/there"], "{}", "/not/there cannot be read: No such file"),
        (["triage", "--payload", "-"], "{", "the payload is not JSON in UTF-8, nor a form"),
        (["triage", "--payload", "-"], '{"action": "opened"}',
         "hooks.triage.messages #1.content: it names a field that the payload does not have"),
        (["triage"], "{}", "Missing option '--payload'"),
    ],
)  # fmt: skip
def test_the_command_says_what_is_wrong_in_one_line(
    command: Any, arguments: list[str], payload: str, text: str
) -> None:
    """Exit status 2, and no traceback."""
    done = command(*arguments, payload=payload)
    assert (done.returncode, done.stdout) == (2, "")
    assert text in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [("gateway", "--port", "0"), ("up", "--simulate")])
def test_a_gateway_whose_hook_has_no_secret_does_not_start(
    client: Client, tmp_path: Path, command: tuple[str, ...]
) -> None:
    """Nor anything beside it: it says which variable is missing, and ends with 2."""
    environment = {**configured(tmp_path, "https://example.com/"), "HOOK_IN": ""}
    environment["PENSTOCK_GATEWAY_PORT"] = str(free_port())  # `up` has no gateway on one taken
    done = run_cli(client.settings.server_url, *command, **environment)
    assert (done.returncode, done.stderr) == (
        2, "penstock: HOOK_IN is not set; it holds the secret of [hooks.triage]\n",
    )  # fmt: skip


def test_a_route_that_only_workers_may_have_is_told(client: Client, tmp_path: Path) -> None:
    """By `hooks test` and a gateway that starts, in one line; one whose route is here is not."""
    environment = configured(tmp_path, "https://example.com/", "theirs")
    strange = (path := tmp_path / "penstock.toml").read_text()
    path.write_text(strange + strange.replace("triage", "known").replace("theirs", "default"))
    url = client.settings.server_url
    for name, route, times in (("triage", "theirs", 1), ("known", "default", 0)):
        arguments = ("hooks", "test", name, "--payload", "-")
        shown = run_cli(url, *arguments, input_=json.dumps(PAYLOAD), **environment)
        assert (shown.returncode, json.loads(shown.stdout)["route"]) == (0, route)
        assert shown.stderr.count("\n") == times
        assert shown.stderr.count("warning: these settings have no route 'theirs'") == times
    with socket.create_server(("127.0.0.1", 0)) as taken:  # so that the gateway ends by itself
        port = str(taken.getsockname()[1])
        done = run_cli(url, "gateway", "--port", port, PENSTOCK_LOG="json", **environment)
    *lines, last = done.stderr.splitlines()
    assert last.startswith(f"penstock: cannot listen on 127.0.0.1 port {port}")
    told = [line for line in map(json.loads, lines) if line["action"] == "hook_strange"]
    assert [(line["level"], line["hook"], line["route"]) for line in told] == [
        ("warning", "triage", "theirs")
    ]
