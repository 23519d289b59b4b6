"""Who may use the gateway: API keys of tenants, and short-lived tokens to read one job's events.

Both are random and shown once; Redis keeps their SHA-256 only. A key looks like
`pk_<id>_<secret>`, so it is found by its id and compared, in constant time, by its digest. A stream
token is found by its digest: it needs no id, because it is gone after minutes. It is stored, not
signed: that takes no secret that every gateway must share and somebody must rotate, and its time
is Redis's clock.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from penstock import keys, limits
from penstock.commands import Argument, Command
from penstock.errors import KeyNotFound
from penstock.scripts import load

ID_BYTES, SECRET_BYTES = 8, 32
"""64 bits tell keys apart; 256 bits cannot be guessed."""

_SHAPE = re.compile(r"pk_([0-9a-f]{16})_([A-Za-z0-9_-]{43})", re.ASCII)
_TOKEN_SHAPE = re.compile(r"st_[A-Za-z0-9_-]{43}", re.ASCII)

BURST_SHARE = 10
"""A key may spend this share of a minute's requests at once."""


class Scope(StrEnum):
    """What a key may do. ADMIN may do all of it, for every tenant."""

    SUBMIT = "submit"
    READ = "read"
    CANCEL = "cancel"
    ADMIN = "admin"


class ApiKey(msgspec.Struct, frozen=True):
    """What is known of a key; not the key.

    Times are seconds since the epoch by Redis's clock.
    """

    id: str
    tenant: str
    scopes: tuple[Scope, ...]
    note: str
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None

    @classmethod
    def from_fields(cls, id_: str, fields: dict[str, str]) -> ApiKey:
        """Build it from its HASH."""
        given = {**fields, "id": id_, "scopes": fields["scopes"].split()}
        return msgspec.convert(given, cls, strict=False)


class Visit(NamedTuple):
    """What a key says about who is asking.

    Attributes:
        key: its id; "" where none was ever made, so that whatever was shown does not count.
        wait: seconds until it may ask again; 0: now.
    """

    key: str
    tenant: str
    scopes: frozenset[Scope]
    wait: float


class Loan(NamedTuple):
    """What a stream token may read."""

    tenant: str
    job: str


def new_key() -> str:
    """A new key, to be shown once."""
    return f"pk_{secrets.token_hex(ID_BYTES)}_{secrets.token_urlsafe(SECRET_BYTES)}"


def id_of(key: str) -> str:
    """The part of a key that may be seen; "" where it is no key."""
    shape = _SHAPE.fullmatch(key)
    return shape[1] if shape else ""


def grant(
    key: str, tenant: str, scopes: Iterable[Scope], seconds: float | None = None, note: str = ""
) -> Command[bool]:
    """Make a key known, for ever or for so many seconds; whether it is the first that ever was."""
    id_ = id_of(key)
    asked = " ".join(dict.fromkeys(scopes))
    arguments = [id_, _digest(key), tenant, asked, note, "" if seconds is None else seconds]
    return Command(load("grant"), [keys.apikey(id_)], arguments, lambda reply: reply[0] == b"first")


def revoke(id_: str) -> Command[None]:
    """Take a key back at once. Raises KeyNotFound when parsed."""

    def parse(reply: list[bytes]) -> None:
        if reply[0] == b"unknown":
            raise KeyNotFound(f"there is no key {id_}; `penstock keys list` shows them all")

    return Command(load("revoke"), [keys.apikey(id_)], [], parse)


def roll() -> Command[list[ApiKey]]:
    """All keys ever made, oldest first."""

    def parse(reply: list[list[bytes]]) -> list[ApiKey]:
        texts = [[part.decode() for part in entry] for entry in reply]
        return [
            ApiKey.from_fields(id_, dict(zip(rest[::2], rest[1::2], strict=True)))
            for id_, *rest in texts
        ]

    return Command(load("roll"), [keys.APIKEYS], [], parse)


def visit(key: str | None, per_minute: int) -> Command[Visit | None]:
    """Who shows this key (None: none), counted as one request; None: nobody who may come in."""
    id_ = id_of(key or "")
    digest = _digest(key or "")

    def parse(reply: list[bytes]) -> Visit | None:
        if reply[0] == b"open":
            return Visit("", "default", frozenset(Scope), 0)
        stored = reply[1] if reply[0] == b"key" else b"0" * len(digest)
        if not hmac.compare_digest(stored, digest.encode()):
            return None
        scopes = frozenset(map(Scope, reply[3].decode().split()))
        return Visit(id_, reply[2].decode(), scopes, float(reply[4]))

    rate = limits.requests_rate(per_minute, max(1, per_minute // BURST_SHARE))
    return Command(load("visit"), [keys.apikey(id_)], [id_, digest, rate], parse)


def new_token() -> str:
    """A new stream token."""
    return f"st_{secrets.token_urlsafe(SECRET_BYTES)}"


def lend(token: str, loan: Loan, seconds: int) -> Command[None]:
    """Let whoever holds the token read the job's events, for so many seconds."""
    arguments: list[Argument] = [*loan, seconds]
    key = keys.streamtoken(_digest(token))
    return Command(load("lend"), [key], arguments, lambda reply: None)


def redeem(token: str) -> Command[Loan | None]:
    """What a stream token may read; None: nothing (any more)."""
    digest = _digest(token) if _TOKEN_SHAPE.fullmatch(token) else ""

    def parse(reply: Any) -> Loan | None:
        return Loan(*reply.decode().split(" ")) if reply else None

    return Command(load("redeem"), [keys.streamtoken(digest)], [], parse)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()
