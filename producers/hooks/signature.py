"""Who sent a webhook, by the schemes of those who send them. Pure: time is an argument.

======== ====================================================== ============================
scheme   what is checked                                        a delivery is known by
======== ====================================================== ============================
github   X-Hub-Signature-256 over the body                      its body
stripe   Stripe-Signature over time and body                    the event's `id`
slack    X-Slack-Signature over X-Slack-Request-Timestamp, body `event_id`, else its body
standard webhook-signature over webhook-id, webhook-timestamp   webhook-id
         and body; the headers may be called svix-… too
token    a secret in a header; nothing is signed                a header, else its body
======== ====================================================== ============================

Of a delivery's id only what is signed counts: GitHub's own is not, so whoever has once seen a
delivery could send it again under another.

Sources: https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries,
https://docs.stripe.com/webhooks#verify-manually,
https://docs.slack.dev/authentication/verifying-requests-from-slack and
https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence

from penstock.hook import Hook
from penstock.webhook import key_of, signature

_TIME = re.compile(r"[0-9]{1,12}", re.ASCII)


class Unverified(Exception):
    """The sender has not proved who it is; the text says what is missing, and no secret."""


def verify(
    hook: Hook, headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: float
) -> str | None:
    """Check a delivery; its id where the scheme signs one in a header, else None.

    Args:
        hook: the scheme and its settings.
        headers: by lower-case name.
        body: the very bytes that came.
        secrets: any of them counts.
        now: seconds since the epoch.

    Raises Unverified.
    """
    return _SCHEMES[hook.verify](hook, headers, body, secrets, now)


def _github(
    hook: Hook, headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: float
) -> None:
    scheme, _, given = _header(headers, "x-hub-signature-256").partition("=")
    if scheme != "sha256":
        raise Unverified("x-hub-signature-256 is not sha256=...")
    _compare([given], [_hex(secret, body) for secret in secrets])


def _stripe(
    hook: Hook, headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: float
) -> None:
    parts = [
        part.strip().partition("=") for part in _header(headers, "stripe-signature").split(",")
    ]
    times = [value for name, _, value in parts if name == "t"]
    if len(times) != 1:
        raise Unverified("stripe-signature has no time, or several")
    _check_time(times[0], hook.tolerance, now)
    signed = times[0].encode() + b"." + body
    given = [value for name, _, value in parts if name == "v1"]
    _compare(given, [_hex(secret, signed) for secret in secrets])


def _slack(
    hook: Hook, headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: float
) -> None:
    time = _header(headers, "x-slack-request-timestamp")
    _check_time(time, hook.tolerance, now)
    version, _, given = _header(headers, "x-slack-signature").partition("=")
    if version != "v0":
        raise Unverified("x-slack-signature is not v0=...")
    signed = b"v0:" + time.encode() + b":" + body
    _compare([given], [_hex(secret, signed) for secret in secrets])


def _standard(
    hook: Hook, headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: float
) -> str:
    prefix = _prefix(headers)
    id_ = _header(headers, f"{prefix}-id")
    time = _header(headers, f"{prefix}-timestamp")
    _check_time(time, hook.tolerance, now)
    if time != str(int(time)):
        raise Unverified(f"{prefix}-timestamp has leading zeros")
    given = _header(headers, f"{prefix}-signature").split(" ")
    expected = [signature(secret, id_, int(time), body) for secret in secrets]
    _compare([each for each in given if each.startswith("v1,")], expected)
    return id_


def _token(
    hook: Hook, headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: float
) -> str | None:
    given = _header(headers, hook.header or "authorization")
    if hook.header is None:
        scheme, _, given = given.partition(" ")
        if scheme.lower() != "bearer":
            raise Unverified("authorization is not Bearer ...")
    _compare([given], secrets)
    return headers.get(hook.delivery_header) if hook.delivery_header else None


_SCHEMES = {
    "github": _github,
    "stripe": _stripe,
    "slack": _slack,
    "standard": _standard,
    "token": _token,
}


def id_header(hook: Hook, headers: Mapping[str, str]) -> str | None:
    """The header that holds the delivery's id, None where the scheme knows none."""
    if hook.verify == "standard":
        return f"{_prefix(headers)}-id"
    return hook.delivery_header if hook.verify == "token" else None


def _prefix(headers: Mapping[str, str]) -> str:
    """How the headers of Standard Webhooks begin; those of Svix, who began it, differ."""
    return "svix" if "svix-signature" in headers and "webhook-id" not in headers else "webhook"


def check_secret(hook: Hook, secret: str) -> None:
    """Raise ValueError for a secret that this scheme cannot have."""
    if hook.verify == "standard":
        key_of(secret)


def _header(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name, "").strip()
    if not value:
        raise Unverified(f"the header {name} is missing")
    if not value.isascii():
        raise Unverified(f"the header {name} is not readable")
    return value


def _check_time(text: str, tolerance: float, now: float) -> None:
    """What was recorded once must not work for ever."""
    if not _TIME.fullmatch(text):
        raise Unverified("the signed time is no number of seconds")
    if abs(now - int(text)) > tolerance:
        raise Unverified(f"the signed time is over {tolerance:g} s from now")


def _hex(secret: str, signed: bytes) -> str:
    return hmac.digest(secret.encode(), signed, hashlib.sha256).hex()


def _compare(given: Iterable[str], expected: Sequence[str]) -> None:
    """Raise Unverified unless one is another, in a time that does not tell how nearly."""
    matches = [
        hmac.compare_digest(each.encode(), right.encode()) for each in given for right in expected
    ]
    if not any(matches):
        raise Unverified("the signature or token is not right")
