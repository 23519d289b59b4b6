"""Whatever the upstream does, a job ends as it must: every shape and every fault, end to end."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from ops.simulator import predict
from ops.simulator.answer import Answer, assemble
from penstock import AsyncClient, JobRecord, JobState
from penstock.events import Event
from tests.acceptance import upstream_cases as cases
from tests.acceptance.fleet import Fleet
from tests.acceptance.ledger import Ledger, last_attempt
from tests.acceptance.upstream_cases import Case

ROUTES = {
    "default": {
        "concurrency": 500,
        "timeouts": {"connect": 5, "first_token": 2, "between_tokens": 2, "total": 60},
    }
}
CUTS = ("reset", "close", "eof")


async def outcomes(given: list[Case], timeout: float) -> dict[str, tuple[JobRecord, list[Event]]]:
    """Run all cases at once on one worker; each one's record and feed, by name."""
    async with (
        Fleet(settings={"routes": json.dumps(ROUTES)}) as fleet,
        AsyncClient(fleet.settings) as client,
    ):
        await fleet.start_workers(1, {})
        jobs = await client.submit_many({**case.request, **case.options} for case in given)
        ledger = Ledger(client, 0)
        ledger.acknowledged = {job.id: index for index, job in enumerate(jobs)}
        ledger.bodies = dict(enumerate(case.request for case in given))
        assert await ledger.settle(timeout), "not every job has ended"
        await ledger.audit()
        records = [await client.get(job.id) for job in jobs]
    feeds = [ledger.feeds[job.id] for job in jobs]
    names = [case.name for case in given]
    return dict(zip(names, zip(records, feeds, strict=True), strict=True))


def complaint(case: Case, record: JobRecord, feed: list[Event]) -> str | None:
    """What is wrong with how a job ended, None if nothing is."""
    if case.attempts is not None and record.attempt != case.attempts:
        return f"took {record.attempt} attempts, not {case.attempts}"
    if case.failure is not None:
        return _complain_of_failure(case, record)
    if record.state != JobState.COMPLETED or record.outcome is None:
        return f"is {record.state}: {record.outcome}"
    expected = predict(case.request)
    return _first_difference(
        {**_said(record.outcome["choices"]), **_usage(record.outcome, case)},
        {**_predicted(expected), **_predicted_usage(expected, case)},
    ) or _first_difference(_streamed(feed, len(expected.choices)), _texts(expected))


def _complain_of_failure(case: Case, record: JobRecord) -> str | None:
    error = (record.outcome or {}).get("error", {})
    if record.state != JobState.FAILED or case.failure not in error.get("message", ""):
        return f"is {record.state}: {record.outcome}"
    return None if error["status"] == case.status else f"names status {error['status']}"


def _first_difference(got: dict[str, Any], expected: dict[str, Any]) -> str | None:
    for name in {**expected, **got}:
        if got.get(name) != expected.get(name):
            return f"{name} is {got.get(name)!r}, not {expected.get(name)!r}"
    return None


def _said(choices: Iterable[dict[str, Any]]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for choice in choices:
        place = choice["index"]
        said[f"{place} finish_reason"] = choice["finish_reason"]
        said |= {f"{place} {name}": value for name, value in choice["message"].items()}
    return said


def _predicted(answer: Answer) -> dict[str, Any]:
    whole = [
        {"index": c.index, "finish_reason": c.finish_reason, "message": c.message()}
        for c in answer.choices
    ]
    return _said(whole) | {"id": answer.id, "model": answer.model}


def _usage(completion: dict[str, Any], case: Case) -> dict[str, Any]:
    """The usage; where none came its numbers are guesses, and only that must be said."""
    usage = completion["usage"]
    top = {name: completion[name] for name in ("id", "model")}
    if case.script.get("usage") == "never":
        return {**top, "estimated": usage["estimated"]}
    return {**top, **{name: value for name, value in usage.items() if name != "estimated_cost"},
            "cost": round(usage["estimated_cost"], 9)}  # fmt: skip


def _predicted_usage(answer: Answer, case: Case) -> dict[str, Any]:
    if case.script.get("usage") == "never":
        return {"estimated": True}
    priced = predict({**case.request, "simulate": {**case.script, "cost": True}}).usage
    counts = {name: value for name, value in priced.items() if name != "estimated_cost"}
    return {**counts, "cost": round(priced["estimated_cost"], 9)}


def _streamed(feed: list[Event], choices: int) -> dict[str, Any]:
    """What a reader of the deltas of the last attempt puts together."""
    deltas = [c for e in last_attempt(feed) if e.type == "delta" for c in e.data["choices"]]
    texts: dict[str, Any] = {}
    for place in range(choices):
        own = [choice["delta"] for choice in deltas if choice["index"] == place]
        for name in ("content", "reasoning_content", "refusal"):
            texts[f"{place} {name}"] = "".join(delta.get(name) or "" for delta in own)
        fragments = (part for delta in own for part in delta.get("tool_calls") or [])
        texts[f"{place} tool_calls"] = assemble(fragments)
    return texts


def _texts(answer: Answer) -> dict[str, Any]:
    return {
        f"{c.index} {name}": value
        for c in answer.choices
        for name, value in (
            ("content", c.content or ""), ("reasoning_content", c.reasoning or ""),
            ("refusal", c.refusal or ""), ("tool_calls", c.tool_calls),
        )
    }  # fmt: skip


async def check(given: list[Case], timeout: float, *, verbose: bool = True) -> None:
    """Run the cases, print the matrix, and fail with every complaint."""
    found = await outcomes(given, timeout)
    complaints = {case.name: complaint(case, *found[case.name]) for case in given}
    kinds = Counter((str(r.state), r.attempt) for r, _ in found.values())
    lines = [
        f"  {name:<40} {found[name][0].state} in attempt {found[name][0].attempt}"
        f"{f': WRONG, {wrong}' if wrong else ''}"
        for name, wrong in complaints.items()
        if verbose or wrong
    ]
    summary = ", ".join(f"{n} {state} in attempt {a}" for (state, a), n in sorted(kinds.items()))
    print("\n".join(["upstream matrix:", *lines, f"  {summary}"]))  # noqa: T201 - the matrix
    assert not any(complaints.values()), "\n".join(lines)


@pytest.mark.timeout(100)
async def test_every_shape_and_every_fault() -> None:
    """Text, reasoning, tool calls, finish_reason and usage are exact, and failures are honest."""
    await check([*cases.shapes(), *cases.survivable(), *cases.fatal()], timeout=60)


async def test_an_answer_cut_anywhere_is_no_answer() -> None:
    """A short answer that breaks off, at a sample of its bytes, is asked for again."""
    await check([c for kind in CUTS for c in cases.cut_anywhere(kind, 11)], 60, verbose=False)


@pytest.mark.chaos
@pytest.mark.timeout(600)
async def test_an_answer_cut_at_every_byte_is_no_answer() -> None:
    """The same at every byte, by reset, close and a clean end."""
    await check([c for kind in CUTS for c in cases.cut_anywhere(kind, 1)], 300, verbose=False)


@pytest.mark.chaos
@pytest.mark.timeout(300)
async def test_an_endless_answer_is_no_answer() -> None:
    """An answer of more than 64 MiB is given up, and asked for again."""
    await check([cases.struck("flood", {"kind": "oversized_response", "event": 5})], timeout=120)
