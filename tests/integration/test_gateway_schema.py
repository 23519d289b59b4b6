"""The gateway does what its OpenAPI document says, whatever is sent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from penstock import Settings
from penstock.store import Store
from producers.gateway.openai.fields import HEADERS
from tests.gateways import GatewayThread, http, make_key
from tests.processes import Started

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - the specification's example

CONFIGURATION = """
[generation]
# Requests have headers that no document names; test_gateway.py tries what else is unknown.
allow-extra-parameters = false

[checks.positive_data_acceptance]
# A valid request can still meet a key that is another request's.
expected-statuses = ["2xx", "3xx", "401", "403", "404", "409", "422", "429", "5xx"]

[[operations]]
# An input of nothing but reasoning says nothing; a schema cannot say so.
include-name = "POST /v1/responses"
[operations.checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", "400", "401", "403", "404", "409", "422", "429", "5xx"]

[[operations]]
# starting_after goes with stream=true only; parameters cannot say so of each other.
include-name = "GET /v1/responses/{id}"
[operations.checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", "400", "401", "403", "404", "409", "422", "429", "5xx"]
"""


@pytest.mark.chaos  # 20 s each
@pytest.mark.parametrize(
    ("phases", "sign"),
    [
        ("examples,coverage", "Tested: 16"),
        ("fuzzing", "Tested: 16"),
        ("stateful", "✅ Stateful"),
    ],
)
def test_whatever_is_sent_the_answer_is_documented(
    settings: Settings,
    store: Store,
    start_worker: Started,
    state_dir: Path,
    phases: str,
    sign: str,
) -> None:
    """schemathesis, all checks: no 500, no undocumented status, bodies as described, keys kept."""
    start_worker(PENSTOCK_WEBHOOK_CONCURRENCY="0")  # whatever hosts come to schemathesis's mind
    free = settings.model_copy(update={"gateway_requests_per_minute": 10**6})
    (state_dir / "schemathesis.toml").write_text(CONFIGURATION)
    with GatewayThread(free) as gateway:
        done = subprocess.run(
            [Path(sys.executable).with_name("schemathesis"), "run",
             f"{gateway.url}/v1/openapi.json", "--no-color", "--max-examples", "20",
             "--phases", phases, "--generation-deterministic",
             "--request-timeout", "30",
             "--header", f"Authorization: Bearer {make_key(store)}"],
            env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.integration.schemathesis_hooks",
                 "PYTHONPATH": str(Path(__file__).parents[2])},
            cwd=state_dir, capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert sign in done.stdout


def test_the_document_has_the_headers_of_a_request_for_an_answer(gateway: GatewayThread) -> None:
    """Those that it takes, but for two that would be waited for, and a webhook's URL."""
    with http(gateway.url) as api:
        paths = api.get("/v1/openapi.json").json()["paths"]
    for path in ("/v1/chat/completions", "/v1/responses"):
        parameters = paths[path]["post"]["parameters"]
        told = {p["name"] for p in parameters if p["in"] == "header"}
        left_out = {f"x-penstock-{name}" for name in ("delay", "deadline", "webhook")}
        assert told == {*HEADERS, "Idempotency-Key"} - left_out
        assert all(parameter["description"] for parameter in parameters)


ENDPOINT = {"url": "https://example.com:8443/a?b=@c", "events": ["started"], "secret": SECRET}


@pytest.mark.parametrize(
    ("webhook", "right"),
    [
        ("https://example.com/answers", True),
        (ENDPOINT, True),
        ({**ENDPOINT, "secret": f"{SECRET} {SECRET}"}, True),
        (None, True),
        ("example.com", False),
        ("https://me:secret@example.com/", False),
        ({**ENDPOINT, "events": ["queued"]}, False),
        ({**ENDPOINT, "events": []}, False),
        ({**ENDPOINT, "secret": "whsec_short"}, False),
        ({**ENDPOINT, "nothing": 1}, False),
        ({"events": ["started"]}, False),
    ],
)
def test_the_document_knows_webhooks(gateway: GatewayThread, webhook: Any, right: bool) -> None:
    """What its schema takes the gateway takes, and what it refuses is refused, on every path."""
    with http(gateway.url) as api:
        document = api.get("/v1/openapi.json").json()
        job = {"messages": [{"role": "user", "content": "Hi"}], "webhook": webhook}
        assert (api.post("/v1/jobs", json=job).status_code == 202) is right
    for path in ("/v1/jobs", "/v1/chat/completions", "/v1/responses"):
        operation = document["paths"][path]["post"]
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        assert schema["properties"].keys() >= {"route", "tenant", "priority", "on_busy", "webhook"}
        validator = jsonschema.Draft202012Validator(schema["properties"]["webhook"])
        assert validator.is_valid(webhook) is right


def test_the_document_shows_every_error_with_an_example(gateway: GatewayThread) -> None:
    """Each operation has a summary, and each of its errors the one body with an example."""
    with http(gateway.url) as api:
        document = api.get("/v1/openapi.json").json()
    operations = [
        operation
        for path in document["paths"].values()
        for operation in path.values()
        if operation["tags"] in (["jobs"], ["hooks"])  # test_gateway_openai.py looks at the others
    ]
    assert len(operations) == 9
    for operation in operations:
        assert operation["summary"]
        by_key = operation["tags"] != ["hooks"]  # whose senders prove themselves by a signature
        assert bool(operation.get("security")) is by_key
        failures = {s: r for s, r in operation["responses"].items() if s >= "400"}
        assert {"400", "401", "408", "429", "431", "500", "503"} <= failures.keys()
        assert ("403" in failures) is by_key
        for response in failures.values():
            content = response["content"]["application/json"]
            assert content["schema"]["$ref"].endswith("/ErrorDocument")
            assert set(content["example"]["error"]) == {"type", "code", "message"}
        successes = [r for s, r in operation["responses"].items() if s < "300" and "content" in r]
        for response in successes:
            assert all("example" in content for content in response["content"].values())
        for status in ("429", "503"):
            assert operation["responses"][status]["headers"].keys() == {"Retry-After"}
