"""Webhooks in: real deliveries to a real gateway, one job each."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook
from structlog.testing import capture_logs

from penstock import Client, ConfigurationError, Settings
from producers.gateway.app import create_app
from tests.gateways import GatewayThread, http

SECRET = "whsec_" + base64.b64encode(b"of hooks, canary-40c1 and more").decode()
MESSAGES = [
    {"role": "system", "content": "You label issues."},
    {"content": "{{ payload.title }}\n\n{{ payload.text | default('') }}"},
]
BASE = {"secret_env": "HOOK_SECRET", "messages": MESSAGES}
HOOKS: dict[str, Any] = {
    "standard": {**BASE, "verify": "standard", "priority": 7, "request": {"max_tokens": 9}},
    "github": {
        **BASE, "verify": "github", "tenant": "acme",
        "filter": "headers['x-github-event'] == 'issues' and payload.action == 'opened'",
    },
    "slack": {**BASE, "verify": "slack"},
    "stripe": {**BASE, "verify": "stripe"},
    "token": {
        **BASE, "verify": "token", "delivery_header": "X-Delivery",
        "conversation": "room {{ payload.room }}",
        "answer": {"webhook": {"url": "https://example.com/a", "secret_env": "HOOK_SECRET"}},
    },
}  # fmt: skip
LOST = {**BASE, "verify": "github", "route": "nowhere"}
PAYLOAD = {"action": "opened", "title": "It broke", "room": 7, "id": "evt_1", "event_id": "Ev1"}
BODY = json.dumps(PAYLOAD).encode()


@pytest.fixture
def settings(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """With hooks of every kind."""
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    return Settings.load(
        redis_url=settings.redis_url, state_dir=settings.state_dir, hooks={**HOOKS, "lost": LOST}
    )


@pytest.fixture
def door(gateway: GatewayThread) -> Iterator[httpx.Client]:
    """Somebody who sends webhooks: without any key."""
    with http(gateway.url) as client:
        yield client


def digest(text: bytes) -> str:
    return hmac.new(SECRET.encode(), text, hashlib.sha256).hexdigest()


def signed(hook: str, body: bytes = BODY, id_: str = "msg_1", at: float | None = None) -> Any:
    """The headers that this hook's sender would send now."""
    now = int(time.time() if at is None else at)
    if hook == "standard":
        moment = datetime.fromtimestamp(now, UTC)
        signature = Webhook(SECRET).sign(id_, moment, body.decode("latin-1"))
        return {"webhook-id": id_, "webhook-timestamp": str(now), "webhook-signature": signature}
    return {
        "github": {
            "x-hub-signature-256": f"sha256={digest(body)}", "x-github-event": "issues",
            "x-github-delivery": id_,
        },
        "slack": {
            "x-slack-request-timestamp": str(now),
            "x-slack-signature": f"v0={digest(f'v0:{now}:'.encode() + body)}",
        },
        "lost": {"x-hub-signature-256": f"sha256={digest(body)}"},
        "stripe": {"stripe-signature": f"t={now},v1={digest(f'{now}.'.encode() + body)}"},
        "token": {"authorization": f"Bearer {SECRET}", "x-delivery": id_},
    }[hook]  # fmt: skip


def send(door: httpx.Client, hook: str, body: bytes = BODY, headers: Any = None) -> httpx.Response:
    given = signed(hook, body) if headers is None else headers
    return door.post(f"/v1/hooks/{hook}", content=body, headers=given)


def jobs(client: Client) -> list[str]:
    return [job.id for tenant in ("default", "acme") for job in client.list(tenant, limit=500)]


@pytest.mark.parametrize("hook", HOOKS)
def test_a_delivery_is_one_job_however_often_it_comes(
    hook: str, door: httpx.Client, client: Client
) -> None:
    """Accepted with 202, again and again answered with 200 and the same job, at once too."""
    with ThreadPoolExecutor(8) as senders:
        answers = list(senders.map(lambda _: send(door, hook), range(24)))
    assert sorted(answer.status_code for answer in answers) == [200] * 23 + [202]
    assert {answer.json()["result"] for answer in answers} == {"accepted", "duplicate"}
    (job,) = {answer.json()["job"] for answer in answers}
    assert jobs(client) == [job]


