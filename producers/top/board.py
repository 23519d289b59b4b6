"""The picture: what goes on, in so many lines of so many columns. Does no I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from penstock import Survey
from penstock.client import Overview
from penstock.glance import Active, Failure
from producers.duration import spoken
from producers.routes import cut, short, state_of
from producers.top.words import visible
from producers.whereabouts import clock

FEW = 3
"""Rows that routes, workers, tenants and failures have on a small screen."""

SMALL = 30
"""Lines from which on they may have more."""

WHOLE, TAIL = 30, 8
"""Letters of a job's id: all of them, and those that tell it from others of the same hour."""

WIDE = 120
"""Columns from which on there is room for whole ids."""

TROUBLE = ("no worker", "broken", "trying", "paused", "slowed", "ok")
"""What keeps a route's jobs from running, the worst first."""

HELP = "↑↓ move   c cancel   r retry   q quit"

Say = Callable[[str], str]


class Column(NamedTuple):
    """A column: its name, its width, and whether it holds numbers."""

    name: str
    width: int
    numbers: bool = False


ROUTES = (
    Column("ROUTE", 18), Column("STATE", 11), Column("WAITING", 7, True), Column("IN USE", 9, True),
    Column("TOK/S", 6, True), Column("1ST TOKEN", 10, True),
)  # fmt: skip
WORKERS = (Column("WORKER", 28), Column("STREAMS", 8, True))
TENANTS = (
    Column("TENANT", 14), Column("RUN", 4, True), Column("WAIT", 5, True),
    Column("TODAY", 9, True),
)  # fmt: skip


def _of_jobs(name: str, since: str, width: int) -> tuple[Column, ...]:
    """Ids are whole where there is room for them."""
    id_ = WHOLE if width >= WIDE else TAIL
    return Column(name, id_), Column("ROUTE", 10), Column("TENANT", 10), Column(since, 9, True)


