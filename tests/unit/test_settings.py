"""Where settings come from, and what is said about wrong ones."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from penstock import Settings, limits
from penstock.errors import ConfigurationError, UnknownRoute
from penstock.store import Store


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_arguments_beat_the_environment_beats_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each source yields to the one nearer to the caller."""
    (tmp_path / "penstock.toml").write_text("concurrency = 1\nmax_attempts = 2\nresult_ttl = 3\n")
    monkeypatch.setenv("PENSTOCK_CONCURRENCY", "10")
    monkeypatch.setenv("PENSTOCK_MAX_ATTEMPTS", "20")
    settings = Settings.load(concurrency=100)
    assert (settings.concurrency, settings.max_attempts, settings.result_ttl) == (100, 20, 3)


def test_a_route_takes_what_it_does_not_say_from_the_top(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A route's table overrides the default upstream, and its token comes from its own variable."""
    (tmp_path / "penstock.toml").write_text(
        '[routes.fast]\nmodel = "small"\nurl = "http://other/v1/"\ntoken_env = "FAST_TOKEN"\n'
        "concurrency = 7\n[routes.default.timeouts]\nconnect = 1\n"
    )
    monkeypatch.setenv("DEEPINFRA_TOKEN", "one")
    monkeypatch.setenv("FAST_TOKEN", "two")
    settings = Settings.load()
    fast, default = settings.route("fast"), settings.route("default")
    assert (fast.url, fast.model, fast.concurrency) == ("http://other/v1", "small", 7)
    assert fast.token is not None
    assert fast.token.get_secret_value() == "two"
    assert default.token is not None
    assert default.token.get_secret_value() == "one"
    assert default.timeouts.connect == 1
    assert default.timeouts.total == 900


def test_only_penstocks_own_variables_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A TOKEN that a CI system sets for itself is never sent to an upstream."""
    monkeypatch.setenv("TOKEN", "of-somebody-else")
    assert Settings.load().token is None
    monkeypatch.setenv("DEEPINFRA_TOKEN", "ours")
    token = Settings.load().token
    assert token is not None
    assert token.get_secret_value() == "ours"


@pytest.mark.parametrize(
    "url",
    ["redis://:canary#er@127.0.0.1:1/0", "redis://:canary/er@127.0.0.1/0",
     "redis://127.0.0.1:99999/0", "redis://127.0.0.1/0?canary=1", "redis:/:canary@x"],
)  # fmt: skip
def test_a_redis_url_that_is_none_is_refused_without_showing_it(url: str) -> None:
    """What cannot be read may hold a password in an unexpected place."""
    with pytest.raises(ConfigurationError, match="PENSTOCK_REDIS_URL") as error:
        Store(url)
    assert "canary" not in str(error.value)


def test_an_unreadable_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the file that PENSTOCK_CONFIG names."""
    (tmp_path / "other.toml").write_text("= broken")
    monkeypatch.setenv("PENSTOCK_CONFIG", "other.toml")
    with pytest.raises(ConfigurationError, match=r"other\.toml cannot be read"):
        Settings.load()


def test_route_names_may_have_spaces_around(monkeypatch: pytest.MonkeyPatch) -> None:
    """PENSTOCK_WORKER_ROUTES is split at commas, spaces aside."""
    monkeypatch.setenv("PENSTOCK_WORKER_ROUTES", "default, fast")
    assert Settings.load().worker_routes == ("default", "fast")


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither settings nor routes show a token or a password when they are printed."""
    monkeypatch.setenv("DEEPINFRA_TOKEN", "canary-token")
    settings = Settings.load(redis_url="redis://user:canary-password@localhost:1/0")
    shown = f"{settings!r} {settings} {settings.route('default')!r} {settings.safe_url}"
    assert "canary-token" not in shown
    assert "canary-password" not in shown


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("PENSTOCK_CONCURRENCY", "many", "concurrency (PENSTOCK_CONCURRENCY): "),
        ("PENSTOCK_CONCURRENCY", "0", "greater than or equal to 1"),
        ("PENSTOCK_LOG", "xml", "log (PENSTOCK_LOG): "),
        ("PENSTOCK_CONFIG", "missing.toml", "missing.toml, which is not a file"),
        ("PENSTOCK_WORKER_ROUTES", "a:b", "worker_routes"),
        ("PENSTOCK_UPSTREAM_URL", "nothttp", "upstream_url (PENSTOCK_UPSTREAM_URL): "),
        ("PENSTOCK_DRAIN_TIMEOUT", "inf", "drain_timeout (PENSTOCK_DRAIN_TIMEOUT): "),
        ("PENSTOCK_RESULT_TTL", "9" * 30, "result_ttl (PENSTOCK_RESULT_TTL): "),
        ("DEEPINFRA_TOKEN", "abc\ndef", "visible ASCII"),
    ],
)
def test_a_wrong_variable_is_named(
    name: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the variable and says what it must be."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as error:
        Settings.load()
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("concurrency = ", "penstock.toml cannot be read"),
        ("concurency = 5", "concurency"),
        ("[routes.fast]\nmodle = 'x'", "routes.fast.modle"),
        ("[routes.'a b']", "routes"),
    ],
)
def test_a_wrong_file_is_explained(text: str, says: str, tmp_path: Path) -> None:
    """A typing mistake in penstock.toml is an error that names the place, never ignored."""
    (tmp_path / "penstock.toml").write_text(text)
    with pytest.raises(ConfigurationError) as error:
        Settings.load()
    assert says in str(error.value)


def test_an_unknown_route_is_answered_with_the_known_ones() -> None:
    """Who mistypes a route's name sees which there are."""
    with pytest.raises(UnknownRoute, match="known routes: default"):
        Settings.load().route("defualt")


def test_the_embedded_server_is_found_by_its_socket(state_dir: Path) -> None:
    """Without a URL the embedded server is used where it listens, else the local default."""
    settings = Settings.load(state_dir=state_dir)
    assert settings.server_url == "redis://127.0.0.1:6379/0"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(state_dir / "redis.sock"))
        listener.listen()
        assert settings.server_url == f"unix://{state_dir}/redis.sock"
    assert settings.server_url == "redis://127.0.0.1:6379/0"