def test_the_job_is_what_the_template_makes_of_the_payload(
    door: httpx.Client, client: Client
) -> None:
    """Messages, further fields of the body, tenant, priority, and where it came from."""
    record = client.get(send(door, "standard").json()["job"])
    assert json.loads(record.request) == {
        "max_tokens": 9,
        "messages": [
            {"role": "system", "content": "You label issues."},
            {"role": "user", "content": "It broke"},
        ],
    }
    assert (record.tenant, record.priority) == ("default", 7)
    assert record.metadata == {"hook": "standard", "hook_body": hashlib.sha256(BODY).hexdigest()}
    record = client.get(send(door, "token").json()["job"])
    assert (record.conversation, record.webhook) == ("room 7", "https://example.com/a")
    assert client.get(send(door, "github").json()["job"]).tenant == "acme"


@pytest.mark.parametrize("hook", HOOKS)
def test_what_is_not_proved_is_401_and_no_job(
    hook: str, door: httpx.Client, client: Client
) -> None:
    """A flipped bit, no header, garbage, bytes that are no text: one answer, nothing stored."""
    good = signed(hook)
    flipped = bytes([BODY[0] ^ 1, *BODY[1:]])
    tries = [(BODY, {}), *((BODY, {**good, name: "garbage"}) for name in good if name in PROOFS)]
    tries += [(BODY, {**good, name: b"\xff\xfe\x00"[:2]}) for name in good if name in PROOFS]
    if hook != "token":
        tries += [(flipped, good), (b"\xff\xfe", good), (b"", good)]
    for body, headers in tries:
        answer = send(door, hook, body, headers)
        assert answer.status_code == 401, (headers, answer.text)
        assert answer.json()["error"]["code"] == "unverified"
        assert SECRET not in answer.text
    assert jobs(client) == []


PROOFS = {
    "webhook-timestamp", "webhook-signature", "x-hub-signature-256", "x-slack-request-timestamp",
    "x-slack-signature", "stripe-signature", "authorization",
}  # fmt: skip


@pytest.mark.parametrize("hook", ["standard", "slack", "stripe"])
def test_an_old_delivery_is_401(hook: str, door: httpx.Client, client: Client) -> None:
    """What was recorded ten minutes ago, or is signed for ten minutes from now, does not count."""
    for away in (-600, 600):
        headers = signed(hook, at=time.time() + away)
        assert send(door, hook, headers=headers).status_code == 401
    assert jobs(client) == []


@pytest.mark.parametrize("hook", ["standard", "stripe", "slack", "token"])
def test_another_body_under_the_same_id_is_409(
    hook: str, door: httpx.Client, client: Client
) -> None:
    """Whether or not it would make another request of it."""
    job = send(door, hook).json()["job"]
    for change in ({"title": "else"}, {"unused": 1}):
        answer = send(door, hook, json.dumps({**PAYLOAD, **change}).encode())
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "delivery_conflict")
        assert job in answer.json()["error"]["message"]
    assert jobs(client) == [job]


def test_a_delivery_is_known_though_its_id_or_time_is_new(
    door: httpx.Client, client: Client
) -> None:
    """GitHub's id is not signed, and Slack signs each retry anew: neither makes a second job."""
    first = send(door, "github").json()["job"]
    replayed = send(door, "github", headers=signed("github", id_="another"))
    assert (replayed.status_code, replayed.json()["job"]) == (200, first)
    body = b"command=%2Fask&title=Why"
    form = {"content-type": "application/x-www-form-urlencoded"}
    asked = [
        send(door, "slack", body, {**signed("slack", body, at=time.time() - away), **form})
        for away in (60, 0)
    ]
    assert [answer.status_code for answer in asked] == [202, 200]
    assert len(jobs(client)) == 2


@pytest.mark.parametrize(
    ("body", "kind"),
    [(b"\xff\xfe{}", "application/json"), (b"{", "application/json"), (b"", "application/json"),
     (b"[" * 100_000, "application/json"), (b"payload=%7B", "application/x-www-form-urlencoded"),
     (b"a=%ff%fe", "application/x-www-form-urlencoded"), (b"NaN", "text/plain")],
)  # fmt: skip
def test_a_proved_payload_that_cannot_be_read_is_400(
    body: bytes, kind: str, door: httpx.Client, client: Client
) -> None:
    """It is the sender's, but neither JSON nor a form: that is said, and nothing is stored."""
    answer = send(door, "github", body, {**signed("github", body), "content-type": kind})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unreadable_payload")
    assert jobs(client) == []


