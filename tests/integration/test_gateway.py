"""The native API over real HTTP, with a real worker where an answer is needed."""

from __future__ import annotations

from tests.gateways import GatewayThread, http
from tests.processes import Started

BODY = {"messages": [{"role": "user", "content": "Hello!"}]}


def test_a_job_goes_in_and_its_events_come_out(
    gateway: GatewayThread, start_worker: Started
) -> None:
    """POST, then the events as they come, then the record with its answer."""
    start_worker()
    with http(gateway.url) as client:
        accepted = client.post("/v1/jobs", json=BODY)
        assert accepted.status_code == 202
        links = accepted.json()["links"]
        assert accepted.headers["location"] == links["self"]
        with client.stream("GET", links["events"]) as stream:
            kinds = [line for line in stream.iter_lines() if line.startswith("event: ")]
        assert kinds[0] == "event: queued"
        assert kinds[-1] == "event: completed"
        record = client.get(links["self"]).json()
    assert record["state"] == "completed"
    assert record["outcome"]["choices"][0]["message"]["content"]
