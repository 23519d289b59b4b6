"""The table of states."""

from __future__ import annotations

from penstock.events import EventType
from penstock.state import TERMINAL, TRANSITIONS, JobState


def test_every_state_has_a_row_and_every_way_leads_somewhere() -> None:
    """The table is complete, and every living job can reach an end."""
    assert set(TRANSITIONS) == set(JobState)
    for state in JobState:
        seen, frontier = set(), {state}
        while frontier:
            seen |= frontier
            frontier = {after for s in frontier for after in TRANSITIONS[s]} - seen
        assert seen & TERMINAL


def test_only_a_failed_job_comes_back() -> None:
    """An outcome is final, but for a redrive by hand."""
    assert {s for s in TERMINAL if TRANSITIONS[s]} == {JobState.FAILED}


def test_every_outcome_is_an_event() -> None:
    """A terminal state is announced by the event of the same name."""
    assert {str(kind) for kind in EventType} >= TERMINAL
