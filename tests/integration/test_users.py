"""Redis as ops/redis sets it up: each role does its work there, and nothing else."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.exceptions import NoPermissionError

from ops.simulator import SimulatorThread
from penstock.keys import CATALOGUE
from tests.gateways import GatewayProcess, http
from tests.guarded import OPERATIONS, Guarded
from tests.processes import WorkerProcess, free_port, run_cli
from tests.refusals import outside, taken
from tests.roles import ROOT, granted
from tests.waiting import until

pytestmark = pytest.mark.xdist_group("users")

READABLE = {
    "producer": "hmget",
    "gateway": "hmget",
    "reader": "hmget",
    "worker": "hmget",
    "celery": "llen",
}
"""A command of each role that reads one key."""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A server that ops/redis has set up."""
    directory = tmp_path_factory.mktemp("users")
    server = Guarded(directory)
    try:
        until(server.answers)
        yield server
    finally:
        server.end()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def worker(guarded: Guarded, simulator: SimulatorThread) -> Iterator[WorkerProcess]:
    """A worker that knows its own role's URL only, from a file."""
    with guarded.connect("operator") as operator:
        operator.acl_log_reset()
    environment = {
        "PENSTOCK_REDIS_URL": guarded.url("worker"),
        "PENSTOCK_UPSTREAM_URL": simulator.url,
    }
    process = WorkerProcess(guarded.url("operator"), environment=environment)
    process.until_ready()
    yield process
    process.kill()


def refused(guarded: Guarded) -> set[tuple[str, str]]:
    """Who has been refused what, by the server's own account."""
    with guarded.connect("operator") as operator:
        return {(entry["username"], entry["object"]) for entry in operator.acl_log()}


