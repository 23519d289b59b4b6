"""`penstock routes apply`: a changed penstock.toml without a restart, and what a bad one does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ops.simulator import Script, SimulatorThread
from penstock import Client, Settings, UnknownRoute, commands, keys
from penstock.publication import Publication
from penstock.settings import RouteOverrides
from penstock.store import Store
from tests.processes import Started
from tests.terminal import CommandLine, Said

MESSAGES = [{"role": "user", "content": "Hi"}]
SLOW = Script(text="slow " * 600, gap=0.1, ttft=0.01)

Apply = Callable[[str], Said]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty penstock.toml in the current directory."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "penstock.toml"
    path.write_text("")
    return path


@pytest.fixture
def apply(cli: CommandLine, config: Path) -> Apply:
    """Write penstock.toml and apply it."""

    def apply(text: str) -> Said:
        config.write_text(text)
        return cli("routes", "apply")

    return apply


@pytest.fixture
def other() -> Iterator[SimulatorThread]:
    """Another upstream, which wants a token."""
    with SimulatorThread(token="canary-right") as simulator:  # noqa: S106 - nobody's secret
        yield simulator


def state_of(store: Store) -> dict[bytes, Any]:
    """Everything that an apply could change."""
    redis = store.redis
    hashes = [keys.APPLIED, keys.CATALOGUE["limits"], keys.gate("default")]
    return {key: redis.hgetall(key) for key in hashes} | {b"routes": redis.smembers(keys.ROUTES)}


def ask(client: Client, script: Script = SLOW, **fields: Any) -> Any:
    return client.submit(MESSAGES, simulate=script.as_dict(), **fields)


def running(simulator: SimulatorThread) -> int:
    return simulator.simulator.stats.in_flight


def test_a_raised_limit_holds_while_jobs_wait(
    client: Client, start_worker: Started, simulator: SimulatorThread, apply: Apply
) -> None:
    """Jobs that waited for the old limit run at once, and no more of them than the new one lets."""
    worker = start_worker(PENSTOCK_ROUTES='{"default": {"concurrency": 1}}')
    jobs = [ask(client) for _ in range(5)]
    simulator.until(lambda stats: stats.in_flight == 1)
    said = apply("[routes.default]\nconcurrency = 3\n")
    assert (said.status, said.out) == (
        0, "applied penstock.toml: routes default; no tenants\n",
    )  # fmt: skip
    assert "told 1 worker process" in said.err
    simulator.until(lambda stats: stats.in_flight == 3)
    worker.until_logged("routes_applied")
    assert simulator.simulator.stats.peak_in_flight <= 3
    for job in jobs:
        job.cancel()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "[routes.default]\nconcurrency = 9\n[routes.x]\nfallback = ['y']",
            "toml:4: routes.x.fa",
        ),
        ("[routes.default]\nconcurrency = -9", "penstock.toml:2: routes.default.concurrency: must"),
        ("[tenants.a]\nweight = 0", "penstock.toml:2: tenants.a.weight: must be 0.001 or more"),
        ("[routes.default", "penstock.toml: is not TOML"),
    ],
)
def test_a_bad_file_leaves_the_old_in_force(
    text: str, says: str, registered: None, store: Store, apply: Apply
) -> None:
    """It is refused with its line and status 2, and nothing in Redis has changed."""
    apply("[routes.default]\nconcurrency = 7\n[tenants.a]\nweight = 2\n")
    before = state_of(store)
    said = apply(text)
    assert (said.status, said.out) == (2, "")
    assert says in said.err
    assert state_of(store) == before


def test_check_only_looks(
    cli: CommandLine, config: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It tells a right file from a wrong one, without Redis, and publishes neither."""
    config.write_text("[routes.fast]\nconcurrency = 3\n[tenants.a]\nweight = 2\n")
    monkeypatch.setenv("PENSTOCK_REDIS_URL", "redis://127.0.0.1:1/0")
    said = cli("routes", "apply", "--check")
    assert (said.status, said.err) == (0, "")
    assert said.out == "penstock.toml is right: routes default, fast; 1 tenant with limits\n"
    config.write_text("[routes.fast]\nconcurrency = 0\n")
    assert cli("routes", "apply", "--check").status == 2
    assert store.redis.dbsize() == 0


WRONG_HOOKS = """\
[hooks.h]
verify = "github"
secret_env = "X"
route = "nope"
filter = "paylod.action == 'opened'"
[[hooks.h.messages]]
content = "fine"
[[hooks.h.messages]]
content = "{{ payload | nothing }}"
"""


