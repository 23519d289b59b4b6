"""The picture of `penstock top`, line by line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from penstock import Survey, WorkerRecord
from penstock.client import Overview
from penstock.glance import Active, Failure, Glance, TenantNow
from producers.top.board import Board, tail
from producers.top.words import visible

NAME = "a-name-that-is-longer-than-its-column-can-ever-be"


def survey(route: str, workers: int = 1) -> Survey:
    """A busy route."""
    return Survey(
        route=route, model="m", fallback=(), configured=20_000, allowed=9_000, in_use=8_999,
        requests=1, requests_per_minute=None, tokens=1, tokens_per_minute=None, paused=0.0,
        opened=0.0, breaker="closed", waiting=1_234_567, suspects=0, workers=workers,
        tenants={NAME: 1_234_567}, first_token_p50=12.345, first_token_p99=99.0,
        jobs_per_second=1.0, tokens_per_second=123_456.0,
    )  # fmt: skip


def overview(jobs: int, failures: int = 9) -> Overview:
    """A lot of everything."""
    active = [Active(f"job_{n:026}", "running", NAME, NAME, 1, 1.0) for n in range(jobs)]
    failed = [Failure(f"job_F{n:025}", NAME, NAME, 1, 1.0, "why " * 50) for n in range(failures)]
    tenants = [TenantNow(NAME, 12_345, 1, 98_765.4321)] * 9
    glance = Glance(90_000.0, (), tuple(active), tuple(failed), tuple(tenants))
    worker = WorkerRecord(NAME, "0.1.0", (), 20_000, 19_999, 1.0, 2.0)
    return Overview(glance, [worker] * 9, [survey(NAME)] * 8 + [survey("bad", workers=0)])


@pytest.mark.parametrize(("width", "height"), [(80, 24), (132, 50), (40, 12)])
@pytest.mark.parametrize("jobs", [0, 1, 100])
def test_the_picture_fits_the_screen(width: int, height: int, jobs: int) -> None:
    """However much there is, in letters that are two columns wide too."""
    lines = Board().lines(overview(jobs), lambda job: "漢字 and more " * 40, width, height)
    assert len(lines) == height
    assert max(cell_len(line.plain) for line in lines) <= width


def test_a_route_with_trouble_comes_first() -> None:
    """Nine routes, three rows: the one that no worker serves is among them."""
    shown = [line.plain for line in Board().lines(overview(1), str, 80, 24)]
    assert "bad" in shown[2]
    assert "no worker" in shown[2]


def test_the_chosen_job_is_always_in_sight() -> None:
    """Going down through a hundred jobs and the failures, and up again, at 80 by 24."""
    board, seen = Board(), overview(100)
    board.take(seen)
    for _ in range(105):
        board.move(1)
        shown = [line.plain for line in board.lines(seen, str, 80, 24)]
        assert shown[-1].startswith(board.chosen)
        if board.chosen.startswith("job_0"):
            assert any(line.startswith(board.chosen[-8:]) for line in shown)
            assert board.chosen in board.in_sight(seen, 24)
    assert board.chosen.startswith("job_F")
    for _ in range(200):
        board.move(-1)
    assert board.chosen == seen.glance.jobs[0].id


def test_a_job_that_ends_makes_room_for_the_next() -> None:
    """The choice stays where it was on the screen; with nothing left it is none."""
    board = Board()
    board.take(overview(3, failures=0))
    board.move(1)
    board.move(1)
    gone = overview(3, failures=0).glance.jobs[1].id
    assert board.chosen == gone
    left = overview(3, failures=0)
    jobs = tuple(job for job in left.glance.jobs if job.id != gone)
    board.take(left._replace(glance=Glance(1.0, (), jobs, (), ())))
    assert board.chosen == jobs[1].id
    board.take(left._replace(glance=Glance(1.0, (), (), (), ())))
    assert board.chosen == ""


@given(st.text(), st.integers(0, 40))
def test_only_what_can_be_seen_is_shown(text: str, room: int) -> None:
    """One line of printable characters, and of those the last that have room."""
    shown = tail(visible(text), room)
    assert shown.isprintable()
    assert cell_len(shown) <= room
    assert visible(text).endswith(shown)
