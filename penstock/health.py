"""Whether a server is fit to be trusted with jobs: judged from its INFO and CONFIG replies.

Accepted jobs live nowhere but in Redis. A server that evicts keys, keeps nothing on disk, or is a
replica that may not be written to, loses what was promised.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from penstock.errors import PenstockError
from penstock.store import Store, mapped_errors

MINIMUM_REDIS = (7, 0)
MINIMUM_VALKEY = (7, 2)
"""Redis 7.0 is the first with what the scripts use; Valkey's first release was 7.2."""

ASKED = ("appendfsync", "save")
"""What INFO does not tell. Managed servers often refuse CONFIG; then these are not judged."""

FULL = 0.8
"""Share of the memory in use from which on there is little head-room."""

Level: TypeAlias = Literal["warning", "problem"]


class Problem(NamedTuple):
    """One thing that is wrong with a server.

    Attributes:
        name: version, role, eviction, persistence or memory.
        level: `problem` where Penstock cannot work or loses jobs in daily use, else `warning`.
        text: what is wrong, without a full stop.
        advice: what to do about it.
    """

    name: str
    level: Level
    text: str
    advice: str


def problems(info: Mapping[str, Any], config: Mapping[str, str]) -> list[Problem]:
    """What makes this server unsafe; `config` may lack any name."""
    found = [
        _version(info),
        _role(info),
        _eviction(info),
        _persistence(info, config),
        _synchronisation(info, config),
        _writing(info),
    ]
    return [problem for problem in found if problem is not None]


def head_room(info: Mapping[str, Any]) -> Problem | None:
    """A warning if memory gets scarce: jobs are safe, but new ones will soon be refused."""
    used, limit = int(info["used_memory"]), int(info.get("maxmemory") or 0)
    room = limit or int(info.get("total_system_memory") or 0)
    if not room or used < FULL * room:
        return None
    what = "maxmemory" if limit else "the machine's memory"
    text = f"{used / room:.0%} of {what} ({size(room)}) is in use"
    advice = "give it more, or shorten PENSTOCK_RESULT_TTL; a full server takes no new jobs"
    return Problem("memory", "warning", text, advice)


def server_problems(store: Store) -> list[Problem]:
    """Ask a server; raises StoreUnavailable and what `mapped_errors` raises."""
    with mapped_errors(store.url):
        info = store.redis.info()
    try:
        with mapped_errors(store.url):
            config = store.redis.config_get(*ASKED)
    except PenstockError:  # CONFIG is forbidden or renamed
        config = {}
    return problems(info, _texts(config))


def version(info: Mapping[str, Any]) -> str:
    """The server's name and version, such as `Valkey 9.1.0`."""
    if "valkey_version" in info:
        return f"Valkey {info['valkey_version']}"
    return f"Redis {info['redis_version']}"


def _version(info: Mapping[str, Any]) -> Problem | None:
    name, _, number = version(info).partition(" ")
    minimum = MINIMUM_VALKEY if name == "Valkey" else MINIMUM_REDIS
    if tuple(int(part) for part in number.split(".")[:2]) >= minimum:
        return None
    advice = "run Redis 7.0 or Valkey 7.2 or newer"
    return Problem("version", "problem", f"{name} {number} is too old", advice)


def _role(info: Mapping[str, Any]) -> Problem | None:
    if info.get("role", "master") == "master":
        return None
    master = f"{info.get('master_host')}:{info.get('master_port')}"
    advice = f"point PENSTOCK_REDIS_URL at the primary, {master}"
    return Problem("role", "problem", "the server is a replica and takes no writes", advice)


def _eviction(info: Mapping[str, Any]) -> Problem | None:
    policy = info.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        return None
    limited = int(info.get("maxmemory") or 0) > 0
    text = f"maxmemory-policy is {policy}: a full server throws jobs away"
    advice = "set maxmemory-policy noeviction"
    return Problem("eviction", "problem" if limited else "warning", text, advice)


def _persistence(info: Mapping[str, Any], config: Mapping[str, str]) -> Problem | None:
    if int(info.get("aof_enabled", 0)):
        return None
    snapshots = config.get("save", "unknown") != ""
    lost = "jobs since the last snapshot are" if snapshots else "every job is"
    text = f"appendonly is no: when the server ends badly {lost} lost"
    return Problem("persistence", "warning", text, "set appendonly yes")


def _synchronisation(info: Mapping[str, Any], config: Mapping[str, str]) -> Problem | None:
    if not int(info.get("aof_enabled", 0)) or config.get("appendfsync") != "no":
        return None
    text = "appendfsync is no: when the machine goes down the last half minute of jobs is lost"
    return Problem("persistence", "warning", text, "set appendfsync everysec")


def _writing(info: Mapping[str, Any]) -> Problem | None:
    for name, what in _WRITES.items():
        if info.get(name, "ok") != "ok":
            advice = "free space on the server's disk, and read its log"
            return Problem("persistence", "problem", f"the last {what} failed", advice)
    return None


_WRITES = {
    "aof_last_write_status": "write to the append-only file",
    "aof_last_bgrewrite_status": "rewrite of the append-only file",
    "rdb_last_bgsave_status": "snapshot",
}


def _texts(config: Mapping[Any, Any]) -> dict[str, str]:
    return {_text(name): _text(value) for name, value in config.items()}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def size(count: float) -> str:
    """A number of bytes, for people."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
