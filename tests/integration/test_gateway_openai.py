"""Who may use the OpenAI-compatible API, and the shape of what refuses."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from typing import Any

import httpx
import openai
import pytest

from penstock import Client, JobState, Settings, commands
from penstock.access import Scope
from penstock.store import Store
from producers.gateway.openai import offer
from producers.gateway.openai.routes import router
from tests.acceptance.openai_stand import MODEL
from tests.gateways import GatewayThread, http, make_key
from tests.integration.feeds import MESSAGES, Speaker
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("registered")

QUESTION: dict[str, Any] = {"model": "m", "input": "Hi", "background": True}


@pytest.fixture
def key(store: Store) -> str:
    """A key of the tenant `mine`, for everything but other tenants."""
    return make_key(store, "mine", set(Scope) - {Scope.ADMIN})


@pytest.fixture
def api(gateway: GatewayThread, key: str) -> Iterator[openai.OpenAI]:
    """The library with that key."""
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0) as client:
        yield client


def test_a_job_belongs_to_the_keys_tenant(api: openai.OpenAI, client: Client) -> None:
    """It is listed there, and the response's id is the job's."""
    response = api.responses.create(**QUESTION)
    (record,) = client.list("mine")
    assert response.id.removeprefix("resp_") == record.id.removeprefix("job_")


def test_an_answer_names_its_job_though_the_gateway_stops(
    settings: Settings, client: Client
) -> None:
    """Whoever waits is sent away with 503, and the id of the job that there is by now."""
    body = {"model": "m", "messages": MESSAGES}
    with (
        GatewayThread(settings) as stopping,
        http(stopping.url) as api,
        ThreadPoolExecutor(1) as asker,
    ):
        asking = asker.submit(api.post, "/v1/chat/completions", json=body)
        (record,) = until(lambda: list(client.list()))
        stopping.server.should_exit = True
        answer = asking.result(10)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "gateway_stops")
    assert answer.headers["x-penstock-job"] == record.id


def test_a_route_that_is_published_later_is_found(
    api: openai.OpenAI, client: Client, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its model is listed and leads to it, though the gateway's settings do not have it."""
    monkeypatch.setattr(offer, "PERIOD", 0.0)
    assert api.responses.create(**{**QUESTION, "model": "newcomer"})  # default's to know
    routes = {"later": {"model": "newcomer"}}
    Client(Settings.load(redis_url=client.settings.redis_url, routes=routes)).apply()
    (model,) = [model for model in api.models.list() if model.id == "newcomer"]
    assert model.to_dict()["routes"] == ["later"]
    assert api.models.retrieve("newcomer").id == "newcomer"
    api.responses.create(**{**QUESTION, "model": "newcomer"})
    assert [record.route for record in client.list("mine")] == ["later", "default"]


def test_foreign_and_unknown_responses_look_alike(
    api: openai.OpenAI, gateway: GatewayThread, store: Store
) -> None:
    """Another tenant's key gets the same answer for both, whatever it tries."""
    id_ = api.responses.create(**QUESTION).id
    other = make_key(store, "other", set(Scope) - {Scope.ADMIN})
    with http(gateway.url, other) as client:

        def answers(id_: str) -> list[tuple[int, str]]:
            body = {**QUESTION, "previous_response_id": id_}
            tries = [
                client.get(f"/v1/responses/{id_}"),
                client.get(f"/v1/responses/{id_}?stream=true"),
                client.post(f"/v1/responses/{id_}/cancel"),
                client.post("/v1/responses", json=body),
            ]
            tail = id_.removeprefix("resp_")
            return [(answer.status_code, answer.text.replace(tail, "")) for answer in tries]

        assert answers(id_) == answers("resp_" + "0" * 26)
        assert {status for status, _ in answers(id_)} == {404}
    assert api.responses.retrieve(id_).status == "queued"


def test_who_may_not_is_told_in_the_librarys_classes(
    api: openai.OpenAI, gateway: GatewayThread, store: Store
) -> None:
    """No key, another tenant, a scope that is missing."""
    with pytest.raises(openai.AuthenticationError):
        api.with_options(api_key="pk_no").models.list()
    with pytest.raises(openai.PermissionDeniedError, match="tenant"):
        api.responses.create(**QUESTION, extra_headers={"x-penstock-tenant": "other"})
    id_ = api.responses.create(**QUESTION).id
    submitter = api.with_options(api_key=make_key(store, "mine", [Scope.SUBMIT]))
    for forbidden in (
        lambda: submitter.responses.retrieve(id_),
        lambda: submitter.responses.cancel(id_),
        lambda: submitter.responses.create(**QUESTION, previous_response_id=id_),
    ):
        with pytest.raises(openai.PermissionDeniedError, match="scope"):
            forbidden()


def test_an_admin_names_the_tenant(gateway: GatewayThread, store: Store, client: Client) -> None:
    """In the body or in a header."""
    key = make_key(store, "root", [Scope.ADMIN])
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0) as api:
        api.responses.create(**QUESTION, extra_headers={"x-penstock-tenant": "a"})
        api.responses.create(**QUESTION, extra_body={"tenant": "a"})
    assert len(list(client.list("a"))) == 2


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
@pytest.mark.parametrize(
    ("content", "status"), [(b"{", 400), (b"[]", 400), (b"{}", 400), (b'{"stream":1}', 400)]
)
def test_every_refusal_has_openais_shape(
    gateway: GatewayThread, path: str, content: bytes, status: int
) -> None:
    """An error object with message, type, param and code."""
    headers = {"content-type": "application/json"}
    answer = httpx.post(f"{gateway.url}{path}", content=content, headers=headers)
    assert answer.status_code == status
    assert answer.json()["error"].keys() == {"message", "type", "param", "code"}
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_conversation_needs_an_answer_to_go_on_from(api: openai.OpenAI) -> None:
    """A response that is not completed has none yet."""
    id_ = api.responses.create(**QUESTION).id
    with pytest.raises(openai.BadRequestError, match="its job is admitted"):
        api.responses.create(**QUESTION, previous_response_id=id_)


