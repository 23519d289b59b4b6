"""The delays between a child's lives."""

from __future__ import annotations

from ops.local.backoff import FIRST_DELAY, HEALTHY_LIFE, LONGEST_DELAY, Backoff


def test_delays_double_up_to_the_longest() -> None:
    """A child that keeps ending at once is started less and less often, but never given up."""
    backoff = Backoff()
    assert [backoff.after(0) for _ in range(7)] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, LONGEST_DELAY]


def test_a_healthy_life_starts_the_count_anew() -> None:
    """A crash after a good while is followed by a quick restart, and the doubling begins again."""
    backoff = Backoff()
    for _ in range(5):
        backoff.after(0)
    assert backoff.after(HEALTHY_LIFE) == FIRST_DELAY
    assert backoff.after(0) == 2 * FIRST_DELAY
