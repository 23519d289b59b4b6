"""A duration as people write it."""

from __future__ import annotations

import re

import click

UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}

_FORM = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*([smhd]?)", re.ASCII)


class Duration(click.ParamType[float]):
    """Seconds, or a number with its unit: 90, 1.5, 30s, 5m, 2h, 1d."""

    name = "duration"

    def convert(
        self, value: str | float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The duration in seconds."""
        if isinstance(value, int | float):
            return float(value)
        match = _FORM.fullmatch(value.strip().lower())
        if match is None:
            self.fail(f"{value!r} is not a duration: write 90, 30s, 5m, 2h or 1d.", param, ctx)
        return float(match[1]) * UNITS[match[2]]


def spoken(seconds: float) -> str:
    """A duration for people: 0.3 s, 12 s, 4 min 5 s, 2 h 3 min, 1 d 4 h."""
    if seconds < 9.95:
        return f"{max(seconds, 0):.1f} s"
    for size, name, rest, rest_name in _SCALES:
        if seconds >= size:
            whole, left = divmod(int(seconds), size)
            return f"{whole} {name} {left // rest} {rest_name}"
    return f"{seconds:.0f} s"


_SCALES = ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s"))