def test_a_response_is_erased(api: openai.OpenAI, client: Client) -> None:
    """When it has ended: then nothing is left of its job."""
    id_ = api.responses.create(**QUESTION).id
    with pytest.raises(openai.ConflictError):
        api.responses.delete(id_)
    assert api.responses.cancel(id_).status == "cancelled"
    api.responses.delete(id_)
    with pytest.raises(openai.NotFoundError):
        api.responses.retrieve(id_)
    assert list(client.list("mine")) == []


def test_who_may_only_submit_gets_no_answer(api: openai.OpenAI, store: Store) -> None:
    """An answer is read, so waiting for one takes the scope read; the background does not."""
    submitter = api.with_options(api_key=make_key(store, "mine", [Scope.SUBMIT]))
    chat = submitter.chat.completions
    for forbidden in (
        lambda: chat.create(model="m", messages=[{"role": "user", "content": "Hi"}]),
        lambda: submitter.responses.create(**{**QUESTION, "background": False}),
        lambda: submitter.responses.create(**QUESTION, stream=True),
    ):
        with pytest.raises(openai.PermissionDeniedError, match="scope read"):
            forbidden()
    assert submitter.responses.create(**QUESTION).status == "queued"


def test_the_document_describes_the_api(gateway: GatewayThread) -> None:
    """Every operation has a summary, its errors, and no reference leads nowhere."""
    document = httpx.get(f"{gateway.url}/v1/openapi.json").json()
    operations = {
        (method, path): operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if operation["tags"] == ["openai"]
    }
    assert len(operations) == 7
    for operation in operations.values():
        assert operation["summary"]
        assert {"200", "401", "408", "429", "431", "503"} <= operation["responses"].keys()
        error = operation["responses"]["401"]["content"]["application/json"]["schema"]
        assert error == {"$ref": "#/components/schemas/OpenAIError"}
    chat = operations["post", "/v1/chat/completions"]["requestBody"]["content"]
    assert "stream" in chat["application/json"]["schema"]["properties"]
    assert "#/$defs" not in str(document)


NEEDS: dict[tuple[str, str], set[Scope]] = {
    ("POST", "/v1/chat/completions"): {Scope.SUBMIT, Scope.READ},
    ("GET", "/v1/models"): {Scope.READ},
    ("GET", "/v1/models/{id}"): {Scope.READ},
    ("POST", "/v1/responses"): {Scope.SUBMIT},
    ("GET", "/v1/responses/{id}"): {Scope.READ},
    ("POST", "/v1/responses/{id}/cancel"): {Scope.CANCEL},
    ("DELETE", "/v1/responses/{id}"): {Scope.CANCEL},
}
SETS = [frozenset(chosen) for n in range(1, 5) for chosen in combinations(Scope, n)]
NOBODYS = "job_" + "0" * 26


CELLS = [
    (*route, whose)
    for route in NEEDS
    for whose in ("blue", "red", "nobody")
    if whose != "nobody" or "responses/" in route[1]
]


@pytest.mark.parametrize(("method", "path", "whose"), CELLS)
def test_every_route_by_every_scope(
    gateway: GatewayThread, client: Client, method: str, path: str, whose: str
) -> None:
    """Of all sets of scopes exactly those with the route's own or admin pass, on own jobs only."""
    with httpx.Client(base_url=gateway.url, timeout=30) as door:
        for number, scopes in enumerate(SETS):
            job = failed(client, whose, f"k{number}") if whose != "nobody" else NOBODYS
            key = make_key(client.store, "blue", scopes)
            headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": f"k{number}"}
            if whose == "red" and method == "POST":
                headers["x-penstock-tenant"] = "red"
            url = path.replace("{id}", f"resp_{job[4:]}" if "responses" in path else MODEL)
            answer = door.request(method, url, json=body_for(method, path), headers=headers)
            assert answer.status_code in allowed(method, path, whose, scopes), scopes


def failed(client: Client, tenant: str, key: str) -> str:
    """A job that has failed with 402, and can be met again by its key."""
    job = client.submit(MESSAGES, tenant=tenant, idempotency_key=key)
    speaker = Speaker(client, job)
    error = {"type": "status_error", "code": None, "message": "no", "status": 402}
    data = {"error": error, "attempts": 1}
    client.store.run(commands.finish(job.id, speaker.holder, JobState.FAILED, 2, data))
    return job.id


def body_for(method: str, path: str) -> dict[str, Any] | None:
    """What is sent: a chat meets the failed job, a response is another one."""
    if method != "POST" or "{id}" in path:
        return None
    return {"messages": MESSAGES} if "chat" in path else QUESTION


def allowed(method: str, path: str, whose: str, scopes: frozenset[Scope]) -> set[int]:
    """The statuses of one cell; a stranger's job is none."""
    admin = Scope.ADMIN in scopes
    if not (admin or NEEDS[method, path] <= scopes):
        return {403}
    if "models" in path:
        return {200}
    if "{id}" in path:
        return {200} if whose == "blue" or (whose == "red" and admin) else {404}
    if whose == "red" and not admin:
        return {403}
    if "chat" in path:
        return {402}
    return {422}  # the key is another request's


def test_the_matrix_has_every_route() -> None:
    """A route that is added must be added to what it needs too."""
    assert set(NEEDS) == {
        (method, route.path.replace("{id:path}", "{id}"))
        for route in router.routes
        for method in route.methods  # type: ignore[attr-defined]
    }
    assert len(SETS) == 15
