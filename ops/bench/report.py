"""A run as Markdown for people and as JSON with everything measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from ops.bench.result import Result
from ops.bench.target import verdicts

RESULTS = Path(__file__).parent / "results"


class Report(msgspec.Struct):
    """One run.

    Attributes:
        at: when it began.
        command: how it was started.
        quick: sizes were small: no figure means anything, and no target is looked at.
        machine: what it ran on.
        results: in the order they were measured.
    """

    at: datetime
    command: str
    quick: bool
    machine: dict[str, str]
    results: list[Result]

    @classmethod
    def begin(cls, command: str, quick: bool, machine: dict[str, str]) -> Report:
        """A report without results."""
        return cls(datetime.now(UTC).replace(microsecond=0), command, quick, machine, [])

    def markdown(self, titles: dict[str, tuple[str, str]]) -> str:
        """The whole page; `titles` gives a benchmark's title and what it does not show."""
        page = [f"# Benchmarks, {self.at:%Y-%m-%d %H:%M} UTC", "", f"`{self.command}`", ""]
        page += [f"- {name}: {value}" for name, value in self.machine.items()]
        if kept := [] if self.quick else verdicts(self.results):
            page += ["", "## Targets", ""]
            page += table(["target", "measured", "met"], [_row(verdict) for verdict in kept])
        for name in dict.fromkeys(result.benchmark for result in self.results):
            title, note = titles[name]
            page += ["", f"## {title}", "", *self.table(name), "", note]
        return "\n".join(page) + "\n"

    def table(self, benchmark: str) -> list[str]:
        """One benchmark's lines, each column some line has."""
        lines = [result for result in self.results if result.benchmark == benchmark]
        columns = list(dict.fromkeys(column for line in lines for column in line.figures))
        rows = [[line.contender, *(line.figures.get(c, "") for c in columns)] for line in lines]
        return table(["", *columns], rows)

    def write(self, page: str, directory: Path = RESULTS) -> Path:
        """Keep both forms; the path of the page."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{self.at:%Y-%m-%d-%H%M}.md"
        path.write_text(page)
        raw = msgspec.json.format(msgspec.json.encode(self), indent=1)
        path.with_suffix(".json").write_bytes(raw + b"\n")
        return path


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A Markdown table, its columns lined up."""
    lines = [[str(cell) for cell in row] for row in (columns, *rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    padded = [
        [cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in pairs]
        for pairs in (enumerate(zip(line, widths, strict=True)) for line in lines)
    ]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return [f"| {' | '.join(line)} |" for line in (padded[0], rule, *padded[1:])]


def _row(verdict: tuple[str, str, bool]) -> tuple[str, str, str]:
    target, figure, met = verdict
    return target, figure, "yes" if met else "NO"
