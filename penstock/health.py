"""Whether a server keeps its promises: what it may lose, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from penstock.errors import StoreError
from penstock.store import AsyncStore, Store, mapped_errors

OLDEST_REDIS = (7, 0)
"""Scripts carry flags since Redis 7.0, which is how running jobs finish when memory is full."""


class Problem(NamedTuple):
    """Something about a server that may cost jobs.

    Attributes:
        check: what was looked at: version, persistence, eviction or replica.
        text: what is wrong.
        advice: what to do.
        fatal: nothing works with it; the others lose jobs only when something else goes wrong.
    """

    check: str
    text: str
    advice: str
    fatal: bool = False


def problems(info: Mapping[str, Any], eviction: str | None) -> list[Problem]:
    """What is wrong by these replies.

    Args:
        info: INFO's fields.
        eviction: the setting `maxmemory-policy`, None where it may not be read.
    """
    return [p for p in (_version(info), _persistence(info), _eviction(eviction), _role(info)) if p]


def server_problems(store: Store) -> list[Problem]:
    """Ask the server; raises StoreUnavailable."""
    with mapped_errors(store.url):
        info = store.redis.info()
    try:
        with mapped_errors(store.url):
            policy = store.redis.config_get("maxmemory-policy").get("maxmemory-policy")
    except StoreError:
        policy = info.get("maxmemory_policy")  # managed servers often forbid CONFIG
    return problems(info, policy)


async def server_problems_async(store: AsyncStore) -> list[Problem]:
    """As `server_problems`, for asyncio."""
    with mapped_errors(store.url):
        info = await store.redis.info()
    return problems(info, info.get("maxmemory_policy"))


def _version(info: Mapping[str, Any]) -> Problem | None:
    version = str(info.get("redis_version", "0"))
    if tuple(int(part) for part in version.split(".")[:2]) >= OLDEST_REDIS:
        return None
    return Problem(
        "version", f"Redis {version} is too old", "use Redis 7.0, Valkey 7.2 or newer", fatal=True
    )


def _persistence(info: Mapping[str, Any]) -> Problem | None:
    if info.get("aof_enabled"):
        return None
    return Problem(
        "persistence",
        "the server keeps no append-only file, so a restart loses accepted jobs",
        "set appendonly yes",
    )


def _eviction(policy: str | None) -> Problem | None:
    if policy in (None, "noeviction"):
        return None
    return Problem(
        "eviction",
        f"the server evicts ({policy}), so jobs may vanish when memory is full",
        "set maxmemory-policy noeviction",
    )


def _role(info: Mapping[str, Any]) -> Problem | None:
    if info.get("role", "master") == "master":
        return None
    return Problem(
        "replica", "this server is a replica and takes no writes", "use its primary", fatal=True
    )
