"""What of a response has been said follows from the time, and no reader is told more."""

from __future__ import annotations

import msgspec
import pytest

from ops.simulator import Fault, Script, predict
from ops.simulator.following import COMMENT, Following
from ops.simulator.pace import Pace
from ops.simulator.telling import Telling, tell
from penstock.job import JobSpec
from penstock.state import JobState

BEGAN = 100.0
QUESTION = {"messages": [{"role": "user", "content": "hello"}], "model": "m"}


def telling(script: Script, fault: Fault | None = None) -> Telling:
    """Begun at BEGAN."""
    pace = Pace().for_script(script, 0)
    answer = predict(QUESTION, script=script)
    return tell(JobSpec.build(QUESTION), answer, script, fault, pace, BEGAN)


PACED = Script(tokens=4, ttft=1.0, gap=0.5)


@pytest.mark.parametrize(
    ("at", "told"), [(0.0, 2), (0.9, 2), (1.0, 3), (1.5, 4), (2.4, 5), (2.5, 7), (99.0, 7)]
)
def test_events_are_due_in_the_rhythm_of_the_script(at: float, told: int) -> None:
    """The first two at once, then the tokens, and the end with the last of them."""
    assert telling(PACED).told(BEGAN + at) == told


def test_a_record_says_how_far_it_is() -> None:
    """Waiting, running, over."""
    given = telling(PACED)
    states = [given.record(told).state for told in (1, 2, 6, 7)]
    assert states == [JobState.QUEUED, JobState.RUNNING, JobState.RUNNING, JobState.COMPLETED]


def test_a_cancelled_one_ends_with_what_it_said() -> None:
    """And again changes nothing, nor does it change one that is over."""
    given = telling(PACED)
    given.cancel(BEGAN + 1.6)
    assert (len(given), given.ends, given.tokens) == (5, BEGAN + 1.6, 2)
    ended = given.record(5)
    assert ended.state == JobState.CANCELLED
    assert ended.outcome is not None
    (choice,) = ended.outcome["completion"]["choices"]
    (whole,) = predict(QUESTION, script=PACED).choices
    assert choice["message"]["content"] == "".join(str(p.value) for p in whole.pieces[:2])
    assert choice["finish_reason"] is None
    given.cancel(BEGAN + 50)
    assert given.record(5) == ended
    over = telling(PACED)
    over.cancel(BEGAN + 50)
    assert over.record(7).state == JobState.COMPLETED


def test_one_cancelled_before_its_first_word_has_no_answer() -> None:
    """None at all, rather than an empty one."""
    given = telling(PACED)
    given.cancel(BEGAN + 0.5)
    assert (given.record(3).outcome or {})["completion"] is None


def pulled(following: Following) -> list[tuple[float, list[int]]]:
    """When each part is due, as its sender reckons, and the numbers of the events in it."""
    parts, due = [], BEGAN + following.ttft
    for part in following:
        numbers = [
            msgspec.json.decode(frame.partition(b"data: ")[2])["sequence_number"]
            for frame in part.split(b"\n\n")
            if frame.strip(b":\n")
        ]
        assert numbers or part == COMMENT
        parts.append((due, numbers))
        if following.said:
            break
        due += following.next_gap()
    return parts


@pytest.mark.parametrize("after", [-1, 2, 5, 6, 7, 50])
def test_no_reader_is_told_what_is_not_said_yet(after: int) -> None:
    """Whatever number it asks to go on behind, each event comes when it is due, not before."""
    due: dict[int, float] = {}
    for moment, numbers in pulled(Following(telling(PACED), -1, BEGAN)):
        due |= dict.fromkeys(numbers, moment)
    assert len(set(due.values())) == 5
    for moment, numbers in pulled(Following(telling(PACED), after, BEGAN)):
        assert all(due[number] == moment for number in numbers if number > after)
        assert all(number > after for number in numbers)


def test_a_late_reader_catches_up_at_once() -> None:
    """What is said already needs no waiting, and what is over none at all."""
    given = telling(PACED)
    late = Following(given, -1, BEGAN + 1.6)
    assert not late.free
    gaps = []
    for _ in late:
        if late.said:
            break
        gaps.append(late.next_gap())
    assert gaps == pytest.approx([0, 0, 0, 0.4, 0.5])
    assert Following(given, -1, BEGAN + 3).free


@pytest.mark.parametrize(
    ("fault", "tokens", "ends"),
    [
        (Fault(kind="status", status=404), 0, 0.0),
        (Fault(kind="reset", event=2), 2, 1.5),
        (Fault(kind="finish", event=2), 2, 1.5),
        (Fault(kind="stall", event=2), 2, 86_401.5),
    ],
)
def test_a_fault_fails_it_where_it_strikes(fault: Fault, tokens: int, ends: float) -> None:
    """After so many tokens, at that time."""
    given = telling(PACED, fault)
    assert (given.tokens, given.ends - BEGAN) == (tokens, ends)
    assert given.record(len(given)).state == JobState.FAILED
