"""Every error is one line on stderr and an exit status; no traceback reaches a user."""

from __future__ import annotations

import click
import pytest

from ops.failure import report
from penstock import errors
from penstock.errors import JobFailed, PenstockError, StoreUnavailable


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (JobFailed("it failed", job="job_1", data={}), 1),
        (errors.JobNotFound("there is none"), 1),
        (errors.StoreFull("it is full"), 1),
        (errors.InvalidRequest("it is wrong"), 2),
        (errors.UnknownRoute("it is unknown"), 2),
        (errors.ConfigurationError("it is misset"), 2),
        (StoreUnavailable("it is away"), 3),
    ],
)
def test_errors_have_their_exit_status(
    error: PenstockError, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """1 the job, 2 what was asked, 3 Redis; the message goes to stderr."""
    assert report(error) == status
    assert capsys.readouterr() == ("", f"penstock: {error}\n")


def test_wrong_usage_points_to_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    """One line with what is wrong and where the right way is written."""
    context = click.Context(click.Command("submit"), info_name="submit")
    assert report(click.UsageError("No such option '--dealy'.", context)) == 2
    assert capsys.readouterr().err == "penstock: No such option '--dealy'. See: submit --help\n"


def test_a_fault_of_ours_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """An unforeseen error shows its kind and the way to its traceback, which is not shown."""
    assert report(KeyError("route")) == 1
    assert capsys.readouterr().err == (
        "penstock: unexpected KeyError: 'route'. Traceback: set PENSTOCK_LOG_LEVEL=debug\n"
    )


def test_a_traceback_is_shown_to_whoever_asks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """PENSTOCK_LOG_LEVEL=debug shows where the error comes from."""
    monkeypatch.setenv("PENSTOCK_LOG_LEVEL", "debug")
    assert report(KeyError("route")) == 1
    assert "KeyError: 'route'" in capsys.readouterr().err
