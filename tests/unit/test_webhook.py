"""Endpoints as people give them, and the signature of a delivery."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook as Verifier

from penstock.errors import ConfigurationError, InvalidRequest
from penstock.job import JobSpec
from penstock.outbox import Taken
from penstock.settings import Settings
from penstock.webhook import AT_THE_END, signature, signed_headers
from worker.payload import MOST, compose

SECRET = "whsec_" + base64.b64encode(b"canary-2f61 is 24 bytes long").decode()
URL = "https://example.com/hook?a=b"


def spec(webhook: Any) -> JobSpec:
    return JobSpec.build({"messages": [{"role": "user", "content": "m"}], "webhook": webhook})


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """The example of its own libraries, and what they verify."""
    given = signature(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330,
        b'{"test": 2432232314}',
    )  # fmt: skip
    assert given == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    now = int(datetime.now(UTC).timestamp())
    other = SecretStr("whsec_" + base64.b64encode(b"o" * 64).decode())
    headers = signed_headers([SecretStr(SECRET), other], "job_1-1-9", now, b"{}")
    for secret in (SECRET, other.get_secret_value()):
        Verifier(secret).verify(b"{}", headers)
    assert set(signed_headers([], "m", now, b"")) == {"webhook-id", "webhook-timestamp"}


def test_an_endpoint_is_a_url_or_an_object() -> None:
    """A URL by itself hears of the end; secrets are one, several, or in one text."""
    webhook = spec(URL).options.webhook
    assert webhook is not None
    assert (webhook.url, webhook.secret, webhook.events) == (URL, (), AT_THE_END)
    for secret in (f"{SECRET} {SECRET}", [SECRET, SECRET]):
        webhook = spec({"url": URL, "secret": secret, "events": ["delta"]}).options.webhook
        assert webhook is not None
        assert [each.get_secret_value() for each in webhook.secret] == [SECRET, SECRET]
        assert webhook.event_names == "delta"


@pytest.mark.parametrize(
    ("webhook", "text"),
    [
        *((url, "webhook.url: ") for url in (
            "example.com", "ftp://example.com", "https://", "https:///x", "https://a b.example",
            "https://user@example.com", "https://user:pw@example.com", "https://a.example:99999",
            "https://a.example:0", "https://a.example\\@b.example", "https://a.example/\n",
            "https://\u00e4.example", "javascript:alert(1)", "x" * 2049, "",
        )),
        ({"url": URL, "secret": "canary"}, "webhook.secret: "),
        ({"url": URL, "secret": "whsec_canary"}, "24 to 64 bytes in base64"),
        ({"url": URL, "secret": [SECRET, "whsec_!canary"]}, "webhook.secret: "),
        ({"url": URL, "events": []}, "webhook.events: "),
        ({"url": URL, "events": ["queued"]}, "webhook.events.0: "),
        ({"url": URL, "more": 1}, "webhook.more: "),
        ({}, "webhook.url: is missing"),
        (7, "webhook: "),
    ],
)  # fmt: skip
def test_what_is_no_endpoint_is_refused_without_showing_it(webhook: Any, text: str) -> None:
    """The error names the field, and never the secret or the URL."""
    with pytest.raises(InvalidRequest) as error:
        spec(webhook)
    assert text in str(error.value)
    assert "canary" not in str(error.value)
    assert "pw" not in str(error.value)


def test_a_secret_is_in_no_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of options, specs, settings or deliveries."""
    monkeypatch.setenv("PENSTOCK_WEBHOOK_SECRET", f"{SECRET} {SECRET}")
    settings = Settings.load()
    assert len(settings.webhook_secret) == 2
    given = spec({"url": URL, "secret": SECRET})
    for shown in (repr(given), str(given.options), repr(settings), repr(taken(b"{}"))):
        assert SECRET not in shown
        assert SECRET.removeprefix("whsec_") not in shown


def test_a_variable_without_a_secret_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not set, or not a secret: the text says which variable, and not what it holds."""
    with pytest.raises(ConfigurationError, match="ACME_SECRET is not set"):
        Settings.load().webhook_secrets("ACME_SECRET")
    monkeypatch.setenv("ACME_SECRET", "whsec_canary")
    with pytest.raises(ConfigurationError, match="ACME_SECRET holds no webhook secret") as error:
        Settings.load().webhook_secrets("ACME_SECRET")
    assert "canary" not in str(error.value)
    monkeypatch.setenv("PENSTOCK_WEBHOOK_SECRET", "whsec_canary")
    with pytest.raises(ConfigurationError, match="24 to 64 bytes") as error:
        Settings.load()
    assert "canary" not in str(error.value)


def taken(metadata: bytes, **fields: Any) -> Taken:
    given = {
        "id": "job_1-1-9", "claim": 1, "job": "job_1", "tenant": "t", "route": "r",
        "type": "completed", "cursor": "1-9", "time": 1790000000.1239, "url": URL, "tries": 0,
        "secrets": (SecretStr(SECRET),), "secret_env": None, "metadata": metadata, "event": b"",
        "after": "", "until": "", **fields,
    }  # fmt: skip
    return Taken(**given)


def test_a_body_is_whole_or_a_link() -> None:
    """Up to 20 KB it holds the event; beyond, a link, and metadata only where it fits."""
    event = {"id": "1-9", "job": "job_1", "type": "completed", "time": 1.5, "data": {"a": "x"}}
    whole = json.loads(compose(taken(b'{"k":"v"}'), event, None))
    assert whole == {
        "type": "job.completed", "timestamp": "2026-09-21T14:13:20.123+00:00", "tenant": "t",
        "metadata": {"k": "v"}, "data": event,
    }  # fmt: skip
    large = {**event, "data": {"a": "x" * MOST}}
    linked = json.loads(compose(taken(b'{"k":"v"}'), large, "https://q.example/"))
    assert linked["link"] == "https://q.example/v1/jobs/job_1"
    assert set(linked["data"]) == {"id", "job", "type", "time"}
    assert linked["metadata"] == {"k": "v"}
    wide = taken(json.dumps({"k": "v" * MOST}).encode())
    assert "metadata" not in json.loads(compose(wide, None, None))
    for body in (compose(taken(b"{}"), large, None), compose(wide, event, None)):
        assert len(body) <= MOST
        assert json.loads(body)["link"] == "/v1/jobs/job_1"