@pytest.mark.parametrize(
    ("routes", "says"),
    [
        ({"a": {"fallback": ["b"]}}, "routes.a.fallback.0: there is no route 'b'"),
        ({"a": {"fallback": ["a"]}}, "routes.a.fallback.0: leads back: a -> a"),
        (
            {
                "a": {"fallback": ["default", "b"]},
                "b": {"fallback": ["c"]},
                "c": {"fallback": ["a"]},
            },
            "routes.a.fallback.1: leads back: a -> b -> c -> a",
        ),
        ({"a": {"service_tiers": ["priority", "flex"]}}, "keep to the order flex, default"),
        ({"a": {"service_tiers": ["flex", "flex"]}}, "keep to the order flex, default"),
        ({"a": {"fallback": [["b"]]}}, "routes.a.fallback.0: "),
    ],
)
def test_fallbacks_and_tiers_that_cannot_be_are_refused(routes: dict[str, Any], says: str) -> None:
    """A fallback is another route, and leads back to none; tiers go from cheap to dear."""
    with pytest.raises(ConfigurationError) as error:
        Settings.load(routes=routes)
    assert says in str(error.value)


def test_a_circle_is_told_once() -> None:
    """However many routes are in it."""
    circle = {"a": {"fallback": ["b"]}, "b": {"fallback": ["a"]}}
    with pytest.raises(ConfigurationError) as error:
        Settings.load(routes=circle)
    assert str(error.value).count("leads back") == 1


def test_fallbacks_and_tiers_are_published() -> None:
    """The gate gets them in order, tiers with what they cost beside the default."""
    routes = {"a": {"fallback": ["b", "default"], "service_tiers": ["flex", "priority"]}, "b": {}}
    settings = Settings.load(routes=routes)
    fields = limits.of_route(settings.route("a"))
    assert (fields["fallback"], fields["service_tiers"]) == ("b default", "flex:0.8 priority:1.5")
    assert limits.of_route(settings.route("b"))["fallback"] == ""
