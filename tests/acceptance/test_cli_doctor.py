"""`penstock doctor`: every check, on real servers, workers and upstreams."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from unittest.mock import ANY

import pytest

from ops.doctor.rights import check_rights
from ops.doctor.routes import check_routes
from ops.doctor.server import check_server
from ops.doctor.settings import read_settings, unknown_routes
from ops.doctor.webhooks import check_webhooks
from ops.local.server import EmbeddedServer
from ops.simulator import SimulatorThread
from penstock import Client, Settings, attendance, keys
from penstock.settings import PRICED_MODEL
from penstock.store import Store
from tests.processes import Started
from tests.receiver import ALLOWED, Receiver, Reply
from tests.roles import granted
from tests.terminal import CommandLine, Said
from tests.waiting import until


@pytest.fixture
def cli(
    settings: Settings,
    simulator: SimulatorThread,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> CommandLine:
    """Commands on the empty server and the simulated upstream."""
    monkeypatch.setenv("PENSTOCK_REDIS_URL", settings.server_url)
    monkeypatch.setenv("PENSTOCK_UPSTREAM_URL", simulator.url)
    return CommandLine(monkeypatch, capsys)


def findings(said: Said) -> dict[str, list[dict[str, str]]]:
    """What `--json` printed, by subject."""
    by_subject: dict[str, list[dict[str, str]]] = {}
    for line in said.out.splitlines():
        finding = json.loads(line)
        by_subject.setdefault(finding.pop("subject"), []).append(finding)
    return by_subject


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The penstock.toml of the commands, not written yet."""
    path = tmp_path / "penstock.toml"
    monkeypatch.setenv("PENSTOCK_CONFIG", str(path))
    return path


@contextmanager
def meanwhile(work: Callable[[], object]) -> Iterator[None]:
    """Do this again and again in a thread."""
    over = threading.Event()

    def repeat() -> None:
        while not over.is_set():
            work()

    thread = threading.Thread(target=repeat)
    thread.start()
    yield
    over.set()
    thread.join()


def test_all_is_well(cli: CommandLine, start_worker: Started, client: Client) -> None:
    """With a safe server, a worker and an upstream every check is ok, and the status is 0."""
    start_worker()
    until(client.workers)
    said = cli("doctor")
    assert (said.status, said.err) == (0, "")
    assert [line.split()[:2] for line in said.out.splitlines()] == [
        ["ok", "settings"], ["ok", "server"], ["ok", "rights"], ["ok", "workers"],
        ["ok", "route"],
    ]  # fmt: skip


def test_no_worker_is_a_problem_once_jobs_wait(cli: CommandLine, client: Client) -> None:
    """Without jobs it is a warning; with jobs nobody will ever answer it is a problem."""
    said = cli("doctor", "--json")
    assert said.status == 0
    assert findings(said)["workers"] == [
        {"verdict": "warning", "text": "none answers; jobs would wait",
         "advice": "start one: penstock worker"}
    ]  # fmt: skip
    client.submit([{"role": "user", "content": "Hi"}])
    said = cli("doctor", "--json")
    assert said.status == 1
    assert findings(said)["workers"][0]["verdict"] == "problem"


