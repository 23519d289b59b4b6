"""Who may do what at the gateway: every route by every scope, own jobs and others'."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from penstock import Client, Settings, access
from penstock.access import Loan, Scope
from penstock.commands import register
from penstock.errors import KeyNotFound
from penstock.store import Store
from producers.keys import keys
from tests.gateways import GatewayProcess, GatewayThread, http, make_key, native_routes
from tests.integration.feeds import MESSAGES, Speaker
from tests.processes import run_cli
from tests.terminal import CommandLine
from worker.dispatch import CELERY_VERSION, render_template

BODY = {"messages": MESSAGES}
ROUTES = [(method, route.path, scope) for route, method, scope in native_routes()]
CELLS = [frozenset(c) for n in range(1, 5) for c in combinations(Scope, n)]

NOBODYS = "job_00000000000000000000000000"
TEMPLATE = render_template()

EXPECTED = {
    ("POST", "/v1/jobs"): 202,
    ("GET", "/v1/jobs"): 200,
    ("GET", "/v1/jobs/{id}"): 200,
    ("GET", "/v1/jobs/{id}/events"): 200,
    ("POST", "/v1/jobs/{id}/cancel"): 202,
    ("POST", "/v1/jobs/{id}/retry"): 202,
    ("DELETE", "/v1/jobs/{id}"): 204,
    ("POST", "/v1/jobs/{id}/token"): 201,
}
"""What each route answers to whoever may; on a failed job."""


@pytest.fixture(scope="module")
def doors(server: Any, session_dir: Any) -> Iterator[tuple[GatewayThread, Client]]:
    """One gateway for all cells; the server is emptied once, in front of them."""
    settings = Settings.load(redis_url=server.url, state_dir=session_dir / "state")
    with Client(settings) as client, GatewayThread(settings) as gateway:
        client.store.redis.flushall()
        yield gateway, client


@pytest.fixture
def api(gateway: GatewayThread) -> Iterator[httpx.Client]:
    with http(gateway.url) as api:
        yield api


def failed_job(client: Client, tenant: str) -> str:
    client.store.run(register(TEMPLATE, CELERY_VERSION, client.settings.resolved_routes, {}))
    job = client.submit(MESSAGES, tenant=tenant)
    Speaker(client, job).fail()
    return job.id


@pytest.mark.xdist_group("matrix")
@pytest.mark.parametrize("whose", ["blue", "red", "nobody"])
@pytest.mark.parametrize(("method", "path", "scope"), ROUTES)
def test_every_route_by_every_scope(
    doors: tuple[GatewayThread, Client], method: str, path: str, scope: Scope, whose: str
) -> None:
    """Of all sets of scopes exactly those with the route's own or admin pass, on own jobs only.

    A job of another tenant and one that never was answer alike, but to admin.
    """
    gateway, client = doors
    with http(gateway.url) as api:
        for scopes in CELLS:
            job = failed_job(client, whose) if whose != "nobody" else NOBODYS
            key = make_key(client.store, "blue", scopes)
            body = BODY if path == "/v1/jobs" and method == "POST" else None
            params = None
            if "{id}" not in path and whose == "red":
                body, params = (
                    body and {**body, "tenant": "red"},
                    None if body else {"tenant": "red"},
                )
            answer = api.request(
                method, path.replace("{id}", job), json=body, params=params,
                headers={"Authorization": f"Bearer {key}"},
            )  # fmt: skip
            passes = scope in scopes or Scope.ADMIN in scopes
            assert answer.status_code == _expected(method, path, whose, scopes, passes), scopes
            if answer.status_code == 404:
                assert answer.json()["error"]["message"].replace(job, "") == (
                    "there is no job ; it was never submitted here, or its result_ttl is over"
                )


def _expected(method: str, path: str, whose: str, scopes: frozenset[Scope], passes: bool) -> int:
    if not passes:
        return 403
    if whose == "blue" or (whose == "red" and Scope.ADMIN in scopes):
        return EXPECTED[method, path]
    if "{id}" in path:
        return 404
    return 403 if whose == "red" else EXPECTED[method, path]


def test_the_matrix_has_every_route() -> None:
    """A route that is added must be added to what is expected too."""
    assert {(method, path) for method, path, _ in ROUTES} == set(EXPECTED)
    assert len(CELLS) == 15


def test_another_tenants_jobs_are_not_listed(
    gateway: GatewayThread, client: Client, store: Store
) -> None:
    """A list has the caller's own jobs only; admin may name a tenant."""
    own, other = (client.submit(MESSAGES, tenant=tenant).id for tenant in ("blue", "red"))
    with http(gateway.url, make_key(store, "blue", [Scope.READ])) as api:
        assert [job["id"] for job in api.get("/v1/jobs").json()["data"]] == [own]
    with http(gateway.url, make_key(store, "blue", [Scope.ADMIN])) as api:
        assert [j["id"] for j in api.get("/v1/jobs?tenant=red").json()["data"]] == [other]


