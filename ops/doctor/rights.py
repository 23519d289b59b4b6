"""Checks of the users: whether each may do what its role of ops/redis/users.acl needs.

The server itself is asked, with ACL DRYRUN, which runs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ops.doctor.finding import Finding
from penstock.errors import ConfigurationError, NotPermitted, PenstockError
from penstock.store import Store, mapped_errors

USERS = Path(__file__).parents[1] / "redis" / "users.acl"

SHOWN = 4

WORDS = range(6)
"""How many to try behind a command: before there are enough the server does not look at rights."""

NO_COMMAND, NO_KEY, NO_CHANNEL = "permissions to run", "' key", "' channel"
"""How the server refuses."""

LOADING_ADVICE = (
    "before anything else run ACL SETUSER default off resetpass allkeys allchannels +@all, then "
    "make-users.sh; the append-only file is read as this user"
)
"""`off` keeps everybody out as ever."""

OPERATOR_ADVICE = "run penstock doctor as the user `operator`, who may ask"


def allowed(subject: str, check: Iterable[Finding]) -> Iterator[Finding]:
    """A check that may need rights which the user of this role has not, and need not have."""
    try:
        yield from check
    except NotPermitted:
        text = "the user in PENSTOCK_REDIS_URL may not ask for all of this, so it is not checked"
        yield Finding(subject, "warning", text, OPERATOR_ADVICE)


class Role(NamedTuple):
    """What a user needs: commands, keys and channels as the rules of its line name them."""

    name: str
    commands: tuple[str, ...]
    keys: tuple[str, ...]
    channels: tuple[str, ...]


def check_rights(store: Store) -> Iterator[Finding]:
    """Of every user of a role that the server knows; of whoever asks, where it has no roles."""
    try:
        with mapped_errors(store.url):
            known = {_text(name) for name in store.redis.execute_command("ACL", "USERS")}
            own = _text(store.redis.execute_command("ACL", "WHOAMI"))
    except ConfigurationError:
        text = "this user may not ask what users may do, so that is not checked"
        yield Finding("rights", "warning", text, OPERATOR_ADVICE)
        return
    except PenstockError:  # a managed server without ACL commands
        return
    yield from _check_loading(store)
    here = [role for role in roles() if role.name in known]
    asked = here or [role._replace(name=own) for role in roles()]
    found = [finding for role in asked if (finding := _check(store, role))]
    yield from found
    if not found:
        names = f"users {', '.join(role.name for role in here)} have" if here else f"user {own} has"
        yield Finding("rights", "ok", f"{names} what the code uses; asked by {own}")


def roles() -> list[Role]:
    """The roles that have exactly what the code of this version uses."""
    found = []
    for line in USERS.read_text().splitlines():
        _, name, *rules = line.split()
        commands = tuple(rule[1:] for rule in rules if rule[0] == "+" and rule[1] != "@")
        keys = tuple(rule.partition("~")[2] for rule in rules if "~" in rule)
        channels = tuple(rule[1:] for rule in rules if rule[0] == "&")
        if commands:
            found.append(Role(name, commands, keys, channels))
    return found


def _check_loading(store: Store) -> Iterator[Finding]:
    """Whether a restart reads all there is in the append-only file: it is done as `default`."""
    replies = []
    for words in (["EXEC"], ["HSET", "penstock:job:x", "field", "value"]):
        with mapped_errors(store.url):
            replies.append(_text(store.redis.execute_command("ACL", "DRYRUN", "default", *words)))
    if any(reply != "OK" for reply in replies):
        text = "a restart of this server would lose jobs: its user default may not do everything"
        yield Finding("rights", "problem", text, LOADING_ADVICE)


def _check(store: Store, role: Role) -> Finding | None:
    calls = [*_commands(role), *_keys(role), *_channels(role)]
    with mapped_errors(store.url):
        pipeline = store.redis.pipeline(transaction=False)
        for _, words, _ in calls:
            pipeline.execute_command("ACL", "DRYRUN", role.name, *words)
        replies = pipeline.execute(raise_on_error=False)
    pairs = zip(calls, replies, strict=True)
    missing = list(dict.fromkeys(what for (what, _, sign), r in pairs if sign in _text(r)))
    if not missing:
        return None
    more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    text = f"user {role.name} may not use {', '.join(missing[:SHOWN])}{more}"
    advice = "give the server the users.acl of this version (make-users.sh, then ACL LOAD)"
    return Finding("rights", "problem", text, advice)


Call = tuple[str, list[str], str]
"""What it is about, the words of a call, and what a refusal of it says."""


def _commands(role: Role) -> Iterator[Call]:
    for command in role.commands:
        for count in WORDS:
            yield f"+{command}", [*command.split("|"), *["0"] * count], NO_COMMAND


def _keys(role: Role) -> Iterator[Call]:
    read = "hgetall" if "hgetall" in role.commands else "llen"
    touch = "del" if "del" in role.commands else read
    for key in role.keys:
        yield f"~{key}", [touch, key.replace("*", "x")], NO_KEY


def _channels(role: Role) -> Iterator[Call]:
    for channel in role.channels:
        words = ["publish", channel, "x"] if "publish" in role.commands else ["subscribe", channel]
        yield f"&{channel}", [word.replace("*", "x") for word in words], NO_CHANNEL


def _text(reply: Any) -> str:
    return reply.decode() if isinstance(reply, bytes) else str(reply)
