"""Where webhooks may go: the open internet, and what the settings allow besides. Pure.

Whoever submits a job names a URL, and this worker stands inside a network: so every address that a
name resolves to is looked up here before anything is connected to it. Python's `is_global` is no
help: it calls multicast, 6to4, NAT64, site-local and IPv4-compatible addresses global.

Sources: IANA's registries of special-purpose addresses,
https://www.iana.org/assignments/iana-ipv4-special-registry and iana-ipv6-special-registry; and
https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16, which every
machine there can reach.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class Refused(Exception):
    """A webhook must not go there.

    Attributes:
        lasting: whether the same URL will be refused for ever: a name may resolve to others.
    """

    def __init__(self, message: str, *, lasting: bool = False) -> None:
        super().__init__(message)
        self.lasting = lasting


SPECIAL_V4 = {
    "0.0.0.0/8": "this network",
    "10.0.0.0/8": "private",
    "100.64.0.0/10": "shared by carrier-grade NAT",
    "127.0.0.0/8": "loopback",
    "168.63.129.16/32": "Azure's WireServer",
    "169.254.0.0/16": "link-local, with the clouds' metadata",
    "172.16.0.0/12": "private",
    "192.0.0.0/24": "protocol assignments",
    "192.0.2.0/24": "documentation",
    "192.31.196.0/24": "AS112",
    "192.52.193.0/24": "AMT",
    "192.88.99.0/24": "6to4 relay",
    "192.168.0.0/16": "private",
    "192.175.48.0/24": "AS112",
    "198.18.0.0/15": "benchmarking",
    "198.51.100.0/24": "documentation",
    "203.0.113.0/24": "documentation",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved, with broadcast",
}

SPECIAL_V6 = {
    "::/128": "unspecified",
    "::1/128": "loopback",
    "::ffff:0:0/96": "IPv4-mapped",
    "::/96": "IPv4-compatible",
    "::ffff:0:0:0/96": "IPv4-translated",
    "64:ff9b::/96": "NAT64",
    "64:ff9b:1::/48": "NAT64, local",
    "100::/64": "discard-only",
    "100:0:0:1::/64": "dummy prefix",
    "2001::/32": "Teredo",
    "2001::/23": "protocol assignments",
    "2001:db8::/32": "documentation",
    "2002::/16": "6to4",
    "2620:4f:8000::/48": "AS112",
    "3fff::/20": "documentation",
    "5f00::/16": "segment routing",
    "fc00::/7": "unique local, with the clouds' metadata",
    "fe80::/10": "link-local",
    "fec0::/10": "site-local",
    "ff00::/8": "multicast",
}

GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
"""All that is assigned to hosts; the rest of IPv6 is special or not assigned yet."""

_TABLE: list[tuple[Network, str]] = [
    (ipaddress.ip_network(text), name) for text, name in (SPECIAL_V4 | SPECIAL_V6).items()
]

_NUMERIC = re.compile(r"(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+))*\.?", re.IGNORECASE)


def special(address: Address) -> str | None:
    """What kind of special range an address is in; None for one on the open internet."""
    for network, name in _TABLE:
        if address in network:
            return name
    if address.version == 6 and address not in GLOBAL_UNICAST:
        return "not assigned"
    return None


def embedded(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that some translator or tunnel would send this IPv6 address to."""
    if address.version == 4 or address.is_loopback or address.is_unspecified:
        return None
    raw = address.packed
    if raw[:2] == b"\x20\x02":  # 6to4, RFC 3056
        return ipaddress.IPv4Address(raw[2:6])
    if raw[:4] == b"\x20\x01\0\0":  # Teredo, RFC 4380: the client's address, inverted
        return ipaddress.IPv4Address(bytes(byte ^ 0xFF for byte in raw[12:]))
    if raw[8:12] in (b"\0\0\x5e\xfe", b"\x02\0\x5e\xfe"):  # ISATAP, RFC 5214
        return ipaddress.IPv4Address(raw[12:])
    prefixes = (b"\0" * 12, b"\0" * 10 + b"\xff\xff", b"\0" * 8 + b"\xff\xff\0\0")
    if raw[:12] in prefixes or raw[:4] == b"\0\x64\xff\x9b":
        return ipaddress.IPv4Address(raw[12:])
    return None


def check_address(address: Address, allowed: Sequence[Network]) -> None:
    """Raise Refused for an address that is special and not allowed, or leads to such a one."""
    if getattr(address, "scope_id", None):
        raise Refused(f"{address} has a zone")
    kind = special(address)
    if kind and not any(address in network for network in allowed):
        raise Refused(
            f"{address} is not on the open internet ({kind}); webhook_allow can name its network"
        )
    if (inner := embedded(address)) is not None:
        check_address(inner, allowed)


def check_addresses(addresses: Iterable[str], allowed: Sequence[Network]) -> list[str]:
    """The addresses, each once, when every one may be called; raises Refused."""
    found = list(dict.fromkeys(addresses))
    for text in found:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            raise Refused(f"{text!r} is no address") from None
        check_address(address, allowed)
    if not found:
        raise Refused("the name has no address")
    return found


def check_url(scheme: str, host: str, http: bool, allowed: Sequence[Network]) -> None:
    """Refuse what no resolution can make good: plain http, an address that is special.

    Numbers that are no address in its one usual form (127.1, 0x7f000001, 017700000001) are refused,
    because the system's resolver would take them for one.
    """
    if scheme != "https" and not (http and scheme == "http"):
        raise Refused(f"{scheme}:// is not allowed: use https, or set webhook_http", lasting=True)
    if not host:
        raise Refused("the URL has no host", lasting=True)
    try:
        check_address(ipaddress.ip_address(host), allowed)
    except Refused as refused:
        raise Refused(str(refused), lasting=True) from None
    except ValueError:
        if _NUMERIC.fullmatch(host) or ":" in host or "%" in host:
            raise Refused(f"{host!r} is no address in its usual form", lasting=True) from None
