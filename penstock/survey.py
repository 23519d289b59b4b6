"""How a route and its gate stand, for whoever looks on: `penstock routes` shows it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias

import msgspec

COUNTED = 1000
"""Tenants whose backlogs one survey counts; where more wait, these stand for all."""

MINUTE = 60.0

CLASS = math.log(1.1)
"""Times to the first token are counted by classes, each a tenth longer: see lua/include/learn.lua.
"""

Breaker: TypeAlias = Literal["closed", "open", "half open"]


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """One route now.

    Attributes:
        configured, allowed, in_use: jobs that may run at a time by the settings, and now, and those
            admitted or running.
        requests, tokens: of the last minute, about.
        requests_per_minute, tokens_per_minute: what is allowed, None where nothing limits it.
        paused: seconds until admission goes on; 0 where it is not paused.
        opened: seconds until the breaker lets one job try; 0 where it does.
        waiting: jobs in the line, about, where there are very many tenants.
        suspects: jobs that wait apart, since they have lost their worker too often.
        workers: processes that serve it; without any its jobs wait.
        tenants: those with the longest lines, and how many jobs wait there.
        first_token_p50, first_token_p99: seconds, None where no token came lately.
        jobs_per_second, tokens_per_second: answered in the last minute.
    """

    route: str
    model: str
    fallback: tuple[str, ...]
    configured: int
    allowed: int
    in_use: int
    requests: int
    requests_per_minute: int | None
    tokens: int
    tokens_per_minute: int | None
    paused: float
    opened: float
    breaker: Breaker
    waiting: int
    suspects: int
    workers: int
    tenants: dict[str, int]
    first_token_p50: float | None
    first_token_p99: float | None
    jobs_per_second: float
    tokens_per_second: float


def read_survey(route: str, reply: list[list[bytes]]) -> Survey | None:
    """The survey in the script's reply; see lua/survey.lua."""
    if not reply:
        return None
    about, tenants, this, last = (_pairs(part) for part in reply)
    now = float(about["now"])
    traffic = _last_minute(this, last, now)
    window = about["tokens_in_window"]
    return Survey(
        route=route,
        model=about["model"],
        fallback=tuple(about["fallback"].split()),
        configured=int(about["configured"]),
        allowed=int(about["allowed"]),
        in_use=int(about["in_use"]),
        requests=round(traffic.get("admitted", 0)),
        requests_per_minute=int(about["requests_per_minute"] or 0) or None,
        tokens=int(window) if window else round(traffic.get("tokens", 0)),
        tokens_per_minute=int(about["tokens_per_minute"] or 0) or None,
        paused=max(0.0, float(about["paused_until"]) - now),
        opened=max(0.0, float(about["open_until"]) - now),
        breaker=msgspec.convert(about["breaker"], Breaker),
        waiting=int(about["waiting"]),
        suspects=int(about["suspects"]),
        workers=int(about["workers"]),
        tenants={name: int(jobs) for name, jobs in tenants.items()},
        first_token_p50=_quantile(traffic, 0.5),
        first_token_p99=_quantile(traffic, 0.99),
        jobs_per_second=traffic.get("finished", 0) / MINUTE,
        tokens_per_second=traffic.get("tokens", 0) / MINUTE,
    )


def _pairs(flat: Iterable[Any]) -> dict[str, str]:
    texts = [part.decode() if isinstance(part, bytes) else str(part) for part in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))


def _last_minute(this: Mapping[str, str], last: Mapping[str, str], now: float) -> dict[str, float]:
    """Counts of the last 60 seconds: this minute's, and what is left of the one before."""
    left = 1 - now % MINUTE / MINUTE
    return {what: int(this.get(what, 0)) + left * int(last.get(what, 0)) for what in {*this, *last}}


def _quantile(traffic: Mapping[str, float], share: float) -> float | None:
    """Seconds to the first token that this share of the answers did not exceed."""
    classes = sorted(
        (int(what.removeprefix("first ")), count)
        for what, count in traffic.items()
        if what.startswith("first ")
    )
    wanted, seen = share * sum(count for _, count in classes), 0.0
    for class_, count in classes:
        seen += count
        if seen >= wanted:
            return math.exp(class_ * CLASS) / 1000
    return None