@pytest.mark.parametrize("check", [["--check"], []])
def test_hooks_are_looked_at_too(
    cli: CommandLine, config: Path, store: Store, check: list[str]
) -> None:
    """Their routes, filters and templates, each with its line; nothing is applied."""
    config.write_text(WRONG_HOOKS)
    said = cli("routes", "apply", *check)
    assert (said.status, said.out, store.redis.dbsize()) == (2, "", 0)
    assert [line.partition("; ")[0] for line in said.err.splitlines()] == [
        "penstock: penstock.toml:4: hooks.h.route: there is no route 'nope'",
        "penstock: penstock.toml:5: hooks.h.filter: names paylod",
        "penstock: penstock.toml:9: hooks.h.messages #2.content: is no template: No filter named "
        "'nothing', in its line 1",
    ]  # fmt: skip


def test_without_a_file_there_is_nothing_to_apply(cli: CommandLine, config: Path) -> None:
    """Defaults are not put in force by a command in the wrong directory."""
    config.unlink()
    said = cli("routes", "apply")
    assert said.status == 2
    assert "there is no penstock.toml to apply here" in said.err


def test_a_new_route_is_served(
    client: Client, start_worker: Started, other: SimulatorThread, apply: Apply
) -> None:
    """Producers may name it at once, and workers that run answer its jobs with its own token."""
    worker = start_worker(OTHER_TOKEN="canary-right")  # noqa: S106 - nobody's secret
    with pytest.raises(UnknownRoute):
        ask(client, route="fast")
    said = apply(
        f'[routes.fast]\nurl = "{other.url}"\nmodel = "small"\ntoken_env = "OTHER_TOKEN"\n'
    )
    assert said.status == 0
    answered = ask(client, Script(tokens=5), route="fast").result(timeout=20)
    assert answered.model == "small"
    assert ask(client, Script(tokens=5)).result(timeout=20)  # the old ones go on
    worker.until_logged("routes_applied")
    assert "canary" not in worker.log


def test_a_changed_url_is_asked_from_the_next_attempt_on(
    client: Client, start_worker: Started, simulator: SimulatorThread, apply: Apply
) -> None:
    """What streams goes on where it is; what starts later goes to the new place."""
    worker = start_worker()
    old = ask(client)
    simulator.until(lambda stats: stats.in_flight == 1)
    with SimulatorThread() as new:
        apply(f'[routes.default]\nurl = "{new.url}"\nmodel = "other"\n')
        worker.until_logged("routes_applied")
        assert ask(client, Script(tokens=3)).result(timeout=20).model == "other"
        assert new.simulator.stats.completed == 1
        assert running(simulator) == 1
        old.cancel()


def test_what_a_table_leaves_out_a_worker_knows_itself(
    client: Client, start_worker: Started, apply: Apply
) -> None:
    """A file without url and model does not take a worker's own away."""
    worker = start_worker(PENSTOCK_MODEL="own-model")
    apply("[routes.default]\nconcurrency = 9\n")
    worker.until_logged("routes_applied")
    assert ask(client, Script(tokens=3)).result(timeout=20).model == "own-model"


def test_a_worker_without_the_token_keeps_the_route_as_it_was(
    client: Client, start_worker: Started, other: SimulatorThread, apply: Apply
) -> None:
    """It says so; jobs are not thrown at an upstream that would refuse them for good."""
    worker = start_worker()
    table = f'url = "{other.url}"\ntoken_env = "NOT_SET_HERE"\n'
    apply(f"[routes.default]\n{table}[routes.new]\n{table}")
    worker.until_logged("routes_applied")
    assert worker.log.count("token_missing") == 2
    assert ask(client, Script(tokens=3)).result(timeout=20)
    assert ask(client, Script(tokens=3), route="new").record().state in ("queued", "admitted")
    assert other.simulator.stats.requests == 0


def test_a_missed_message_is_made_up_for(
    client: Client, start_worker: Started, settings: Settings
) -> None:
    """A worker that the channel did not reach looks for itself, and takes it up once."""
    worker = start_worker()
    asked = settings.applying({"fast": RouteOverrides(model="small")}, {})
    command = commands.apply(asked)
    deaf = command.script.source.replace(f"('PUBLISH', '{keys.CONTROL}'", "('PUBLISH', 'nobody'")
    assert deaf != command.script.source
    client.store.redis.eval(deaf, 1, *command.keys, *command.arguments)
    worker.until_logged("routes_applied", timeout=10)
    assert ask(client, Script(tokens=3), route="fast").result(timeout=20).model == "small"
    assert worker.log.count("routes_applied") == 1


