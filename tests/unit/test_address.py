"""What PENSTOCK_REDIS_URL may say, and what is told of the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis
from redis.connection import parse_url

from penstock import Settings, address
from penstock.connection import PrimaryConnection, PrimarySSLConnection, Server, SSLConnection
from penstock.errors import ConfigurationError
from worker.dispatch import ToughTransport, broker_url, make_app

HOSTS = (("one", 26379), ("two", 7), ("::1", 26379))


@pytest.mark.parametrize(
    "url",
    [
        "sentinel://me:p%40ss@one,two:7,[::1]:26379/3?master_name=jobs",
        "sentinel://me:p%40ss@one;sentinel://me:p%40ss@two:7;sentinel://[::1]/3?master_name=jobs",
    ],
)
def test_sentinels_are_read_as_a_list_and_as_kombu_writes_them(url: str) -> None:
    """Hosts with and without ports, the servers' own user and database, the primary's name."""
    known = address.read(url)
    assert known.sentinels == HOSTS
    assert known.primary == "jobs"
    given = dict(parse_url(known.url))
    assert given == {"username": "me", "password": "p@ss", "db": 3}


def test_what_is_the_sentinels_own_is_kept_apart() -> None:
    """Their password is not the servers'; options of redis-py reach the servers."""
    known = address.read(
        "sentinels://h/0?master_name=m&sentinel_username=a&sentinel_password=b&socket_timeout=4"
    )
    assert known.sentinel_login == (("username", "a"), ("password", "b"))
    assert known.url == "rediss:///0?socket_timeout=4"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (
            "http://canary@h",
            "is 'http://h'; begin it with one of redis://, rediss://, unix://, sent",
        ),
        ("canary", r"is '\(no URL\)'; begin it"),
        ("sentinel://u:canary@h:1/0", "which primary .*; end it with .master_name=NAME"),
        ("sentinel://u:canary@h:x/0?master_name=m", "no HOST:PORT; write HOST:PORT,HOST:PORT"),
        ("sentinel://u:canary@h:99999?master_name=m", "no HOST:PORT"),
        ("sentinel://u:canary@h,,k?master_name=m", "no HOST:PORT"),
        ("sentinel://u:canary@h/db?master_name=m", "cannot be read; .*database"),
        ("sentinel://u:can#ary@h/0?master_name=m", "cannot be read; .*# is %23"),
        ("redis://u:can#ary@h/0", "cannot be read; .*# is %23"),
        ("redis://u:canary@h:99999/0", "cannot be read; .*check port"),
    ],
)
def test_a_wrong_url_is_told_with_the_settings(
    url: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line that names the variable and says what to do, and never shows a password."""
    monkeypatch.setenv("PENSTOCK_REDIS_URL", url)
    with pytest.raises(ConfigurationError, match=f"^PENSTOCK_REDIS_URL: .*{told}") as error:
        Settings.load()
    assert "canary" not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile"])
def test_a_file_that_is_not_there_is_named_by_its_option(option: str) -> None:
    """Before any server is asked."""
    with pytest.raises(ConfigurationError, match=f"{option} that cannot be read: No such file"):
        Server(f"rediss://h/0?{option}=/not/there")


def test_one_url_makes_every_connection(tmp_path: Path) -> None:
    """TLS, database, login and time limits are the same for clients, and for Celery's broker."""
    authority = tmp_path / "ca.crt"
    authority.write_text("")
    url = f"sentinels://me:secret@127.0.0.1:1/3?master_name=m&ssl_ca_certs={authority}"
    app = make_app(Settings.load(redis_url=url), ["default"])
    for connection in (app.connection_for_write(), app.pool.new()):
        assert connection.get_transport_cls() is ToughTransport
    options = app.conf.broker_transport_options["server"].options()
    assert options["connection_class"] is PrimarySSLConnection
    assert (options["db"], options["username"]) == (3, "me")
    assert options["ssl_ca_certs"] == str(authority)
    kinds = {
        "rediss://h/0": SSLConnection,
        "sentinel://h/0?master_name=m": PrimaryConnection,
        "unix:///s": redis.UnixDomainSocketConnection,
    }
    assert {u: Server(u).options()["connection_class"] for u in kinds} == kinds


def test_celery_shows_no_password() -> None:
    """Neither its URL for people nor what it compares connections by has one."""
    url = "sentinel://me:canary@h:1,k:2/3?master_name=m&sentinel_password=canary"
    assert broker_url(url) == "redis://h:1/3"
    assert (
        broker_url("unix:///run/penstock/redis.sock?db=2")
        == "redis://%2Frun%2Fpenstock%2Fredis.sock"
    )
    assert repr(Server(url)) == "Server('sentinel://h:1,k:2/3')"
