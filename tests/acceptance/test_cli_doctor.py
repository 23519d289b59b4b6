"""`penstock doctor`: every check, on real servers, workers and upstreams."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import ANY

import pytest

from ops.local.server import EmbeddedServer
from ops.simulator import SimulatorThread
from penstock import Client, Settings, keys
from tests.processes import Started
from tests.terminal import CommandLine, Said


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


def test_all_is_well(cli: CommandLine, start_worker: Started) -> None:
    """With a safe server, a worker and an upstream every check is ok, and the status is 0."""
    start_worker()
    said = cli("doctor")
    assert (said.status, said.err) == (0, "")
    assert [line.split()[:2] for line in said.out.splitlines()] == [
        ["ok", "settings"], ["ok", "server"], ["ok", "workers"], ["ok", "route"],
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
    assert advice[1:] == ["set NO_SECRET_1", "set NO_SECRET_2", "set NO_SECRET_3"]


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
    assert found["settings"][1]["advice"] == "set NO_SUCH_TOKEN"
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
