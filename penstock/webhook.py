"""Webhooks out by the rules of Standard Webhooks: who is told of what, and how it is signed.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from penstock import mistake

EventName = Literal[
    "started", "delta", "restarted", "completed", "failed", "cancelled", "expired"
]  # fmt: skip
"""What an endpoint can be told of: every event but `queued`, which its submitter knows."""

AT_THE_END: tuple[EventName, ...] = ("completed", "failed", "cancelled", "expired")
"""What it is told of where nobody says."""

SECRET_PREFIX = "whsec_"  # noqa: S105 - what every secret begins with
SECRET_BYTES = range(24, 65)
"""How long a secret may be: the specification's own limits."""

MAX_URL = 2048


def key_of(secret: str) -> bytes:
    """The key that a secret stands for; raises ValueError that does not show it."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) not in SECRET_BYTES:
        raise ValueError(
            f"is no webhook secret, which is {SECRET_PREFIX} and 24 to 64 bytes in base64, or "
            "several of them, for a rotation, separated by spaces"
        )
    return key


def signature(secret: str, id_: str, timestamp: int, body: bytes) -> str:
    """`v1,` and the HMAC-SHA256 of id, time (seconds since the epoch) and body."""
    signed = f"{id_}.{timestamp}.".encode() + body
    digest = hmac.digest(key_of(secret), signed, hashlib.sha256)
    return f"v1,{base64.b64encode(digest).decode()}"


def signed_headers(
    secrets: Iterable[SecretStr], id_: str, timestamp: int, body: bytes
) -> dict[str, str]:
    """The headers of one delivery, with a signature for each secret; without any, none."""
    given = [signature(s.get_secret_value(), id_, timestamp, body) for s in secrets]
    headers = {"webhook-id": id_, "webhook-timestamp": str(timestamp)}
    return {**headers, "webhook-signature": " ".join(given)} if given else headers


def _split(value: Any) -> Any:
    """Several secrets may stand in one text."""
    value = value.get_secret_value() if isinstance(value, SecretStr) else value
    return tuple(value.split()) if isinstance(value, str) else value


def _are_secrets(secrets: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    try:
        for secret in secrets:
            key_of(secret.get_secret_value())
    except ValueError as error:
        raise mistake.wrong(str(error), "make one: echo whsec_$(openssl rand -base64 32)") from None
    return secrets


Secrets = Annotated[tuple[SecretStr, ...], BeforeValidator(_split), AfterValidator(_are_secrets)]


def _is_callable(url: str) -> str:
    """Refuse what is no URL, and what different readers would read differently."""
    wrong = mistake.wrong(
        "is no webhook's URL",
        "write http:// or https:// and a host, without spaces or a password",
    )
    if not all("!" <= letter <= "~" and letter != "\\" for letter in url):
        raise wrong
    try:
        parts = urlsplit(url)
        named = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        raise wrong from None
    if not named or "@" in parts.netloc:
        raise wrong
    return url


Url = Annotated[str, Field(max_length=MAX_URL), AfterValidator(_is_callable)]
Events = Annotated[tuple[EventName, ...], Field(min_length=1)]


class Webhook(BaseModel):
    """An endpoint as a job brings it.

    Attributes:
        url: where to POST; https unless the workers allow http.
        secret: one or several, in the form `whsec_<base64>`; left out: the workers' own.
        events: what to tell it of.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Url
    secret: Secrets = ()
    events: Events = AT_THE_END

    @property
    def event_names(self) -> str:
        """As the scripts read them: separated by commas."""
        return ",".join(self.events)


class TenantWebhook(BaseModel):
    """An endpoint as penstock.toml names it, with its secret in the environment."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Url
    secret_env: Annotated[str, Field(pattern=mistake.VARIABLE)] | None = None
    events: Events = AT_THE_END


def published(webhook: TenantWebhook) -> str:
    """A tenant's endpoint as lua/include/report.lua reads it: events, `secret_env` or -, URL."""
    return f"{','.join(webhook.events)} {webhook.secret_env or '-'} {webhook.url}"


def from_text(value: Any) -> Any:
    """A URL by itself is an endpoint too."""
    return {"url": value} if isinstance(value, str) else value
