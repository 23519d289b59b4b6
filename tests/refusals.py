"""Tries every command of a server that a role of ops/redis/users.acl has not."""

from __future__ import annotations

import re
from typing import Any

import redis
from redis.exceptions import ExecAbortError, NoPermissionError

from tests.roles import granted

ALWAYS = {"auth", "hello", "quit", "reset"}
"""Before anybody has a name the server takes these, and so it does from everybody."""

REFUSAL = re.compile("NOPERM|command not allowed")
"""What a refusal says; the last is of those that nobody may use unless redis.conf says so."""


def outside(role: str, operator: str) -> dict[str, int]:
    """The commands that the role has not, with how many words each takes at least.

    Args:
        role: its name.
        operator: a URL of the server for somebody who may ask for its commands.
    """
    allowed = granted()[role].commands | ALWAYS
    with redis.Redis.from_url(operator) as connection:
        connection.set_response_callback("COMMAND", lambda reply, **_: reply)
        known = {_text(name): words for name, words in _commands(connection).items()}
    return {
        name: words
        for name, words in known.items()
        if name not in allowed and name.split("|")[0] not in allowed
    }


def taken(url: str, commands: dict[str, int]) -> list[str]:
    """Those of the commands that whoever comes with this URL is not refused."""
    found = []
    with redis.Redis.from_url(url) as connection:
        for name, words in commands.items():
            parts = name.split("|")
            try:
                connection.execute_command(*parts, *["x"] * (words - len(parts)))
            except (redis.ResponseError, ExecAbortError) as error:
                if not isinstance(error, NoPermissionError) and not REFUSAL.search(str(error)):
                    found.append(f"{name}: {error}")
            else:
                found.append(name)
    return found


def _commands(server: Any) -> dict[Any, int]:
    """All the server knows, subcommands as `name|sub`."""
    found = {}
    for about in server.execute_command("COMMAND"):
        found[about[0]] = abs(about[1])
        for sub in about[9] if len(about) > 9 else ():
            found.pop(about[0], None)
            found[sub[0]] = abs(sub[1])
    return found


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
