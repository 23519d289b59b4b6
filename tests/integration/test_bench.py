"""The benchmarks run: small, and only what is fast."""

from __future__ import annotations

from types import ModuleType

import pytest

from ops.bench import (
    adaptive,
    admission,
    enqueue,
    fairness,
    gateway,
    hooks,
    limits,
    machine,
    scaling,
    tracing,
)
from ops.bench.report import Report
from ops.bench.stand import Stand
from penstock import keys

pytestmark = pytest.mark.chaos


def test_enqueue_runs_quickly_and_makes_a_page() -> None:
    """The enqueue benchmark in quick mode measures every line, and the report shows them."""
    with Stand() as stand:
        report = Report.begin("test", True, machine.describe(stand))
        report.results += enqueue.run(stand, True)
    page = report.markdown({"enqueue": (enqueue.TITLE, enqueue.NOT_SHOWN)})
    assert "million additions a second of CPU" in page
    assert [result.contender for result in report.results] == [
        "penstock, submit_many",
        "penstock, async submit_many",
        "penstock, submit",
        "celery, delay()",
    ]
    assert all(float(result.figures["jobs/s"]) > 0 for result in report.results)
    assert all(result.contender in page for result in report.results)


def test_admission_is_measured_in_the_server() -> None:
    """The admission benchmark in quick mode has figures of every script and of memory."""
    with Stand() as stand:
        results = admission.run(stand, True)
    *lines, crowd = results
    assert len(lines) == 3
    for column in (
        admission.UNDISTURBED,
        admission.ONE,
        "claim, µs",
        "finish, µs",
        "enqueue, µs/job",
        "bytes/job",
    ):
        assert all(float(line.figures[column]) > 0 for line in lines)
    assert float(crowd.figures["longest admit, ms"]) > 0


def test_readers_of_a_gateway_miss_nothing() -> None:
    """The gateway benchmark in quick mode: every reader comes to the end, stalled ones too."""
    with Stand() as stand:
        results = gateway.run(stand, True)
    assert [result.figures["stalled"] for result in results] == [0, gateway.QUICK.stalled]
    for result in results:
        assert result.figures["missing"] == 0
        assert result.figures["ended"] == gateway.QUICK.readers
    brisk, stalled = (result.figures["fell behind"] for result in results)
    assert (brisk, stalled) == (0, gateway.QUICK.stalled)


def test_webhooks_are_taken_and_known_again() -> None:
    """The benchmark of hooks in quick mode: each delivery is a job, and the same one when again."""
    with Stand() as stand:
        results = hooks.run(stand, True)
        jobs = stand.redis.zcard(keys.jobs("default"))
    assert [result.contender for result in results] == list(hooks.KINDS)
    assert all(float(result.figures["gateway CPU, ms"]) > 0 for result in results)
    assert jobs == 2 * (hooks.QUICK.requests + 1)


LONG = [limits, adaptive, fairness, scaling, tracing]


@pytest.mark.chaos
@pytest.mark.timeout(300)
@pytest.mark.parametrize("benchmark", LONG, ids=lambda each: each.__name__)
def test_the_long_benchmarks_run(benchmark: ModuleType) -> None:
    """In quick mode: half a minute each, so not in every run of the tests."""
    with Stand() as stand:
        assert all(result.figures for result in benchmark.run(stand, True))
