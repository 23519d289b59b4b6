"""How the benchmarks of the gate read their counters."""

from __future__ import annotations

import pytest

from ops.bench.adaptive import back
from ops.bench.admission import ENOUGH, PACE, PATIENCE, UNDISTURBED, is_enough
from ops.bench.fairness import overtaken
from ops.bench.result import Result
from ops.bench.series import PERIOD, Look, per_second, pieces
from ops.bench.target import verdicts


def looks(*in_flight: float) -> list[Look]:
    """A series in which so many requests were being answered in each period."""
    seconds, found = 0.0, [Look(0, 0, 0, 0, 0, 0)]
    for number, each in enumerate(in_flight, 1):
        seconds += each * PERIOD
        found.append(Look(number * PERIOD, seconds, 0, 0, 0, 0))
    return found


def test_the_growth_of_seconds_is_the_mean_of_requests_at_once() -> None:
    """Ten requests for a second and twenty for another are fifteen at once."""
    assert per_second(looks(10, 10, 20, 20), "seconds") == pytest.approx(15)


def test_pieces_meet_at_their_ends() -> None:
    """Every second of a series is in one piece, and a rest that is too short in none."""
    parts = pieces(looks(*range(9)), 2.0)
    assert [(part[0].at, part[-1].at) for part in parts] == [(0, 2), (2, 4)]


@pytest.mark.parametrize(
    ("in_flight", "seconds"),
    [
        ([200] * 6 + [66] * 40, 3),  # what ran beyond the new limit has ended
        ([66] * 6 + [200] * 40, None),  # it never comes down
        ([20] * 20 + [66] * 40, 9),  # nine seconds of 66 outweigh one of 20
        ([20] * 60, None),
        ([20] * 60 + [66] * 4, None),  # too late to say
    ],
)
def test_use_is_back_when_it_stays(in_flight: list[float], seconds: float | None) -> None:
    """It counts from the moment from which ten seconds have enough of it, and not too much."""
    assert back(looks(*in_flight), 66) == seconds


def test_whoever_starts_out_of_order_was_overtaken() -> None:
    """The first to come that starts last was overtaken by all others."""
    assert max(overtaken([(0, 9), (1, 2), (2, 3), (3, 4)])) == 3
    assert max(overtaken([(0, 1), (1, 2), (2, 3)])) == 0


@pytest.mark.parametrize(("after", "met"), [(12.5, True), (31, False), ("never", False)])
def test_what_never_comes_back_misses_its_target(after: float | str, met: bool) -> None:
    """A figure that is no number counts as missed, and as nothing worse."""
    line = Result("adaptive", "429 with Retry-After", {"low: back after, s": after})
    (verdict,) = verdicts([line])
    assert verdict.met is met


@pytest.mark.parametrize(("many", "met"), [(60, True), (45, True), (61, False), (39, False)])
def test_admission_is_to_be_flat(many: float, met: bool) -> None:
    """A million waiting jobs may make an admission a fifth dearer or cheaper than a thousand."""
    lines = [
        Result("admission", "1 tenant, 1000 waiting", {UNDISTURBED: 50}),
        Result("admission", "1 tenant, 1000000 waiting", {UNDISTURBED: many}),
    ]
    assert [verdict.met for verdict in verdicts(lines)] == [True, met]


def test_rounds_go_on_until_each_line_was_undisturbed_often_enough() -> None:
    """A line that a neighbour slows gets more rounds than asked for, but not for ever."""
    quiet, slowed = {PACE: 550.0}, {PACE: 800.0}
    rounds = [[{PACE: 500.0}, quiet]] * (ENOUGH - 1) + [[quiet, slowed]]
    assert not is_enough(rounds, len(rounds))
    assert is_enough([*rounds, [slowed, quiet]], len(rounds))
    assert is_enough(rounds * PATIENCE, len(rounds))
    assert is_enough([[quiet, slowed]] * PATIENCE, 1)