def test_the_same_idempotency_key_of_two_tenants_is_two_jobs(
    gateway: GatewayThread, store: Store
) -> None:
    """Nobody learns of another tenant's keys by using them."""
    found = []
    for tenant in ("blue", "red"):
        with http(gateway.url, make_key(store, tenant)) as api:
            given = {"Idempotency-Key": "k"}
            found.append(api.post("/v1/jobs", json=BODY, headers=given).json()["id"])
    assert found[0] != found[1]


@pytest.mark.parametrize(
    "shown",
    [
        None, "pk_", "pk_0000000000000000_" + "A" * 43, "sk-123", "Ünicode", "é" * 5000,
    ],
)  # fmt: skip
def test_a_wrong_key_is_refused(api: httpx.Client, store: Store, shown: str | None) -> None:
    """Whatever is no valid key is 401, and tells how to send one."""
    make_key(store)
    headers = {} if shown is None else {"Authorization": f"Bearer {shown}".encode()}
    answer = api.get("/v1/jobs", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["error"]["code"] == "invalid_key"


def test_a_key_must_match_whole(api: httpx.Client, store: Store) -> None:
    """One changed character, a cut end or a longer one opens nothing."""
    key = make_key(store)
    flipped = key[:-1] + ("A" if key[-1] != "A" else "B")
    for wrong in (flipped, key[:-1], f"{key}A", f" {key} x", key.upper()):
        assert api.get("/v1/jobs", headers={"Authorization": f"Bearer {wrong}"}).status_code == 401
    assert api.get("/v1/jobs", headers={"Authorization": f"Bearer {key}"}).status_code == 200


def test_redis_has_no_key_and_no_token(
    gateway: GatewayThread, client: Client, store: Store
) -> None:
    """What is stored lets nobody in: digests only."""
    key = make_key(store)
    job = client.submit(MESSAGES).id
    with http(gateway.url, key) as api:
        token = api.post(f"/v1/jobs/{job}/token").json()["token"]
    stored = str([store.redis.dump(name) for name in store.redis.scan_iter()]) + str(
        list(store.redis.scan_iter())
    )
    assert access.id_of(key) in stored
    assert key[-20:] not in stored
    assert token[-20:] not in stored


def test_keys_are_made_listed_and_revoked(api: httpx.Client, settings: Settings) -> None:
    """The command shows a key once; revoked or expired, it is 401 at once, and stays listed."""
    url = settings.server_url
    made = run_cli(url, "keys", "create", "--tenant", "blue", "--scopes", "read", "--note", "app")
    key = made.stdout.strip()
    headers = {"Authorization": f"Bearer {key}"}
    assert api.get("/v1/jobs", headers=headers).status_code == 200
    assert api.post("/v1/jobs", json=BODY, headers=headers).status_code == 403
    assert run_cli(url, "keys", "revoke", access.id_of(key)).returncode == 0
    assert api.get("/v1/jobs", headers=headers).status_code == 401
    listed = run_cli(url, "keys", "list").stdout
    assert key not in listed
    for shown in (access.id_of(key), "blue", "read", "revoked", "app"):
        assert shown in listed
    assert api.get("/v1/jobs").status_code == 401  # the door that had a lock once stays locked


def test_the_first_key_says_that_it_locks_the_gateway(api: httpx.Client, cli: CommandLine) -> None:
    """Whoever has none is refused from then on; later keys change nothing for others."""
    assert api.get("/v1/jobs").status_code == 200
    first, second = cli("keys", "create"), cli("keys", "create")
    assert api.get("/v1/jobs").status_code == 401
    assert "gateways answer nobody without one" in first.err
    assert "nobody" not in second.err


def test_a_key_expires_by_the_servers_clock(api: httpx.Client, store: Store) -> None:
    """After its time it is 401."""
    key = access.new_key()
    store.run(access.grant(key, "default", [Scope.READ], 3600))
    headers = {"Authorization": f"Bearer {key}"}
    assert api.get("/v1/jobs", headers=headers).status_code == 200
    store.redis.hset(f"penstock:apikey:{access.id_of(key)}", "expires_at", "1.000000")
    assert api.get("/v1/jobs", headers=headers).status_code == 401


def test_a_key_may_ask_so_often(settings: Settings, store: Store) -> None:
    """Over its pace it is 429 with Retry-After, at every gateway; its id alone spends nothing."""
    slow = settings.model_copy(update={"gateway_requests_per_minute": 1})
    key = make_key(store)
    wrong = f"pk_{access.id_of(key)}_{'A' * 43}"
    with GatewayThread(slow) as one, GatewayThread(slow) as two:
        with http(one.url, wrong) as thief:
            assert {thief.get("/v1/jobs").status_code for _ in range(10)} == {401}
        statuses = []
        for number in range(4):
            with http((one, two)[number % 2].url, key) as api:
                statuses.append(api.get("/v1/jobs").status_code)
        with http(two.url, key) as api:
            refused = api.get("/v1/jobs")
    assert statuses == [200, 429, 429, 429]
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 60


def test_a_stream_token_reads_one_jobs_events(
    gateway: GatewayThread, client: Client, store: Store
) -> None:
    """It opens that stream and nothing else, until it expires; others' jobs have none."""
    jobs = [failed_job(client, "blue"), failed_job(client, "blue"), failed_job(client, "red")]
    with http(gateway.url, make_key(store, "blue", [Scope.READ])) as api:
        lent = api.post(f"/v1/jobs/{jobs[0]}/token", json={"ttl": 60}).json()
        assert api.post(f"/v1/jobs/{jobs[2]}/token").status_code == 404
        assert api.post(f"/v1/jobs/{jobs[0]}/token", json={"ttl": 0}).status_code == 400
    digest = access._digest(lent["token"])
    assert 0 < store.redis.ttl(f"penstock:streamtoken:{digest}") <= lent["expires_in"] == 60
    with http(gateway.url) as browser:
        read = browser.get(lent["events"])
        assert (read.status_code, read.text.count("event: failed")) == (200, 1)
        query = {"token": lent["token"]}
        for path in (f"/{jobs[0]}", f"/{jobs[1]}/events", f"/{jobs[2]}/events", ""):
            assert browser.get(f"/v1/jobs{path}", params=query).status_code == 401
        assert browser.post(f"/v1/jobs/{jobs[0]}/cancel", params=query).status_code == 401
        store.redis.delete(f"penstock:streamtoken:{digest}")
        gone = browser.get(lent["events"])
        assert (gone.status_code, gone.json()["error"]["code"]) == (401, "invalid_token")


def test_a_lent_job_that_is_erased_is_gone(client: Client, store: Store) -> None:
    """A token outlives nothing: it names a job, and holds no right of its own."""
    job = failed_job(client, "blue")
    token = access.new_token()
    store.run(access.lend(token, Loan("blue", job), 60))
    client.erase(job)
    assert store.run(access.redeem(token)) == Loan("blue", job)
    assert client.get_many([job]) == [None]


def test_without_a_key_it_listens_on_loopback_only(settings: Settings, store: Store) -> None:
    """Another --host is refused in one line until there is a key; SIGTERM ends it with 0."""
    refused = run_cli(settings.server_url, "gateway", "--host", "0.0.0.0", "--port", "0")  # noqa: S104
    assert refused.returncode == 2
    assert "there is no API key yet" in refused.stderr
    assert "Traceback" not in refused.stderr
    make_key(store)
    opened = GatewayProcess(settings.server_url, "--host", "0.0.0.0")  # noqa: S104
    try:
        opened.until_ready()
        with http(opened.url) as api:
            assert api.get("/v1/jobs").status_code == 401
        opened.process.terminate()
        assert opened.process.wait(20) == 0
        assert "gateway_stopped" in opened.log
    finally:
        opened.kill()


def test_a_taken_port_is_one_line(settings: Settings, gateway: GatewayThread) -> None:
    """Status 2, and what to do."""
    refused = run_cli(settings.server_url, "gateway", "--port", str(gateway.address[1]))
    assert (refused.returncode, "Choose another with --port" in refused.stderr) == (2, True)
    taken = str(gateway.address[1])
    refused = run_cli(settings.server_url, "gateway", "--port", "0", "--metrics-port", taken)
    assert refused.stderr.splitlines()[-1].endswith(
        f"cannot serve metrics on 127.0.0.1 port {taken}: Address already in use. "
        "Choose others with PENSTOCK_METRICS_HOST and --metrics-port"
    )


def test_an_open_gateway_takes_any_key(api: httpx.Client) -> None:
    """Clients that insist on sending some key work on one's own machine."""
    assert api.get("/v1/jobs", headers={"Authorization": "Bearer x"}).status_code == 200


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["create", "--scopes", "all"], "there are submit, read, cancel, admin"),
        (["create", "--tenant", "a b"], "a tenant's name"),
        (["create", "--expires", "soon"], "is not a duration"),
    ],
)
def test_a_key_that_makes_no_sense_is_not_made(arguments: list[str], word: str) -> None:
    """Wrong scopes, tenants and times are refused before anything is stored."""
    result = CliRunner().invoke(keys, arguments)
    assert result.exit_code == 2
    assert word in result.output


def test_an_unknown_key_cannot_be_revoked(store: Store) -> None:
    """It says so, and how to see which there are."""
    with pytest.raises(KeyNotFound, match="there is no key 0; `penstock keys list`"):
        store.run(access.revoke("0"))
