"""Every operation on the webhooks' outbox, without I/O: see commands.py, and docs/webhooks.md."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Literal, NamedTuple

import msgspec
from pydantic import SecretStr

from penstock import keys
from penstock.commands import Argument, Command, carried
from penstock.errors import DeliveryNotFound
from penstock.events import encode
from penstock.scripts import load
from penstock.trace import Carrier


class DeliveryState(StrEnum):
    """What became of a delivery; all but `waiting` are ends, until somebody sends it again."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"
    DISABLED = "disabled"


class Try(msgspec.Struct, frozen=True):
    """One call of an endpoint.

    Attributes:
        time: by the worker's clock, in seconds since the epoch.
        seconds: how long it took.
        status: what it answered, None where it did not.
        error: what went wrong, "" where nothing did.
    """

    time: float
    seconds: float
    status: int | None = None
    error: str = ""


class Delivery(msgspec.Struct, frozen=True):
    """An event on its way to an endpoint, as a listing shows it: without event and secrets.

    Attributes:
        id: the `webhook-id` of each of its tries: <job>-<cursor>.
        time: when the event happened, created_at: when it was put into the outbox.
        due: when it is tried next, None where it has ended.
        tries: since it was put there, or sent again by hand.
        log: every try, oldest first.
    """

    id: str
    job: str
    tenant: str
    route: str
    type: str
    cursor: str
    url: str
    state: DeliveryState
    time: float
    created_at: float
    due: float | None = None
    tries: int = 0
    log: list[Try] = []

    LISTED = ("job", "tenant", "route", "type", "cursor", "url", "state", "time", "created_at",
              "tries", "log")  # fmt: skip

    @classmethod
    def from_values(
        cls, id_: str, values: Sequence[bytes | None], due: float | None
    ) -> Delivery | None:
        """Build it from the fields LISTED of the HASH; None where there is none."""
        named = zip(cls.LISTED, values, strict=True)
        fields: dict[str, Any] = {name: v.decode() for name, v in named if v is not None}
        if not fields:
            return None
        lines = fields.pop("log", "").splitlines()
        log = [msgspec.json.decode(line, type=Try) for line in lines]
        given = {**fields, "id": id_, "due": due, "log": log}
        return msgspec.convert(given, cls, strict=False)


class Taken(msgspec.Struct, frozen=True):
    """A delivery that is ours to try once.

    Attributes:
        claim: the fence.
        tries: how often it was tried before.
        secrets: the job's own; empty: those of `secret_env`, or the worker's own.
        metadata: the job's, as JSON.
        event: as it stands in the feed; empty where it is too large, or is made of deltas.
        after, until: the cursors between which a delta's parts stand, the first one excluded.
        trace: what its job's trace goes on from.
    """

    id: str
    claim: int
    job: str
    tenant: str
    route: str
    type: str
    cursor: str
    time: float
    url: str
    tries: int
    secrets: tuple[SecretStr, ...]
    secret_env: str | None
    metadata: bytes
    event: bytes
    after: str
    until: str
    trace: Carrier | None = None

    def __repr__(self) -> str:
        return f"Taken(id={self.id!r}, claim={self.claim!r})"

    @property
    def about(self) -> dict[str, Any]:
        """What each log line about it says."""
        attempt = int(self.cursor.partition("-")[0])
        return {
            "delivery": self.id, "type": self.type, "job": self.job, "attempt": attempt,
            "route": self.route, "tenant": self.tenant,
        }  # fmt: skip

    @classmethod
    def from_fields(cls, id_: str, claim: int, fields: Mapping[bytes, bytes]) -> Taken:
        """Build it from the HASH."""

        def text(name: bytes) -> str:
            return fields.get(name, b"").decode()

        return cls(
            id_, claim, text(b"job"), text(b"tenant"), text(b"route"), text(b"type"),
            text(b"cursor"), float(fields[b"time"]), text(b"url"), int(fields.get(b"tries", 0)),
            tuple(map(SecretStr, text(b"secret").split())), text(b"secret_env") or None,
            fields.get(b"metadata", b"{}"), fields.get(b"event", b""),
            text(b"after"), text(b"until"), carried(fields),
        )  # fmt: skip


class Due(NamedTuple):
    """What was taken, and in how many seconds more is due; None where nothing waits."""

    taken: list[Taken]
    wait: float | None


def take(lease: float, most: int) -> Command[Due]:
    """Take deliveries that are due, for as long as a lease."""

    def parse(reply: list[Any]) -> Due:
        wait, *rows = reply
        taken = [
            Taken.from_fields(row[0].decode(), row[1], dict(zip(row[2::2], row[3::2], strict=True)))
            for row in rows
        ]
        return Due(taken, float(wait) if wait else None)

    return Command(load("take_deliveries"), [], [lease, most], parse)


Verdict = Literal["delivered", "retry", "failed", "gone"]


def settle(taken: Taken, verdict: Verdict, tried: Try, delay: float = 0) -> Command[bool]:
    """Say what came of a try; False where the delivery was taken anew meanwhile."""
    arguments: list[Argument] = [taken.id, taken.claim, verdict, f"{delay:.3f}", encode(tried)]
    touched = [keys.delivery(taken.id)]
    return Command(load("settle_delivery"), touched, arguments, lambda reply: reply[0] != b"stale")


def resend(id_: str) -> Command[None]:
    """Send a delivery again, at once; raises DeliveryNotFound when parsed."""

    def parse(reply: list[bytes]) -> None:
        if reply[0] == b"unknown":
            raise DeliveryNotFound(
                f"there is no delivery {id_}; see `penstock webhooks list`. "
                "What was delivered is kept as long as its job, what failed for a week"
            )

    return Command(load("resend"), [keys.delivery(id_)], [id_, secrets.token_hex(8)], parse)


def ask(pipeline: Any, ids: Iterable[str]) -> Any:
    """Ask for deliveries, as a listing shows them."""
    for id_ in ids:
        pipeline.hmget(keys.delivery(id_), Delivery.LISTED)
        pipeline.zscore(keys.WEBHOOKS, id_)
    return pipeline


def found(ids: Sequence[str], replies: Sequence[Any]) -> list[Delivery]:
    """Those of the deliveries asked for that there are."""
    rows = zip(ids, replies[::2], replies[1::2], strict=True)
    return list(filter(None, (Delivery.from_values(id_, values, due) for id_, values, due in rows)))
