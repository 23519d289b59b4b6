"""Durations as people write and read them."""

from __future__ import annotations

import click
import pytest

from producers.duration import Duration, spoken


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1.5", 1.5), ("30s", 30), ("5m", 300), ("2h", 7200), ("1d", 86_400),
     ("1 H", 3600)],
)  # fmt: skip
def test_a_duration_is_seconds_or_a_number_with_its_unit(text: str, seconds: float) -> None:
    """Each form that the help names is read, whatever its case."""
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "soon", "5 minutes", "-3", "1e3", "nan", "inf", "٣s", "3w"])
def test_anything_else_is_refused_with_the_forms_there_are(text: str) -> None:
    """The error repeats what was given and says what to write."""
    with pytest.raises(click.BadParameter, match="write 90, 30s, 5m, 2h or 1d") as raised:
        Duration().convert(text, None, None)
    assert repr(text) in raised.value.message


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0.0 s"), (0.31, "0.3 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "60 s"),
     (65, "1 min 5 s"), (7380, "2 h 3 min"), (100_800, "1 d 4 h")],
)  # fmt: skip
def test_durations_are_told_in_two_units_at_most(seconds: float, text: str) -> None:
    """A person reads the size at once, whatever its scale."""
    assert spoken(seconds) == text
