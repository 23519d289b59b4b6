"""Who sent a webhook: the senders' own examples, and what is no proof."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime
from typing import Any

import pytest
from standardwebhooks import Webhook

from penstock.hook import Hook
from producers.hooks.signature import Unverified, check_secret, verify

NOW = 1_531_420_618.0


def hook(verify: Any, **fields: Any) -> Hook:
    given = {"verify": verify, "secret_env": "X", "messages": [{"content": "m"}], **fields}
    return Hook.model_validate(given)


GITHUB = (
    hook("github"), "It's a Secret to Everybody", b"Hello, World!",
    {"x-hub-signature-256":
        "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"},
    0.0,
)  # fmt: skip
"""https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries"""

SLACK = (
    hook("slack"), "8f742231b10e8888abcd99yyyzzz85a5",
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow"
    b"&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner"
    b"&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands"
    b"%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
    b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c",
    {"x-slack-request-timestamp": "1531420618", "x-slack-signature":
        "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"},
    1531420618.0,
)  # fmt: skip
"""https://docs.slack.dev/authentication/verifying-requests-from-slack"""

STANDARD = (
    hook("standard"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"test": 2432232314}',
    {"webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "webhook-timestamp": "1614265330",
     "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
    1614265330.0,
)  # fmt: skip
"""The example of Standard Webhooks' own libraries."""

STRIPE_SECRET = "whsec_test_secret"  # noqa: S105
STRIPE_BODY = b'{"id": "evt_test_webhook","object": "event"}'


def stripe_header(time: int, body: bytes = STRIPE_BODY, secret: str = STRIPE_SECRET) -> str:
    """As docs.stripe.com/webhooks#verify-manually describes it, in its own steps."""
    signed = f"{time}.".encode() + body
    digest = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    return f"t={time},v1={digest},v0={'6f' * 32}"


STRIPE = (
    hook("stripe"), STRIPE_SECRET, STRIPE_BODY,
    {"stripe-signature": stripe_header(1492774577)}, 1492774577.0,
)  # fmt: skip

TOKEN = (hook("token"), "canary-token", b"{}", {"authorization": "Bearer canary-token"}, 0.0)

EXAMPLES = {
    "github": GITHUB, "slack": SLACK, "standard": STANDARD, "stripe": STRIPE, "token": TOKEN,
}  # fmt: skip


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_senders_own_examples_are_right(name: str) -> None:
    """Each scheme accepts what its owner documents, with either secret of a rotation."""
    scheme, secret, body, headers, now = EXAMPLES[name]
    other = "whsec_" + base64.b64encode(b"x" * 24).decode()
    expected = headers["webhook-id"] if name == "standard" else None
    assert verify(scheme, headers, body, [secret], now) == expected
    assert verify(scheme, headers, body, [other, secret], now) == expected


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_flipped_bit_is_no_proof(name: str) -> None:
    """In the body (of a scheme that signs it), in each header, or in the secret."""
    scheme, secret, body, headers, now = EXAMPLES[name]
    flipped = bytes([body[0] ^ 1, *body[1:]])
    other = "whsec_" + base64.b64encode(b"x" * 24).decode()
    if name != "token":
        with pytest.raises(Unverified):
            verify(scheme, headers, flipped, [secret], now)
    with pytest.raises(Unverified):
        verify(scheme, headers, body, [other], now)
    for header, value in headers.items():
        for at in range(len(value.partition(",v0=")[0])):  # Stripe's older scheme is not looked at
            wrong = value[:at] + chr(ord(value[at]) ^ 1) + value[at + 1 :]
            with pytest.raises(Unverified):
                verify(scheme, {**headers, header: wrong}, body, [secret], now)


@pytest.mark.parametrize("name", ["slack", "standard", "stripe"])
@pytest.mark.parametrize("away", [-301, 301])
def test_an_old_time_is_no_proof(name: str, away: float) -> None:
    """A signed time counts within the tolerance, before and after ours."""
    scheme, secret, body, headers, now = EXAMPLES[name]
    verify(scheme, headers, body, [secret], now + away - (1 if away > 0 else -1))
    with pytest.raises(Unverified, match="over 300 s from now"):
        verify(scheme, headers, body, [secret], now + away)


GARBAGE = [
    "", " ", "=", ",", "v1,", "sha256=", "sha1=aaaa", "t=,v1=", "t=1,t=2,v1=a", "v0=", "é", "\x00",
    "\udcff", "\uff11\uff15", "-1",
    "1e9", "99999999999999999999", "NaN", "Bearer", "Bearer  ",
    "Basic canary-token", "v1,====", "v1," + "A" * 10_000,
]  # fmt: skip


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_is_no_proof_and_no_error(name: str, garbage: str) -> None:
    """In any header, or with a header left out, there is one answer."""
    scheme, secret, body, headers, now = EXAMPLES[name]
    for header in headers:
        with pytest.raises(Unverified):
            verify(scheme, {**headers, header: garbage}, body, [secret], now)
        rest = {each: value for each, value in headers.items() if each != header}
        with pytest.raises(Unverified):
            verify(scheme, rest, body, [secret], now)


def test_a_standard_delivery_is_signed_as_the_library_signs_it() -> None:
    """What `standardwebhooks` signs is accepted, under Svix's names too."""
    secret = "whsec_" + base64.b64encode(b"s" * 32).decode()
    signed = Webhook(secret).sign("msg_1", datetime.fromtimestamp(int(NOW), UTC), "{}")
    values = {"id": "msg_1", "timestamp": str(int(NOW)), "signature": f"v1a,x {signed}"}
    for prefix in ("webhook", "svix"):
        headers = {f"{prefix}-{name}": value for name, value in values.items()}
        assert verify(hook("standard"), headers, b"{}", [secret], NOW) == "msg_1"


def test_a_token_may_stand_in_a_header_of_its_own() -> None:
    """As GitLab's does, with the delivery's id in another one."""
    scheme = hook("token", header="X-Gitlab-Token", delivery_header="X-Gitlab-Event-UUID")
    headers = {"x-gitlab-token": "canary-token", "x-gitlab-event-uuid": "u-1"}
    assert verify(scheme, headers, b"", ["canary-token"], NOW) == "u-1"
    with pytest.raises(Unverified, match="the header x-gitlab-token is missing"):
        verify(scheme, {"authorization": "Bearer canary-token"}, b"", ["canary-token"], NOW)


def test_a_secret_that_cannot_be_one_is_refused() -> None:
    """Standard Webhooks has a form for them; the text does not show what was given."""
    check_secret(hook("github"), "anything")
    with pytest.raises(ValueError, match="whsec_") as error:
        check_secret(hook("standard"), "whsec_canary")
    assert "canary" not in str(error.value)