def test_what_cannot_be_read_changes_nothing(
    client: Client, start_worker: Started, store: Store
) -> None:
    """A publication of another version is told in the log, and the worker goes on."""
    worker = start_worker()
    unreadable = {"version": "v9", "publication": '{"routes": {"default": {"warp": 9}}}'}
    store.redis.hset(keys.APPLIED, mapping=unreadable)
    worker.until_logged("routes_refused", timeout=10)
    assert ask(client, Script(tokens=3)).result(timeout=20)


def test_a_worker_may_keep_its_own_routes(
    client: Client, start_worker: Started, other: SimulatorThread, apply: Apply
) -> None:
    """With PENSTOCK_FOLLOW_APPLIED=false only limits change."""
    worker = start_worker(PENSTOCK_FOLLOW_APPLIED="false")
    apply(f'[routes.default]\nurl = "{other.url}"\n')
    assert ask(client, Script(tokens=3)).result(timeout=20)
    assert other.simulator.stats.requests == 0
    assert "routes_applied" not in worker.log


def test_a_worker_that_starts_later_goes_by_its_own_file(
    client: Client, start_worker: Started, apply: Apply, store: Store, tmp_path: Path
) -> None:
    """What was applied before it started is not put over its settings; the newest counts."""
    apply("[routes.default]\nconcurrency = 9\nmodel = 'applied'\n")
    own = tmp_path / "own.toml"
    own.write_text("[routes.default]\nconcurrency = 4\nmodel = 'own'\n")
    worker = start_worker(PENSTOCK_CONFIG=str(own))
    assert ask(client, Script(tokens=3)).result(timeout=20).model == "own"
    assert store.redis.hget(keys.gate("default"), "concurrency") == b"4"
    assert "routes_applied" not in worker.log


def test_a_repeated_call_changes_nothing(
    registered: None, settings: Settings, store: Store
) -> None:
    """A client that lost the reply sends the same again; what was applied since then stays."""
    first = commands.apply(settings.applying({"default": RouteOverrides(concurrency=5)}, {}))
    store.run(first)
    once = state_of(store)
    store.run(first)
    assert state_of(store) == once
    store.run(commands.apply(settings.applying({"default": RouteOverrides(concurrency=6)}, {})))
    twice = state_of(store)
    store.run(first)
    assert state_of(store) == twice


def test_the_publication_holds_no_token(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    """Names of variables go to Redis, what is in them does not."""
    monkeypatch.setenv("DEEPINFRA_TOKEN", "canary-1")
    monkeypatch.setenv("FAST_TOKEN", "canary-2")
    routes = {"fast": RouteOverrides(model="m", token_env="FAST_TOKEN")}  # noqa: S106 - a name
    store.run(commands.apply(settings.applying(routes, {})))
    assert "FAST_TOKEN" in Publication.of(settings.applying(routes, {})).text
    everything = str([store.redis.hgetall(key) for key in (keys.APPLIED, keys.gate("fast"))])
    assert "FAST_TOKEN" in everything
    assert "canary" not in everything


def test_what_is_published_reads_back(settings: Settings) -> None:
    """Only what was given is said, so the rest stays each worker's own."""
    routes = {"fast": RouteOverrides(url="http://x/v1", fallback=("default",))}
    publication = Publication.of(settings.applying(routes, {}))
    assert Publication.read(publication.text.encode()) == publication
    assert publication.routes["default"].model_fields_set == set()
    top = Settings.load(upstream_url="http://top", model="m").applying(routes, {})
    completed = Publication.of(top).routes
    assert (completed["fast"].url, completed["fast"].model) == ("http://x/v1", "m")
    assert (completed["default"].url, completed["default"].model) == ("http://top", "m")


def test_a_new_route_is_served_after_a_lost_connection_too(
    client: Client, start_worker: Started, store: Store, apply: Apply
) -> None:
    """Celery's consumer takes up every queue again, also those it did not begin with."""
    worker = start_worker()
    apply("[routes.fast]\nmodel = 'small'\n")
    worker.until_logged("routes_applied")
    assert ask(client, Script(tokens=3), route="fast").result(timeout=20)
    store.redis.client_kill_filter(_type="normal", skipme=True)
    assert ask(client, Script(tokens=3), route="fast").result(timeout=40).model == "small"
