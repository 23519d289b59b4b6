"""What a process has used so far, as the kernel charges it: CPU time and memory, from /proc."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
PROC = Path("/proc")


def cpu(pid: int) -> float:
    """CPU seconds of a process and its living descendants, user and system."""
    return sum(map(_own_cpu, family(pid)))


def running(pid: int) -> float:
    """CPU seconds of a process's living threads, to the nanosecond; see Linux's sched-stats.rst."""
    stats = (task / "schedstat" for task in (PROC / str(pid) / "task").iterdir())
    return sum(int(stat.read_text().split()[0]) for stat in stats) / 1e9


def rss(pid: int) -> float:
    """Resident memory of a process and its descendants in MB (of 10^6 bytes), shared pages too."""
    return sum(map(_own_rss, family(pid))) / 1e6


def starved(pid: int) -> float:
    """Seconds a process's living threads were ready to run but other processes had the cores."""
    waits = (task / "schedstat" for task in (PROC / str(pid) / "task").iterdir())
    return sum(int(wait.read_text().split()[1]) for wait in waits) / 1e9


def family(pid: int) -> Iterator[int]:
    """A process and everything it started that is still alive."""
    yield pid
    for task in (PROC / str(pid) / "task").iterdir():
        for child in (task / "children").read_text().split():
            yield from family(int(child))


def _own_cpu(pid: int) -> float:
    fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS  # utime and stime, see proc(5)


def _own_rss(pid: int) -> int:
    return int((PROC / str(pid) / "statm").read_text().split()[1]) * PAGE
