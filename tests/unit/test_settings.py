"""Where settings come from, and what is said about wrong ones."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_origin

import pytest
from pydantic import BaseModel, SecretStr

from penstock import Settings, limits, mistake
from penstock.errors import ConfigurationError, UnknownRoute
from penstock.settings import DEFAULT_PRICES
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
    with pytest.raises(ConfigurationError, match=r"^other\.toml:1: is not TOML"):
        Settings.load()


def test_route_names_may_have_spaces_around(monkeypatch: pytest.MonkeyPatch) -> None:
    """PENSTOCK_WORKER_ROUTES is split at commas, spaces aside."""
    monkeypatch.setenv("PENSTOCK_ROUTES", '{"fast": {}}')
    monkeypatch.setenv("PENSTOCK_WORKER_ROUTES", "default, fast")
    assert Settings.load().worker_routes == ("default", "fast")


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither settings nor routes show a token or a password when they are printed."""
    monkeypatch.setenv("DEEPINFRA_TOKEN", "canary-token")
    settings = Settings.load(redis_url="redis://user:canary-password@localhost:1/0")
    shown = f"{settings!r} {settings} {settings.route('default')!r} {settings.safe_url}"
    assert "canary-token" not in shown
    assert "canary-password" not in shown


@pytest.mark.parametrize("name", ["PENSTOCK_TOKEN", "DEEPINFRA_TOKEN"])
def test_secrets_may_be_in_files(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file's content counts without the line end; the variable itself goes before."""
    (tmp_path / "token").write_text("of-the-file\n")
    (tmp_path / "url").write_text("redis://there:1/0\n")
    monkeypatch.setenv(f"{name}_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("PENSTOCK_REDIS_URL_FILE", str(tmp_path / "url"))
    settings = Settings.load()
    assert settings.redis_url == "redis://there:1/0"
    assert settings.route("default").token == SecretStr("of-the-file")
    monkeypatch.setenv(name, "of-the-variable")
    assert Settings.load().token == SecretStr("of-the-variable")


def test_an_empty_secret_file_gives_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/null stands for no secret: a container's mount has to be something."""
    monkeypatch.setenv("DEEPINFRA_TOKEN_FILE", "/dev/null")
    assert Settings.load().token is None


def test_a_routes_token_may_be_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `token_env` names can be given by file too."""
    (tmp_path / "token").write_text("canary")
    monkeypatch.setenv("FAST_TOKEN_FILE", str(tmp_path / "token"))
    settings = Settings.load(routes={"fast": {"token_env": "FAST_TOKEN"}})
    assert settings.route("fast").token == SecretStr("canary")


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_secret_file_that_cannot_be_read_is_an_error(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names the variable, and not what is in it: that may be the secret itself, by mistake."""
    path = tmp_path / "canary"
    if content:
        path.write_bytes(content)
    monkeypatch.setenv("DEEPINFRA_TOKEN_FILE", str(path))
    with pytest.raises(ConfigurationError, match="DEEPINFRA_TOKEN_FILE: names") as error:
        Settings.load()
    assert "canary" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("PENSTOCK_CONCURRENCY", "many", "PENSTOCK_CONCURRENCY: must be a whole number; give a "
         "whole number, or leave it out for 500"),
        ("PENSTOCK_CONCURRENCY", "0", "PENSTOCK_CONCURRENCY: must be 1 or more; "),
        ("PENSTOCK_LOG", "xml", "PENSTOCK_LOG: must be 'console' or 'json'; choose one, "),
        ("PENSTOCK_CONFIG", "missing.toml", "missing.toml, which is not a file"),
        ("PENSTOCK_WORKER_ROUTES", "a:b", "PENSTOCK_WORKER_ROUTES: worker_routes #1: is no name"),
        ("PENSTOCK_WORKER_ROUTES", "default,,fast",
         "PENSTOCK_WORKER_ROUTES: worker_routes #2: there is no route 'fast'; known routes: "),
        ("PENSTOCK_UPSTREAM_URL", "nothttp", "PENSTOCK_UPSTREAM_URL: is no URL"),
        ("PENSTOCK_UPSTREAM_URL", "https://me:pw@h/v1", "PENSTOCK_UPSTREAM_URL: is no URL, or"),
        ("PENSTOCK_DRAIN_TIMEOUT", "inf", "PENSTOCK_DRAIN_TIMEOUT: must be a finite number"),
        ("PENSTOCK_RESULT_TTL", "9" * 30, "PENSTOCK_RESULT_TTL: must be "),
        ("PENSTOCK_ROUTES", '{"a":', "PENSTOCK_ROUTES: is not JSON; "),
        ("PENSTOCK_ROUTES", '{"a": {"burst": -1}}', "PENSTOCK_ROUTES: routes.a.burst: must be 1"),
        ("PENSTOCK_TOKEN", "abc def", "PENSTOCK_TOKEN: is no token; give visible ASCII"),
        ("DEEPINFRA_TOKEN", "abc\ndef", "DEEPINFRA_TOKEN: is no token; give visible ASCII"),
    ],
)  # fmt: skip
def test_a_wrong_variable_is_named(
    name: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the variable and says what it must be."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as error:
        Settings.load()
    assert says in str(error.value)


BAD_FILES = [
    ("a = 1\nconcurrency = \n", ":2: is not TOML: Invalid value (column 15); see toml.io"),
    ("a = 1\nb = '''", ": is not TOML: "),
    ("concurency = 5", ":1: concurency: there is no such setting; did you mean concurrency?"),
    ("\n[routes.fast]\nmodle = 'x'",
     ":3: routes.fast.modle: there is no such setting; did you mean model?"),
    ("[routes.'a b']", ':1: routes."a b": is no name; take up to 64'),
    ("[tenants.'a b']", ':1: tenants."a b": is no name; take up to 64'),
    ("[routes.fast]\n# -1\nconcurrency = -1",
     ":3: routes.fast.concurrency: must be 1 or more; give a larger number, or leave it out "
     "for 200"),
    ("[routes.fast]\nrequests_per_minute = -1",
     ":2: routes.fast.requests_per_minute: must be 1 or more; give a larger number, or leave "
     "it out"),
    ("[routes.fast]\nconcurrency = 'many'",
     ":2: routes.fast.concurrency: must be a whole number; give"),
    ("[routes.fast]\nconcurrency = 3\nconcurrency_min = 4",
     ":3: routes.fast.concurrency_min: is more than concurrency, which is 3; give a smaller "
     "number"),
    ("[routes]\nfast.requests_per_minute = 9\nfast.burst = 10",
     ":3: routes.fast.burst: is more than requests_per_minute, which is 9; give a smaller "
     "number"),
    ("[tenants.a]\nrequests_per_minute = 9\nburst = 10", ":3: tenants.a.burst: is more"),
    ("[tenants.a]\nweight = 0",
     ":2: tenants.a.weight: must be 0.001 or more; give a larger number, or leave it out for 1"),
    ("[tenants.a]\nweight = nan", ":2: tenants.a.weight: must be "),
    ("[tenants.a]\nbudget_day = -3", ":2: tenants.a.budget_day: must be more than 0"),
    ("tenants = 3", ":1: tenants: must be a table"),
    ("[routes]\nfast = 3", ":2: routes.fast: must be a table"),
    ("[routes.fast]\nfallback = 'x'", ":2: routes.fast.fallback: must be a list"),
    ("[routes.fast]\nfallback = [\n 'default',\n 'x',\n]",
     ":4: routes.fast.fallback #2: there is no route 'x'; known routes: default, fast; "
     "choose one of these, or add a table [routes.x]"),
    ("[routes.a]\nfallback = ['b']\n[routes.b]\nfallback = ['a']",
     ":2: routes.a.fallback #1: leads back: a -> b -> a; take one of them out"),
    ("[routes.fast]\nservice_tiers = ['flx']",
     ":2: routes.fast.service_tiers #1: must be 'flex', 'default' or 'priority'; choose one"),
    ("[routes.fast]\nprices = { input = 1 }",
     ":2: routes.fast.prices.output: is missing; give USD per 1M tokens"),
    ("[routes.fast]\n\n[routes.fast.timeouts]\ntotal = 0",
     ":4: routes.fast.timeouts.total: must be more than 0; give a larger number, or leave it "
     "out for 900"),
    ("[tenants.a]\nbudget_day = 1\n[routes.fast]\nmodel = 'x'",
     ":3: routes.fast.prices: is missing: tenants have budgets, and the default prices are not "
     "this model's; add prices = { input = …, output = … }, USD per 1M tokens"),
    ("[tenants.a]\nbudget_month = 1\n[routes.fast]\nurl = 'http://x'",
     ":3: routes.fast.prices: is missing"),
    ("model = 'x'\n[tenants.a]\nbudget_month = 1", ": routes.default.prices: is missing"),
    ("\nwebhook_allow = ['10.0.0.1/8']", ":2: webhook_allow #1: is no network; write 10.1.0.0/16"),
    ("worker_routes = ['nope']",
     ":1: worker_routes #1: there is no route 'nope'; known routes: default"),
    ("[routes.fast]\nfallback = ['a b']", ":2: routes.fast.fallback #1: is no name; take up to"),
    ("[routes.fast]\nfallback = 'default'",
     ":2: routes.fast.fallback: must be a list; put it in [ ], or leave it out"),
    ("\nwebhook_http = 'maybe'",
     ":2: webhook_http: must be true or false; give one of them, or leave it out for false"),
    ("webhook_secret = 'x'", ":1: webhook_secret: is no webhook secret, which is whsec_ and 24"),
    ("public_url = 'x'", ":1: public_url: is no URL; write where others reach the gateway"),
    ("\ntoken = 'a b'", ":2: token: is no token; give visible ASCII characters"),
    ("gateway_origins = 'x'", ":1: gateway_origins #1: is no origin; write https://"),
    ("hooks.h = { verify = 'slack', secret_env = 'X', messages = [] }",
     ":1: hooks.h.messages: is empty; put something in"),
    ("hooks.h = { verify = 'slack', secret_env = 'a b', messages = [{ content = 'a' }] }",
     ":1: hooks.h.secret_env: is no variable's name"),
    ("[tenants.a.webhook]\nurl = 'http://x'\nevents = ['x']",
     ":3: tenants.a.webhook.events #1: must be 'started', "),
    ("[routes.fast]\nconcurrency = 99999999999999999999",
     ":2: routes.fast.concurrency: must be 1000000000 or less; give a smaller number"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "says"), BAD_FILES)
def test_a_wrong_file_is_explained(text: str, says: str, tmp_path: Path) -> None:
    """A mistake in penstock.toml is one line with file, line and remedy, never ignored."""
    (tmp_path / "penstock.toml").write_text(text)
    with pytest.raises(ConfigurationError) as error:
        Settings.load()
    assert str(error.value).startswith(f"penstock.toml{says}")
    assert len(str(error.value).splitlines()) == len(error.value.mistakes) == 1


GARBAGE = [3, -1, 0, 1.5, True, "", "x", "a b", [], ["x"], [3], [""], {}, {"x": 1}, {"x": {}}]


def fields_of(model: type[BaseModel], *place: str) -> Iterator[tuple[str, ...]]:
    """Every field, those of tables too; tables that have names of their own are called `a`."""
    for name, field in model.model_fields.items():
        inside = mistake._model_in(field.annotation)
        yield (*place, name)
        if inside:
            named = ("a",) if get_origin(field.annotation) is dict else ()
            yield from fields_of(inside, *place, name, *named)


@pytest.mark.parametrize("place", list(fields_of(Settings)), ids=".".join)
def test_no_mistake_is_told_in_a_librarys_words(place: tuple[str, ...]) -> None:
    """Whatever stands at a setting, it is right, or the message is ours and says where."""
    refused = 0
    for value in GARBAGE:
        given: Any = value
        for name in reversed(place[1:]):
            given = {name: given}
        said = refusal_of({place[0]: given})
        assert not re.search(r"Input|Value|String|List|Tuple|Dict|<class|what belongs", said)
        refused += bool(said)
    assert refused


def refusal_of(arguments: dict[str, Any]) -> str:
    try:
        Settings.load(**arguments)
    except ConfigurationError as error:
        return str(error)
    return ""


def test_mistakes_are_told_in_the_order_of_their_lines(tmp_path: Path) -> None:
    """Whoever mends a file goes through it from above; each thing is told once."""
    (tmp_path / "penstock.toml").write_text(
        "max_attempts = 0\n[routes.a]\nconcurrency = 0\nfallback = ['a b', 'c']\n"
        "[tenants.a]\nweight = 0\n[routes.b]\nfallback = ['d']\n"
    )
    with pytest.raises(ConfigurationError) as error:
        Settings.load()
    assert [found.line for found in error.value.mistakes] == [1, 3, 4, 4, 6, 8]


def test_no_mistake_spans_lines_or_drives_a_terminal(tmp_path: Path) -> None:
    """Names in the file may be any text; a message is one line of visible characters."""
    (tmp_path / "penstock.toml").write_text(
        '[routes."a\\nb\\u001B[31m"]\nfallback = ["x\\ny", "a\\nb\\u001B[31m"]\n"c\\nd" = 1\n'
    )
    with pytest.raises(ConfigurationError) as error:
        Settings.load()
    lines = str(error.value).split("\n")
    assert len(lines) == len(error.value.mistakes) >= 4
    assert all(line.isprintable() and line.startswith("penstock.toml:") for line in lines)


def test_a_file_that_is_no_text_is_explained(tmp_path: Path) -> None:
    """The line with the first byte that is no UTF-8 is named."""
    (tmp_path / "penstock.toml").write_bytes(b"a = 1\nb = '\xff'")
    with pytest.raises(ConfigurationError, match=r"^penstock\.toml:2: is not UTF-8; save "):
        Settings.load()


def test_prices_are_asked_for_only_where_a_budget_needs_them(tmp_path: Path) -> None:
    """The default model's are known; without budgets they only estimate."""
    config = tmp_path / "penstock.toml"
    config.write_text("[routes.fast]\nmodel = 'x'\n[tenants.a]\nweight = 2\n")
    assert Settings.load().route("fast").prices == DEFAULT_PRICES
    config.write_text(
        "[tenants.a]\nbudget_day = 1\n[routes.fast]\nmodel = 'x'\nprices = {input = 2, output = 3}"
    )
    assert Settings.load().route("fast").prices.cached == 2
    assert Settings.load().route("default").prices == DEFAULT_PRICES


def test_all_mistakes_are_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in its own line, those of the environment beside those of the file."""
    (tmp_path / "penstock.toml").write_text(
        "max_attempts = 0\n[routes.fast]\nconcurrency = 0\nfallback = ['slow']\n"
        "[tenants.a]\nweight = 0\n"
    )
    monkeypatch.setenv("PENSTOCK_DRAIN_TIMEOUT", "-1")
    monkeypatch.setenv("PENSTOCK_ROUTES", '{"fast": {"burst": 0}}')
    with pytest.raises(ConfigurationError) as error:
        Settings.load(concurrency=0)
    assert {line.partition(": ")[0] for line in str(error.value).splitlines()} == {
        "penstock.toml:1", "penstock.toml:3", "penstock.toml:4", "penstock.toml:6",
        "PENSTOCK_DRAIN_TIMEOUT", "PENSTOCK_ROUTES", "concurrency",
    }  # fmt: skip


def test_no_mistake_shows_the_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong may be a secret in the wrong place."""
    monkeypatch.setenv("PENSTOCK_ROUTES", '{"a": {"concurrency": "canary-1"}}')
    monkeypatch.setenv("DEEPINFRA_TOKEN", "canary 2")
    monkeypatch.setenv("PENSTOCK_UPSTREAM_URL", "canary-3")
    (tmp_path / "penstock.toml").write_text(
        "[routes.b]\ntoken = 'canary-4'\nmodel = ['canary-5']\ntimeouts = 'canary-6'\n"
    )
    with pytest.raises(ConfigurationError) as error:
        Settings.load(log="canary-7")
    assert len(error.value.mistakes) == 7
    assert "canary" not in f"{error.value} {error.value!r} {error.value.mistakes}"


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
        ({"a": {"fallback": ["b"]}}, "routes.a.fallback #1: there is no route 'b'"),
        ({"a": {"fallback": ["a"]}}, "routes.a.fallback #1: leads back: a -> a"),
        (
            {
                "a": {"fallback": ["default", "b"]},
                "b": {"fallback": ["c"]},
                "c": {"fallback": ["a"]},
            },
            "routes.a.fallback #2: leads back: a -> b -> c -> a",
        ),
        ({"a": {"service_tiers": ["priority", "flex"]}}, "keep to the order flex, default"),
        ({"a": {"service_tiers": ["flex", "flex"]}}, "keep to the order flex, default"),
        ({"a": {"fallback": [["b"]]}}, "routes.a.fallback #1: must be text"),
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
