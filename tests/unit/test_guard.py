"""Where webhooks may go."""

from __future__ import annotations

import ipaddress

import pytest

from worker.guard import Refused, check_address, check_addresses, check_url, embedded, special

SPECIAL = """
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.255 127.0.0.1 127.255.255.254
168.63.129.16 169.254.0.1 169.254.169.254 169.254.170.2 172.16.0.1 172.31.255.255 192.0.0.1
192.0.0.8 192.0.0.9 192.0.0.170 192.0.2.1 192.31.196.1 192.52.193.1 192.88.99.1 192.168.0.1
192.175.48.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.250 240.0.0.1
255.255.255.255 :: ::1 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::ffff:169.254.169.254 ::127.0.0.1 ::8.8.8.8
::ffff:0:127.0.0.1 64:ff9b::127.0.0.1 64:ff9b::8.8.8.8 64:ff9b::a9fe:a9fe 64:ff9b:1::10.0.0.1
100::1 100:0:0:1::1 2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:1::1 2001:2::1 2001:4:112::1
2001:10::1 2001:20::1 2001:30::1 2001:db8::1 2002:7f00:1:: 2002:808:808:: 2620:4f:8000::1 3fff::1
5f00::1 fc00::1 fd00:ec2::254 fd12:3456::1 fe80::1 fe80::1%eth0 febf::1 fec0::1 feff::1 ff02::1
ff05::2 ff0e::1 2001:4860::5efe:10.0.0.1 2a00:1450::200:5efe:169.254.169.254 200::1 400::1 1000::1
4000::1 8000::1 e000::1 2606:4700::1111%1
"""

GLOBAL = """
1.1.1.1 8.8.8.8 168.63.129.15 168.63.129.17 2001:4860::5efe:8.8.8.8 9.255.255.255 11.0.0.0
100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1 169.253.255.255 169.255.0.0 172.15.255.255
172.32.0.0 192.0.1.1 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 223.255.255.255
2001:200::1 2001:4860:4860::8888 2606:4700::1111 2a00:1450::1 2001:db7::1 2003::1
"""

PYTHON_CALLS_GLOBAL = """
192.0.0.8 192.31.196.1 192.52.193.1 192.88.99.1 192.175.48.1 224.0.0.1 239.255.255.250 ::127.0.0.1
::ffff:0:127.0.0.1 64:ff9b::127.0.0.1 2002:7f00:1:: 2620:4f:8000::1 fec0::1 ff02::1 ff0e::1
4000::1
"""


@pytest.mark.parametrize("address", SPECIAL.split())
def test_a_special_address_is_refused(address: str) -> None:
    """Each special range of IANA's registries, what leads to IPv4, and what is not assigned."""
    with pytest.raises(Refused):
        check_addresses([address], [])


@pytest.mark.parametrize("address", GLOBAL.split())
def test_a_global_address_passes(address: str) -> None:
    """The neighbours of the special ranges are part of the open internet."""
    assert check_addresses([address], []) == [address]


@pytest.mark.parametrize("address", PYTHON_CALLS_GLOBAL.split())
def test_pythons_is_global_is_no_guard(address: str) -> None:
    """Python calls these global, and they are special: why there is a table of our own."""
    parsed = ipaddress.ip_address(address)
    assert special(parsed) is not None
    assert parsed.is_global or parsed.is_multicast  # some versions of Python have learned a few


def test_one_special_address_refuses_them_all() -> None:
    """A name with a global and a private address is not called at the global one."""
    with pytest.raises(Refused, match=r"10\.0\.0\.1 is not on the open internet \(private\)"):
        check_addresses(["8.8.8.8", "10.0.0.1"], [])
    with pytest.raises(Refused, match="no address"):
        check_addresses([], [])


def test_an_allowed_network_passes_and_no_other() -> None:
    """`webhook_allow` opens what it names, not what some tunnel would lead to inside it."""
    allowed = [ipaddress.ip_network(text) for text in ("10.1.0.0/16", "64:ff9b::/96", "::1/128")]
    passing = ["10.1.2.3", "64:ff9b::8.8.8.8", "64:ff9b::10.1.2.3", "::1"]
    assert check_addresses(passing, allowed) == passing
    for refused in ("10.2.0.1", "64:ff9b::127.0.0.1", "::ffff:10.1.2.3", "2002:a01:203::"):
        with pytest.raises(Refused):
            check_address(ipaddress.ip_address(refused), allowed)


@pytest.mark.parametrize(
    ("address", "inner"),
    [
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("::10.1.2.3", "10.1.2.3"),
        ("::ffff:0:10.1.2.3", "10.1.2.3"),
        ("64:ff9b::10.1.2.3", "10.1.2.3"),
        ("64:ff9b:1::10.1.2.3", "10.1.2.3"),
        ("2002:a01:203::1", "10.1.2.3"),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "192.0.2.45"),
        ("2a00:1450::5efe:10.1.2.3", "10.1.2.3"),
        ("2a00:1450::200:5efe:10.1.2.3", "10.1.2.3"),
        ("2606:4700::1111", None),
        ("8.8.8.8", None),
    ],
)
def test_the_ipv4_address_inside_is_found(address: str, inner: str | None) -> None:
    """Mapped, compatible, translated, NAT64, 6to4, ISATAP and Teredo (RFC 4380's own example)."""
    found = embedded(ipaddress.ip_address(address))
    assert (str(found) if found else None) == inner


@pytest.mark.parametrize(
    ("scheme", "host"),
    [
        ("http", "example.com"), ("ftp", "example.com"), ("file", ""), ("gopher", "example.com"),
        ("https", ""), ("https", "127.0.0.1"), ("https", "127.1"), ("https", "2130706433"),
        ("https", "0x7f000001"), ("https", "0x7f.1"), ("https", "017700000001"),
        ("https", "0177.0.0.1"), ("https", "127.0.0.1."), ("https", "::1"), ("https", "fe80::1%1"),
        ("https", "0"), ("https", "1e100:"),
    ],
)  # fmt: skip
def test_a_url_that_can_never_be_right_is_refused_for_good(scheme: str, host: str) -> None:
    """No try will make plain http or a private address better; odd forms of addresses neither."""
    with pytest.raises(Refused) as refused:
        check_url(scheme, host, False, [])
    assert refused.value.lasting


def test_plain_http_has_to_be_allowed() -> None:
    """The setting opens http, and nothing else."""
    check_url("https", "example.com", False, [])
    check_url("http", "example.com", True, [])
    with pytest.raises(Refused, match="webhook_http"):
        check_url("http", "example.com", False, [])
    with pytest.raises(Refused):
        check_url("ftp", "example.com", True, [])
