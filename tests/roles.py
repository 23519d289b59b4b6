"""What each role of ops/redis/users.acl needs on Redis, read from the code that plays it.

`python -m tests.roles` writes the file anew; look at what has changed before you commit it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from penstock.keys import CATALOGUE
from penstock.scripts import load

ROOT = Path(__file__).parents[1]
USERS = ROOT / "ops" / "redis" / "users.acl"

CALLS = {"client|setname", "eval", "evalsha"}
"""What redis-py sends for every connection, and for every script."""

LOOKING = ("client.py", "feed.py", "fanout.py", "outbox.py", "page.py")
"""The modules of the library that read without a script: records, lists, feeds, usage."""

READS = {
    "get", "hget", "hgetall", "hmget", "smembers", "time", "xrange", "xrevrange", "zrange",
    "zrevrange", "zrevrangebyscore", "zscore",
}  # fmt: skip

WRITES = {"del", "hdel", "hincrby", "hset", "hsetnx"}
"""What scripts that only look on hold in what they include, and never come to."""

OPERATORS = {"apply"}
"""Scripts of the client that are for people: limits are not the producer's to set."""

FOLLOWS = {"ping", "subscribe", "unsubscribe"}

BROKER = {
    "brpop", "del", "exec", "info", "llen", "lpush", "multi", "ping", "publish", "sadd",
    "script|exists", "script|load", "smembers", "srem", "subscribe", "unsubscribe",
    "psubscribe", "punsubscribe", "time", "zadd", "zrangebyscore",
}  # fmt: skip
"""What kombu and redis-py's registered scripts send."""

BROKER_KEYS = {"penstock:_kombu.*", "penstock:*.celery.pidbox"}
BROKER_CHANNELS = {"penstock:/0.celery.pidbox", "penstock:/0.celeryev/*"}
"""Celery's remote control and its events. The number is the database's: a pattern that is
subscribed to must stand in the list letter by letter."""


class Role(NamedTuple):
    """What a user may do: commands, keys and channels as ACL rules name them."""

    commands: set[str]
    keys: set[str]
    channels: set[str]


def granted() -> dict[str, Role]:
    """The roles by name, as ops/redis/users.acl has them."""
    roles = {}
    for line in USERS.read_text().splitlines():
        _, name, *rules = line.split()
        roles[name] = Role(
            {rule[1:] for rule in rules if rule[0] == "+"},
            {rule.partition("~")[2] for rule in rules if "~" in rule},
            {rule[1:] for rule in rules if rule[0] == "&"},
        )
    return roles


def needed() -> dict[str, Role]:
    """The roles by name, as the code needs them; `operator` may all, `metrics` is for others."""
    client = scripts_of("penstock/client.py") - OPERATORS
    agrees = scripts_of("penstock/agreement.py")
    library = "".join((ROOT / "penstock" / name).read_text() for name in LOOKING)
    looks = READS & set(re.findall(r"\.([a-z]+)\(", library))
    looked_at = {name.lower() for name in re.findall(r"\bkeys\.(\w+)", library)} & set(CATALOGUE)
    producer = _role(client, CALLS | looks | FOLLOWS, looked_at, feeds=True)
    gateway = _role(
        client | agrees | scripts_of("producers/gateway"),
        CALLS | looks | FOLLOWS, looked_at, feeds=True,
    )  # fmt: skip
    reader = _role(
        {"outlook", "survey", "muster", "glance"}, CALLS | looks | FOLLOWS, looked_at, feeds=True
    )
    reader.commands.difference_update(WRITES)
    worker = _role(agrees | scripts_of("worker"), CALLS | BROKER, {"queue"}, feeds=False)
    looks_at = {"penstock:celeryev.*", _pattern("queue")}  # Flower tells how long the queues are
    celery = Role(CALLS | BROKER, BROKER_KEYS | looks_at, BROKER_CHANNELS)
    worker.keys.update(BROKER_KEYS)
    worker.channels.update(BROKER_CHANNELS, [CATALOGUE["control"], _pattern("feed")])
    return {
        "producer": producer, "gateway": gateway, "reader": reader, "worker": worker,
        "celery": celery,
    }  # fmt: skip


def scripts_of(place: str) -> set[str]:
    """The scripts that the code in this file or folder calls."""
    path = ROOT / place
    files = [path] if path.is_file() else sorted(path.rglob("*.py"))
    calls = {
        c
        for f in files
        for c in re.findall(
            r"\b(?:commands|access|attendance|glance|outbox)\.(\w+)\(", f.read_text()
        )
    }
    return {script for call in calls for script in _SCRIPTS.get(call, ())}


def _loaded() -> dict[str, set[str]]:
    """By function of the modules that speak for the scripts: which ones it loads."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "penstock").glob("*.py"):
        for part in re.split(r"^def ", path.read_text(), flags=re.MULTILINE)[1:]:
            for script in re.findall(r'\bload\("(\w+)"\)', part):
                found.setdefault(re.split(r"\W", part)[0], set()).add(script)
    return found


_SCRIPTS = _loaded()


def _role(scripts: Iterable[str], commands: set[str], keys: set[str], *, feeds: bool) -> Role:
    role = Role(set(commands), {_pattern(name) for name in keys}, set())
    if feeds:
        role.channels.add(_pattern("feed"))
    for source in (load(name).source for name in scripts):
        role.commands.update(_commands(source))
        role.keys.update(_pattern(name) for name in _named(source) if name != "control")
        if "control" in _named(source):
            role.channels.add(CATALOGUE["control"])
    return role


def _commands(source: str) -> set[str]:
    calls = re.findall(r"redis\.p?call\('(\w+)'(?:, '([A-Z]+)')?", source)
    return {f"{name}|{rest}".lower() if name == "PUBSUB" else name.lower() for name, rest in calls}


def _named(source: str) -> set[str]:
    """The keys that a script builds, and those that its header says it is given."""
    header = "\n".join(re.findall(r"^-- KEYS((?:.*\n)(?:--   .*\n)*)", source, re.MULTILINE))
    return {
        name
        for name, key in CATALOGUE.items()
        if f"'{key}'" in source or re.search(rf"\d  ?{name}\b", header)
    } | ({"queue"} if "queue of the route" in header else set())


def _pattern(name: str) -> str:
    key = CATALOGUE[name]
    return key if key[-1].isalnum() else f"{key}*"


def _line(name: str, role: Role) -> str:
    """A user's line; a reader's keys are for reading."""
    mark = "%R~" if name == "reader" else "~"
    return " ".join([
        "user", name, "on", "resetkeys", "resetchannels", "-@all",
        *(mark + key for key in sorted(role.keys)),
        *(f"&{channel}" for channel in sorted(role.channels)),
        *(f"+{command}" for command in sorted(role.commands)),
    ])  # fmt: skip


if __name__ == "__main__":
    roles = needed()
    lines = [
        _line(name, roles[name]) if (name := line.split()[1]) in roles else line
        for line in USERS.read_text().splitlines()
    ]
    USERS.write_text("\n".join(lines) + "\n")
