"""Ctrl-C at the worst moment."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from ops.interrupt import never_lost


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGALRM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Interrupted:
    """Is interrupted while it is thrown away."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def test_an_interrupt_inside_a_finalizer_comes_a_moment_later() -> None:
    """Python would print and forget it, and the command would go on as if nobody had asked."""
    never_lost()

    def work() -> None:
        Interrupted()
        threading.Event().wait(5)

    with pytest.raises(KeyboardInterrupt):
        work()


def test_any_other_interrupt_comes_at_once() -> None:
    """SIGINT raises KeyboardInterrupt as ever."""
    never_lost()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_an_ignored_interrupt_stays_ignored() -> None:
    """A command behind nohup is not interrupted."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    never_lost()
    signal.raise_signal(signal.SIGINT)