@pytest.mark.parametrize("body", [b"[]", b"1", b"null", b'"text"', b"{}"])
def test_a_payload_the_template_does_not_fit_is_400(
    body: bytes, door: httpx.Client, client: Client
) -> None:
    """The answer names the place in penstock.toml, and shows nothing of the payload."""
    answer = send(door, "token", body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "template_failed")
    assert "hooks.token.messages #2.content: it names a" in answer.json()["error"]["message"]
    assert jobs(client) == []


def test_what_the_filter_ignores_is_200_and_no_job(door: httpx.Client, client: Client) -> None:
    """A sender is content, and sends it no more."""
    body = json.dumps({**PAYLOAD, "action": "closed"}).encode()
    answer = send(door, "github", body)
    assert (answer.status_code, answer.json()) == (200, {"result": "ignored", "job": None})
    assert jobs(client) == []


def test_a_hook_whose_route_nobody_has_is_400_and_told_in_the_log(
    door: httpx.Client, client: Client
) -> None:
    """The sender learns no name of ours; the operator which hook it is, and why."""
    with capture_logs() as lines:
        answer = send(door, "lost")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "hook_failed")
    assert "nowhere" not in answer.text
    assert "default" not in answer.text
    (line,) = [line for line in lines if line["action"] == "hook_failed"]
    assert line["hook"] == "lost"
    assert "nowhere" in line["reason"]
    assert jobs(client) == []


def test_a_query_is_named_to_who_proved_himself(door: httpx.Client, client: Client) -> None:
    """No hook takes a parameter: its sender hears 400, which is an operator's URL; others 401."""
    for headers, told in ((signed("github"), "unknown_parameter"), ({}, "unverified")):
        answer = door.post("/v1/hooks/github?unheard=1", content=BODY, headers=headers)
        assert answer.status_code == (400 if headers else 401)
        assert answer.json()["error"]["code"] == told
    assert jobs(client) == []


def test_slack_hears_its_challenge(door: httpx.Client) -> None:
    """A signed `url_verification` is answered with what it asks for, an unsigned one is not."""
    body = json.dumps({"type": "url_verification", "challenge": "3eZbrw1a"}).encode()
    assert send(door, "slack", body).json() == {"challenge": "3eZbrw1a"}
    assert send(door, "slack", body, {}).status_code == 401


def test_a_form_with_a_payload_is_that_payload(door: httpx.Client, client: Client) -> None:
    """As GitHub sends it where JSON was not chosen."""
    body = httpx.QueryParams({"payload": BODY.decode()}).__str__().encode()
    headers = {**signed("github", body), "content-type": "application/x-www-form-urlencoded"}
    record = client.get(send(door, "github", body, headers).json()["job"])
    assert json.loads(record.request)["messages"][1]["content"] == "It broke"


def test_an_unknown_hook_and_a_large_body_are_refused(door: httpx.Client) -> None:
    """404 and 413, before anything is checked or rendered."""
    assert door.post("/v1/hooks/nobody", content=BODY).status_code == 404
    assert send(door, "github", b"x" * (8 * 1024 * 1024 + 1)).status_code == 413


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"filter": "payload."}, "hooks.h.filter: is no template: "),
        ({"messages": [{"content": "{{"}]}, "hooks.h.messages #1.content: is no template: "),
        ({"secret_env": "NOT_SET"}, "NOT_SET is not set; it holds the secret of [hooks.h]"),
        ({"verify": "nobody"}, "hooks.h.verify: "),
        ({"request": {"messages": []}}, "hooks.h.request: holds messages: "),
        ({"request": {"n": 0}}, "hooks.h.request: makes no valid job: n: must be 1 or more"),
        ({"nonsense": 1}, "hooks.h.nonsense: there is no such setting"),
        (
            {"answer": {"webhook": {"url": "https://a.example", "secret_env": "NOT_SET"}}},
            "NOT_SET is not set; it holds a webhook's secret",
        ),
    ],
)
def test_a_wrong_hook_is_refused_at_the_start(
    change: dict[str, Any], text: str, settings: Settings
) -> None:
    """A gateway does not start with a hook that would refuse every delivery."""
    hooks = {"h": {**BASE, "verify": "github", **change}}
    with pytest.raises(ConfigurationError) as error:
        create_app(Settings.load(redis_url=settings.redis_url, hooks=hooks))
    assert text in str(error.value)