class Board:
    """What is shown of an overview, and which of its jobs is chosen.

    Attributes:
        chosen: a job's id; "" where there is none.
    """

    def __init__(self) -> None:
        self.chosen = ""
        self._shown: list[str] = []

    def move(self, steps: int) -> None:
        """Choose another job, so many rows further down."""
        if self._shown:
            there = self._shown.index(self.chosen) if self.chosen in self._shown else -steps
            self.chosen = self._shown[max(0, min(len(self._shown) - 1, there + steps))]

    def take(self, overview: Overview) -> None:
        """Go on with what there is now; a job that has gone makes room for the next."""
        before, self._shown = self._shown, [job.id for job in overview.glance.jobs]
        self._shown += [job.id for job in overview.glance.failures]
        if self.chosen not in self._shown and self.chosen in before:
            place = min(before.index(self.chosen), len(self._shown) - 1)
            self.chosen = self._shown[place] if self._shown else ""

    def in_sight(self, overview: Overview, height: int) -> list[str]:
        """The ids of the running jobs that have a row."""
        return [job.id for job in self._window(overview, _rooms(overview, height)[-1])]

    def whole(self, overview: Overview) -> int:
        """Lines of a picture in which each job that is known of has its own."""
        return SMALL + len(overview.glance.jobs)

    def lines(
        self, overview: Overview, say: Say, width: int, height: int, note: str = ""
    ) -> list[Text]:
        """The picture.

        Args:
            overview: what goes on.
            say: the last words of a job.
            width: of the screen, in columns.
            height: in lines.
            note: the last line; left out: the chosen job's id and the keys.
        """
        routes, pairs, failed, jobs = _rooms(overview, height)
        now = overview.glance.now
        lines = [_title(overview, width), *_routes(overview, routes), *_pairs(overview, pairs)]
        active = self._window(overview, jobs)
        more = len(overview.glance.jobs) - len(active)
        rest = f"LAST WORDS   (and {more} more jobs)" if more else "LAST WORDS"
        lines.append(_head(_of_jobs("JOB", "FOR", width), rest))
        lines += [self._job(job, say(job.id), now, width) for job in active]
        lines += [Text()] * (jobs - len(active))
        lines.append(_head(_of_jobs("FAILED", "AGO", width), "REASON"))
        lines += [self._failure(each, now, width) for each in overview.glance.failures[:failed]]
        last = note or (f"{self.chosen}   {HELP}" if self.chosen else HELP)
        lines = [*lines[: height - 1], *[Text()] * (height - 1 - len(lines))]
        lines.append(Text(last, "bold" if note else "dim"))
        return [_fitted(line, width) for line in lines]

    def _window(self, overview: Overview, room: int) -> Sequence[Active]:
        """As many jobs as there is room for, the chosen one among them."""
        ids = [job.id for job in overview.glance.jobs]
        place = ids.index(self.chosen) if self.chosen in ids else 0
        first = max(0, min(place - room // 2, len(ids) - room))
        return overview.glance.jobs[first : first + room]

    def _job(self, job: Active, words: str, now: float, width: int) -> Text:
        since = spoken(now - job.since) if job.since else ""
        columns = _of_jobs("JOB", "FOR", width)
        cells = [job.id[-columns[0].width :], visible(job.route), visible(job.tenant), since]
        said = words if job.state == "running" else "waits for a worker"
        return self._marked(job.id, _row(columns, cells), tail(said, width - _width(columns)))

    def _failure(self, job: Failure, now: float, width: int) -> Text:
        columns, ago = _of_jobs("FAILED", "AGO", width), spoken(now - job.when)
        cells = [job.id[-columns[0].width :], visible(job.route), visible(job.tenant), ago]
        return self._marked(job.id, _row(columns, cells), visible(job.reason), "red")

    def _marked(self, id_: str, row: str, rest: str, style: str = "") -> Text:
        text = Text(row + rest, style)
        if id_ == self.chosen:
            text.stylize("reverse")
        return text


def _rooms(overview: Overview, height: int) -> tuple[int, int, int, int]:
    """Rows for routes, for workers and tenants, for failures; and for jobs all that is left."""
    few = FEW if height < SMALL else 2 * FEW
    routes = min(few, len(overview.surveys))
    pairs = min(few, max(len(overview.workers), len(overview.glance.tenants)))
    failed = min(few, len(overview.glance.failures))
    return routes, pairs, failed, max(1, height - 6 - routes - pairs - failed)


def _title(overview: Overview, width: int) -> Text:
    workers, jobs = overview.workers, len(overview.glance.jobs)
    room = sum(worker.concurrency for worker in workers)
    count = f"{len(workers)} worker{'' if len(workers) == 1 else 's'}"
    waiting = sum(survey.waiting + survey.suspects for survey in overview.surveys)
    left = f"penstock top   {count}   {jobs} of {short(room)} streams   {short(waiting)} waiting"
    time_ = clock(overview.glance.now, overview.glance.now)
    return Text(left.ljust(width - len(time_)) + time_, "bold")


def _routes(overview: Overview, room: int) -> Iterable[Text]:
    yield _head(ROUTES)
    worst = sorted(overview.surveys, key=lambda s: (_trouble(s), -s.waiting, s.route))
    for survey in worst[:room]:
        first = survey.first_token_p50
        cells = [
            survey.route, state_of(survey), short(survey.waiting + survey.suspects),
            f"{short(survey.in_use)}/{short(survey.allowed)}",
            short(round(survey.tokens_per_second)), "" if first is None else f"{first:.2f} s",
        ]  # fmt: skip
        yield Text(_row(ROUTES, cells), "" if state_of(survey) == "ok" else "yellow")


def _trouble(survey: Survey) -> int:
    """How far down the list a route's state stands."""
    state = state_of(survey)
    return next(n for n, kind in enumerate(TROUBLE) if state.startswith(kind))


def _pairs(overview: Overview, room: int) -> Iterable[Text]:
    """Workers on the left, tenants on the right."""
    waiting: dict[str, int] = {}
    for survey in overview.surveys:
        for name, jobs in survey.tenants.items():
            waiting[name] = waiting.get(name, 0) + jobs
    left = [[w.name, f"{w.streams}/{short(w.concurrency)}"] for w in overview.workers]
    busiest = sorted(overview.glance.tenants, key=lambda t: (-t.running, t.name))
    right = [
        [t.name, short(t.running), short(waiting.get(t.name, 0)), f"${t.usd:.4f}"] for t in busiest
    ]
    yield Text.assemble(_head(WORKERS), "  ", _head(TENANTS))
    for n in range(room):
        texts = [
            _row(columns, rows[n]) if n < len(rows) else " " * _width(columns)
            for columns, rows in ((WORKERS, left), (TENANTS, right))
        ]
        yield Text("  ".join(texts))


def _head(columns: Sequence[Column], rest: str = "") -> Text:
    return Text(_row(columns, [column.name for column in columns]) + rest, "dim")


def _row(columns: Sequence[Column], cells: Sequence[str]) -> str:
    """The cells, each cut or filled up to its column's width, and a space behind each."""
    return "".join(_cell(c, cut(text, c.width)) for c, text in zip(columns, cells, strict=True))


def _cell(column: Column, text: str) -> str:
    return f"{text:>{column.width}} " if column.numbers else f"{text:<{column.width}} "


def _width(columns: Sequence[Column]) -> int:
    return sum(column.width + 1 for column in columns)


def tail(text: str, room: int) -> str:
    """The end of a text, as much as there is room for; some letters are two columns wide."""
    while text and cell_len(text) > room:
        text = text[max(1, cell_len(text) - room) :] if text.isascii() else text[1:]
    return text


def _fitted(line: Text, width: int) -> Text:
    if cell_len(line.plain) > width:
        line = line.copy()
        line.plain = set_cell_size(line.plain, width)
    return line
