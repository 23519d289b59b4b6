"""What PENSTOCK_REDIS_URL may say: a server, or Sentinels that know which of several it is.

::

    redis://USER:PASSWORD@HOST:PORT/DB
    rediss://…                               with TLS
    unix:///PATH?db=DB
    sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT,…/DB?master_name=NAME
    sentinels://…                            with TLS to Sentinels and servers

User, password and database are the servers'; the Sentinels' own are `sentinel_username` and
`sentinel_password`. Everything else behind the question mark is redis-py's (`ssl_ca_certs`, …).
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from penstock.mistake import wrong

SERVERS = ("redis", "rediss", "unix")
SENTINELS = {"sentinel": "redis", "sentinels": "rediss"}
"""Schemes of Sentinels, and of the servers they know."""

SENTINEL_PORT = 26_379
"""Sentinel's own default."""

MAX_PORT = 65_535

_PLACE = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:\[\]\s]+))(?::(?P<port>\d+))?")
_NEXT = re.compile(r";sentinels?://(?:[^@/;]*@)?")
"""Between two Sentinels as kombu writes them: each a URL."""


class Address(NamedTuple):
    """A URL, understood.

    Attributes:
        url: of the server, as redis-py reads it; of a server that Sentinels know without its host.
        sentinels: host and port of each; none where the URL is the server's own.
        primary: the name by which the Sentinels know it.
        sentinel_login: username and password for the Sentinels; those that are given.
    """

    url: str
    sentinels: tuple[tuple[str, int], ...] = ()
    primary: str = ""
    sentinel_login: tuple[tuple[str, str], ...] = ()


def read(url: str) -> Address:
    """Understand a URL; raises what `mistake.wrong` makes, which shows nothing of a secret."""
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in (*SERVERS, *SENTINELS):
        known = ", ".join(f"{each}://" for each in (*SERVERS, *SENTINELS))
        raise wrong(f"is {without_credentials(url)!r}", f"begin it with one of {known}")
    try:
        parts = urlsplit(_NEXT.sub(",", url) if scheme in SENTINELS else url)
        if parts.fragment or (scheme in SERVERS and (parts.port or 0) > MAX_PORT):
            raise ValueError("no such URL")
    except ValueError:
        raise unreadable() from None
    return _of_sentinels(parts) if scheme in SENTINELS else Address(url)


def is_of_sentinels(url: str) -> bool:
    """Whether a URL names Sentinels, not the server itself."""
    return url.partition("://")[0] in SENTINELS


def unreadable() -> ValueError:
    """The error for a URL that is none."""
    return wrong(
        "cannot be read",
        "write special characters of the password as %-escapes (# is %23, / is %2F, @ is %40), "
        "and check port, database and options",
    )


def _of_sentinels(parts: SplitResult) -> Address:
    login, _, places = parts.netloc.rpartition("@")
    options = dict(parse_qsl(parts.query))
    primary = options.pop("master_name", "")
    if not primary:
        raise wrong(
            "does not say which primary the Sentinels shall be asked for",
            "end it with ?master_name=NAME, the name after `sentinel monitor` in sentinel.conf",
        )
    if not re.fullmatch(r"/?|/\d+", parts.path):
        raise unreadable()
    own = {name: options.pop(f"sentinel_{name}", "") for name in ("username", "password")}
    at, query = f"{login}@" if login else "", f"?{urlencode(options)}" if options else ""
    return Address(
        f"{SENTINELS[parts.scheme]}://{at}{parts.path}{query}",
        tuple(map(_place, places.split(","))),
        primary,
        tuple((name, value) for name, value in own.items() if value),
    )


def _place(text: str) -> tuple[str, int]:
    found = _PLACE.fullmatch(text.strip())
    port = int((found and found["port"]) or SENTINEL_PORT)
    if found is None or port > MAX_PORT:
        raise wrong("has a Sentinel that is no HOST:PORT", "write HOST:PORT,HOST:PORT,HOST:PORT")
    return found["v6"] or found["host"], port


def without_credentials(url: str) -> str:
    """The URL without user, password and query; nothing of what is no URL."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}" if separator else "(no URL)"