def test_each_role_does_its_work(guarded: Guarded, worker: WorkerProcess) -> None:
    """Submit, run, follow, cancel, redrive, look on and ping, each as its role: none is refused."""
    producer, reader = guarded.url("producer"), guarded.url("reader")
    followed = run_cli(producer, "submit", "hello", "--follow", "--conversation", "c")
    assert followed.returncode == 0, followed.stderr
    job = run_cli(
        producer, "submit", "--body", "-",
        input_='{"messages": [{"role": "user", "content": "x"}], "simulate": {"status": 400}}',
    ).stdout.strip()  # fmt: skip
    assert run_cli(producer, "follow", job).returncode == 1
    assert run_cli(producer, "retry", job).returncode == 0
    late = run_cli(producer, "submit", "x", "--delay", "1h", "--deadline", "2h").stdout.strip()
    assert run_cli(producer, "cancel", late).returncode == 0
    assert "cancelled" in run_cli(reader, "show", late).stdout
    for look in (
        ["list"],
        ["usage"],
        ["routes"],
        ["webhooks", "list"],
        ["top", "--once"],
        ["follow", late],
    ):
        told = run_cli(reader, *look)
        assert told.returncode == 0 or look[0] == "follow", told.stderr
    status = subprocess.run(
        [Path(sys.executable).with_name("celery"), "-A", "worker.app", "status"],
        env={**os.environ, "PENSTOCK_REDIS_URL": guarded.url("celery")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 node online" in status.stdout, status.stderr
    with guarded.connect("metrics") as metrics:
        assert metrics.info("memory")["used_memory"] > 0
    worker.terminate()
    assert worker.wait() == 0
    # A worker would warn of appendfsync no; where CONFIG is refused it does without.
    assert refused(guarded) <= {("worker", "config|get")}


@pytest.mark.parametrize("role", ["producer", "worker", "gateway", "reader", "celery", "metrics"])
def test_doctor_helps_each_role(guarded: Guarded, simulator: SimulatorThread, role: str) -> None:
    """What its user may not ask is a warning that names the user who may: nothing is wrong."""
    url = guarded.url(role)
    with guarded.connect("operator") as operator:
        operator.hdel("penstock:gate:default", "url")  # of another test's upstream
    examined = run_cli(url, "doctor", PENSTOCK_UPSTREAM_URL=simulator.url)
    assert examined.returncode == 0, examined.stdout
    assert "as the user `operator`" in " ".join(examined.stdout.split())


def test_the_gateway_does_its_work(guarded: Guarded, worker: WorkerProcess) -> None:
    """Keys, submitting, following by key and token, listing, erasing, metrics: none is refused."""
    key = run_cli(guarded.url("operator"), "keys", "create").stdout.strip()
    port = free_port()
    gateway = GatewayProcess(guarded.url("gateway"), "--metrics-port", str(port))
    try:
        with http(gateway.until_ready().url, key) as api, http(gateway.url) as page:
            body = {"messages": [{"role": "user", "content": "hello"}]}
            job = api.post("/v1/jobs", params={"wait": 20}, json=body).json()
            assert job["state"] == "completed"
            path = f"/v1/jobs/{job['id']}"
            assert "event: completed" in api.get(f"{path}/events").text
            assert "event: completed" in page.get(api.post(f"{path}/token").json()["events"]).text
            assert job["id"] in api.get("/v1/jobs").text
            assert api.post(f"{path}/cancel").status_code < 500
            assert api.delete(path).status_code == 204
            assert page.get(path).status_code == 401
            assert (
                "penstock_tenant_jobs_today{" in page.get(f"http://127.0.0.1:{port}/metrics").text
            )
    finally:
        gateway.kill()
    assert {entry for entry in refused(guarded) if entry[0] == "gateway"} == set()


@pytest.mark.parametrize(
    "role", [name for name in granted() if name not in ("default", "operator")]
)
def test_a_role_is_refused_every_command_outside_its_list(guarded: Guarded, role: str) -> None:
    """Each command of the server that the role has not is tried, and refused."""
    untried = outside(role, guarded.url("operator"))
    assert len(untried) > 200
    assert taken(guarded.url(role), untried) == []


@pytest.mark.parametrize("role", READABLE)
def test_a_role_is_refused_keys_and_channels_outside_its_list(guarded: Guarded, role: str) -> None:
    """What is no business of the role it cannot read, neither Penstock's own nor anybody's."""
    keys = granted()[role].keys
    foreign = [key for key in CATALOGUE.values() if not {key, f"{key}*"} & keys] + ["foreign"]
    read = READABLE[role]
    with guarded.connect(role) as connection:
        for key in foreign:
            whole = key if key[-1].isalnum() else f"{key}x"
            with pytest.raises(NoPermissionError, match="key"):
                connection.execute_command(read, whole, *["x"] * (read == "hmget"))
        for channel in ("SUBSCRIBE", "foreign"), ("SUBSCRIBE", "penstock:other"):
            with pytest.raises(NoPermissionError, match="channel"):
                connection.execute_command(*channel)


def test_a_reader_writes_nothing(guarded: Guarded) -> None:
    """Not even through a script of its own."""
    with (
        guarded.connect("reader") as reader,
        pytest.raises(redis.ResponseError, match="permission"),
    ):
        reader.eval("return redis.call('SET', KEYS[1], 'x')", 1, "penstock:job:x")


def test_the_first_key_is_made_once(guarded: Guarded, tmp_path: Path) -> None:
    """The container that makes it leaves a key, and leaves it alone when it starts again."""
    with guarded.connect("operator") as operator:
        for key in operator.scan_iter("penstock:apikey*"):
            operator.delete(key)
    file = tmp_path / "api-key"
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PENSTOCK_REDIS_URL_FILE": str(guarded.directory / "operator" / "redis-url"),
    }
    script = ROOT / "ops" / "docker" / "first-key.sh"
    subprocess.run([script, file], env=environment, check=True, capture_output=True)
    made = file.read_text()
    assert made.startswith("pk_")
    subprocess.run([script, file], env=environment, check=True, capture_output=True)
    assert file.read_text() == made
    assert len(run_cli(guarded.url("operator"), "keys", "list", "--json").stdout.splitlines()) == 1


@pytest.fixture
def lone(tmp_path: Path) -> Iterator[Guarded]:
    """A server of the test's own, to be ended and started again."""
    server = Guarded(tmp_path)
    try:
        until(server.answers)
        yield server
    finally:
        server.end(signal.SIGKILL)


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_keeps_every_job(lone: Guarded, by: signal.Signals) -> None:
    """The append-only file is read by the user `default`: what it may not do would be left out."""
    submitted = run_cli(lone.url("producer"), "submit", "hello").stdout.strip()
    with lone.connect("operator") as operator:
        before = sorted(operator.scan_iter())
    assert f"penstock:job:{submitted}" in before
    lone.end(by)
    lone.start()
    until(lone.answers)
    with lone.connect("operator") as operator:
        assert sorted(operator.scan_iter()) == before


def test_a_backup_is_made_and_restored_as_the_runbook_says(lone: Guarded) -> None:
    """Copied while the server works, then put into an empty directory: the job is there."""
    page = (ROOT / "ops" / "runbook.md").read_text().partition("## Backing up Redis")[2]
    save, restore = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    (lone.directory / "backup").mkdir()
    submitted = run_cli(lone.url("producer"), "submit", "hello").stdout.strip()
    follow_runbook(lone, save)
    lone.end(signal.SIGKILL)
    shutil.rmtree(lone.directory / "redis" / "appendonlydir")
    follow_runbook(lone, restore)
    lone.start()
    until(lone.answers)
    shown = run_cli(lone.url("reader"), "show", submitted)
    assert shown.returncode == 0, shown.stderr


def follow_runbook(server: Guarded, commands: str) -> None:
    """Do what it says, on this server: redis-cli is not on every machine."""
    for folder, own in (("/data/", "redis/"), ("/backup/", "backup/")):
        commands = commands.replace(folder, f"{server.directory}/{own}")
    for line in commands.splitlines():
        if not line.startswith("redis-cli "):
            subprocess.run(shlex.split(line), check=True)
            continue
        asked, _, rest = line.removeprefix("redis-cli ").partition("|")
        with server.connect("operator") as operator:
            reply = str(operator.execute_command(*shlex.split(asked)))
        if rest:
            assert re.search(rest.split()[1].replace(":", "': "), reply)


def test_nobody_comes_in_without_a_name(guarded: Guarded) -> None:
    """The server's `default` user is off, and a wrong password opens nothing."""
    for url in (f"redis://127.0.0.1:{guarded.port}", f"redis://worker:x@127.0.0.1:{guarded.port}"):
        with redis.Redis.from_url(url) as anybody, pytest.raises(redis.AuthenticationError):
            anybody.ping()


def test_passwords_stay_when_rules_are_made_again(guarded: Guarded) -> None:
    """Running make-users.sh after an upgrade locks nobody out, and the server takes its file."""
    before = guarded.url("worker")
    address = f"127.0.0.1:{guarded.port}"
    subprocess.run([OPERATIONS / "make-users.sh", guarded.directory, address], check=True)
    assert guarded.url("worker") == before
    with guarded.connect("operator") as operator:
        assert operator.acl_load()
    with guarded.connect("worker") as worker:
        assert worker.ping()


def test_the_server_is_as_the_file_says(guarded: Guarded) -> None:
    """Jobs go to disk, are never evicted, and prompts come into no log of the server."""
    with guarded.connect("operator") as operator:
        config = operator.config_get("*")
    expected = {
        "appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction",
        "stream-node-max-bytes": "1024", "save": "", "slowlog-log-slower-than": "-1",
    }  # fmt: skip
    assert {name: config[name] for name in expected} == expected