def test_an_unsafe_server_is_told(
    cli: CommandLine, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eviction is a problem, missing persistence a warning; each with what to set."""
    unsafe = {"appendonly": "no", "maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}
    with EmbeddedServer(state_dir, directives=unsafe) as server:
        monkeypatch.setenv("PENSTOCK_REDIS_URL", server.url)
        said = cli("doctor", "--json")
    assert said.status == 1
    _, eviction, persistence = findings(said)["server"]
    assert (eviction["verdict"], eviction["advice"]) == (
        "problem", "set maxmemory-policy noeviction",
    )  # fmt: skip
    assert (persistence["verdict"], persistence["advice"]) == ("warning", "set appendonly yes")


def test_a_server_out_of_reach_is_status_3(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The routes are checked all the same."""
    monkeypatch.setenv("PENSTOCK_REDIS_URL", "redis://127.0.0.1:1/0")
    said = cli("doctor", "--json")
    assert said.status == 3
    found = findings(said)
    assert found["server"][0]["verdict"] == "unreachable"
    assert found["route default"][0]["verdict"] == "ok"


def test_a_secret_that_is_not_set_is_a_problem(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of a tenant's webhook, of a hook, and of a hook's answer."""
    config = tmp_path / "penstock.toml"
    endpoint = '{ url = "https://a.example/", secret_env = "NO_SECRET_%d" }'
    config.write_text(
        f"[tenants.acme]\nwebhook = {endpoint % 1}\n"
        '[hooks.h]\nverify = "github"\nsecret_env = "NO_SECRET_2"\n'
        f'messages = [{{ content = "m" }}]\nanswer = {{ webhook = {endpoint % 3} }}\n'
    )
    monkeypatch.setenv("PENSTOCK_CONFIG", str(config))
    advice = [finding["advice"] for finding in findings(cli("doctor", "--json"))["settings"]]
    assert advice == ["set NO_SECRET_1", "set NO_SECRET_2", "set NO_SECRET_3"]


def test_a_refused_token_and_a_dead_upstream_are_problems(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each route is asked with its own token: told apart are refused, unset and out of reach."""
    with SimulatorThread(token="right") as upstream:  # noqa: S106 - nobody's secret
        config = tmp_path / "penstock.toml"
        config.write_text(
            f'[routes.wrong]\nurl = "{upstream.url}"\n'
            '[routes.dead]\nurl = "http://127.0.0.1:1/v1"\ntoken_env = "NO_SUCH_TOKEN"\n'
        )
        monkeypatch.setenv("PENSTOCK_CONFIG", str(config))
        monkeypatch.setenv("DEEPINFRA_TOKEN", "wrong")
        said = cli("doctor", "--json")
    assert said.status == 1
    found = findings(said)
    assert found["route wrong"][0]["advice"] == "set DEEPINFRA_TOKEN to a valid one"
    assert found["route wrong"][0]["text"].endswith("answers 401 to this token")
    assert found["route dead"][0]["text"].startswith("Cannot connect to host 127.0.0.1:1")
    assert found["settings"][0]["advice"] == "set NO_SUCH_TOKEN"
    assert "wrong" not in found["route default"][0]["text"]


def test_a_wrong_setting_is_told_with_its_source(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The environment's mistakes and the file's are told apart, and a misspelt name is found."""
    config = tmp_path / "penstock.toml"
    config.write_text("[routes.fast]\nconcurrency = 0\nweight = 1\n")
    monkeypatch.setenv("PENSTOCK_CONFIG", str(config))
    monkeypatch.setenv("PENSTOCK_CONCURRENCY", "many")
    said = cli("doctor", "--json")
    assert said.status == 1
    assert [(f["text"], f["advice"]) for f in findings(said)["settings"]] == [
        (f"{config}:2: routes.fast.concurrency: must be 1 or more",
         "give a larger number, or leave it out for 200"),
        (f"{config}:3: routes.fast.weight: there is no such setting", ANY),
        ("PENSTOCK_CONCURRENCY: must be a whole number",
         "give a whole number, or leave it out for 500"),
    ]  # fmt: skip

    monkeypatch.delenv("PENSTOCK_CONFIG")
    monkeypatch.delenv("PENSTOCK_CONCURRENCY")
    monkeypatch.setenv("PENSTOCK_CONCURENCY", "9")
    (_, misspelt) = findings(cli("doctor", "--json"))["settings"]
    assert misspelt == {
        "verdict": "warning", "text": "PENSTOCK_CONCURENCY is no setting",
        "advice": "did you mean PENSTOCK_CONCURRENCY?",
    }  # fmt: skip


def test_jobs_of_another_version_are_a_problem(cli: CommandLine, client: Client) -> None:
    """Jobs that no worker of this version reads are named, and who would read them."""
    client.store.redis.zadd(keys.ASIDE, {"job_1": 3, "job_2": 3})
    (finding,) = findings(cli("doctor", "--json"))["records"]
    assert finding["verdict"] == "problem"
    assert finding["text"].startswith("2 jobs wait for a worker of another version")
    assert finding["text"].endswith("format 3")


def test_memory_that_gets_scarce_is_a_warning(store: Store) -> None:
    """Before the server refuses new jobs; it says how much there is."""
    used = store.redis.info("memory")["used_memory"]
    try:
        store.redis.config_set("maxmemory", int(used / 0.85))
        found = list(check_server(store))
    finally:
        store.redis.config_set("maxmemory", 0)
    assert " of " in found[0].text
    assert found[1].verdict == "warning"
    assert re.match(r"\d\d% of maxmemory \(.*\) is in use", found[1].text)


def test_a_slow_server_is_a_warning(store: Store) -> None:
    """Each event of a stream waits for it."""
    with ExitStack() as stack:
        for _ in range(3):  # so that one always sleeps
            other = stack.enter_context(Store(store.url).redis)
            stack.enter_context(meanwhile(partial(other.execute_command, *SLEEP)))
        found = list(check_server(store))
    assert re.fullmatch(r"\d+ ms for a PING is slow", found[1].text)


SLEEP = ("DEBUG", "SLEEP", "0.03")


def test_a_clock_that_is_wrong_is_a_warning(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Receivers refuse webhooks that were signed minutes ago."""
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - 300.5)
    found = list(check_server(store))
    assert found[1].text == "its clock is 5 min 0 s ahead of this one"


def test_a_user_who_may_not_do_its_work_is_a_problem(store: Store) -> None:
    """After an upgrade, say, whose users.acl the server was not given: each lack is named."""
    worker = granted()["worker"]
    rules = [f"~{key}" for key in worker.keys - {"penstock:workers"}]
    rules += [f"&{channel}" for channel in worker.channels - {"penstock:control"}]
    rules += [f"+{command}" for command in worker.commands - {"zcount", "script|load"}]
    store.redis.execute_command("ACL", "SETUSER", "worker", "on", ">pass", "-@all", *rules)
    asked_as_worker = store.url.replace("unix://", "unix://worker:pass@")
    try:
        (lack,) = check_rights(store)
        with closing(Store(asked_as_worker)) as worker_store:
            (unknown,) = check_rights(worker_store)
            assert next(iter(check_server(worker_store))).verdict == "ok"
            store.redis.execute_command("ACL", "SETUSER", "worker", "-info")
            (silent,) = check_server(worker_store)
    finally:
        store.redis.acl_deluser("worker")
    assert lack.verdict == "problem"
    assert lack.text.startswith("user worker may not use ")
    for what in ("+zcount", "+script|load", "~penstock:workers", "&penstock:control"):
        assert what in lack.text
    assert (unknown.verdict, silent.verdict) == ("warning", "warning")
    assert "as the user `operator`" in unknown.advice


def test_a_server_that_would_forget_jobs_is_a_problem(store: Store) -> None:
    """Redis reads its append-only file as `default`, and leaves out what that user may not do."""
    own = ["on", ">pass", "~*", "&*", "+@all"]
    store.redis.execute_command("ACL", "SETUSER", "operator", *own)
    as_operator = store.url.replace("unix://", "unix://operator:pass@")
    try:
        with closing(Store(as_operator)) as operator:
            operator.redis.execute_command("ACL", "SETUSER", "default", "-@all", "resetkeys")
            found, *_ = check_rights(operator)
            operator.redis.execute_command("ACL", "SETUSER", "default", "+@all", "~*")
            mended = [finding.verdict for finding in check_rights(operator)]
    finally:
        store.redis.acl_deluser("operator")
    assert found.verdict == "problem"
    assert "would lose jobs" in found.text
    assert mended == ["ok"]


def test_a_worker_that_does_not_hear_is_a_problem(cli: CommandLine, store: Store) -> None:
    """It says that it is there, but Celery does not reach it; one that was killed is only gone."""
    attend = attendance.attend("deaf@here", [], version="0.1.0", concurrency=1, streams=0)
    store.run(attend._replace(arguments=["killed@here", *attend.arguments[1:]]))
    with meanwhile(lambda: store.run(attend)):
        found = findings(cli("doctor", "--json"))["workers"]
    assert [(f["verdict"], f["text"]) for f in found] == [
        ("problem", "1 hear nothing though they run: deaf@here")
    ]


def test_a_route_that_no_worker_serves_is_told(
    cli: CommandLine,
    start_worker: Started,
    client: Client,
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As after an apply under `up --simulate`; that a worker is of another version is told too."""
    config.write_text("")
    start_worker(PENSTOCK_FOLLOW_APPLIED="false")
    until(lambda: client.workers())
    config.write_text("[routes.new]\nconcurrency = 3\n")
    assert cli("routes", "apply").status == 0
    monkeypatch.setattr("ops.doctor.workers.version", lambda package: "9.9.9")
    _, other = findings(cli("doctor", "--json"))["workers"]
    assert other["verdict"] == "warning"
    assert re.fullmatch(r"1 of another version than this, 9.9.9: .* \(\d.*\)", other["text"])
    (warning, _) = findings(cli("doctor", "--json"))["route new"]
    assert (warning["verdict"], warning["text"]) == (
        "warning", "no worker serves it; jobs would wait",
    )  # fmt: skip
    assert "penstock up --simulate" in warning["advice"]
    client.submit([{"role": "user", "content": "Hi"}], route="new")
    said = cli("doctor", "--json")
    assert said.status == 1
    assert findings(said)["route new"][0]["text"] == "no worker serves it, and jobs wait"


def test_a_model_that_the_upstream_does_not_list_is_a_warning(simulator: SimulatorThread) -> None:
    """A slip in its name is found before any job fails by it."""
    slip = {"url": simulator.url, "model": PRICED_MODEL.replace("Super", "Supper")}
    found = check_routes(Settings.load(routes={"default": slip}), {})
    assert [(f.verdict, f.advice) for f in found] == [("warning", f"did you mean {PRICED_MODEL}?")]


def test_hooks_that_would_refuse_every_delivery_are_problems(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A template that is none, and a route that nobody knows, each with its line."""
    monkeypatch.setenv("SECRET", "s")
    config.write_text(
        '[hooks.h]\nverify = "github"\nsecret_env = "SECRET"\nroute = "nope"\n'
        'messages = [{ content = "{{ payload" }]\n'
    )
    settings, (template,) = read_settings()
    assert settings
    assert template.text.startswith(f"{config}:5: hooks.h.messages #1.content: is no template")
    (route,) = unknown_routes(settings, ["default", "published"])
    assert route.text == f"{config}:4: hooks.h.route: there is no route 'nope'"
    assert list(unknown_routes(settings, ["nope"])) == []


def test_webhooks_that_do_not_arrive_are_told(client: Client, start_worker: Started) -> None:
    """Endpoints that fail or are gone, by what they answered last; one that is well is not told."""
    start_worker(**ALLOWED)
    with Receiver([Reply(500)]) as failing, Receiver([Reply(410)]) as gone, Receiver() as well:
        jobs = [
            client.submit([{"role": "user", "content": "Hi"}], webhook=receiver.url)
            for receiver in (failing, gone, well)
        ]
        for job in jobs:
            until(lambda job=job: any(d.log for d in client.deliveries_of(job.id)), timeout=20)
        found = {f.text.split()[0]: f for f in check_webhooks(client.settings)}
    assert found.keys() == {failing.url, gone.url}
    assert "does not take its deliveries: the endpoint answered 500" in found[failing.url].text
    assert "is not called any more" in found[gone.url].text


def test_deliveries_that_nobody_sends_are_a_problem(client: Client) -> None:
    """They are due, and no worker takes them."""
    seconds, _ = client.store.redis.time()
    client.store.redis.zadd(keys.WEBHOOKS, {"job_1-1-2": seconds - 240})
    (found,) = check_webhooks(client.settings)
    assert found.verdict == "problem"
    assert found.text.startswith("1 deliveries are due, the first for 4 min")
