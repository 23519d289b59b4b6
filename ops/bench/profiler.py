"""Prints where our worker's CPU goes under load.

    python -m ops.bench.profiler [--streams 1000] [--seconds 10] [--jobs] [--perf]

Figures are µs of CPU per relayed token: by the function that ran (self), by line, and by every
function on the stack (cumulative). With `--perf`, where the system has it, also the C symbols.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from heapq import nlargest
from operator import itemgetter

import click
import msgspec

from ops.bench.contender import Penstock
from ops.bench.cpu import RATE
from ops.bench.load import ONE_TOKEN, Load
from ops.bench.reading import Reading
from ops.bench.sampler import Profile
from ops.bench.stand import Stand, clean_up_on_sigterm
from ops.local.process import Process

SETTLE = 5.0
MOST_JOBS = 1500
"""Jobs per second that no worker does."""

Seconds = defaultdict[str, float]


class SampledPenstock(Penstock):
    """Our worker with a sampler inside."""

    def __init__(self, stand: Stand, seconds: float) -> None:
        super().__init__(stand)
        self._seconds = seconds

    def command(self, concurrency: int) -> list[str]:
        """See Penstock."""
        directory, module = str(self.stand.directory), "ops.bench.sampler"
        return [sys.executable, "-m", module, directory, str(self._seconds), str(concurrency)]


@click.command()
@click.option("--streams", default=1000, show_default=True)
@click.option("--seconds", default=10.0, show_default=True)
@click.option("--rows", default=30, show_default=True, help="Lines of each table.")
@click.option("--jobs", is_flag=True, help="One-token jobs, so many at a time: µs are per job.")
@click.option("--perf", is_flag=True, help="Also record with perf: C functions and the kernel.")
def main(streams: int, seconds: float, rows: int, jobs: bool, perf: bool) -> None:
    """Sample our worker under load."""
    clean_up_on_sigterm()
    load = hurried if jobs else streaming
    with Stand() as stand, load(stand, streams, seconds) as process:
        first = Reading.take(stand, process)
        (stand.directory / "begin").touch()
        stand.wait((stand.directory / "profile").exists, "the profile", seconds + 30)
        window = first.until(Reading.take(stand, process))
        profile = msgspec.json.decode((stand.directory / "profile").read_bytes(), type=Profile)
        show(profile, window, rows)
        if perf:
            show_symbols(stand, process, seconds, rows)


@contextmanager
def streaming(stand: Stand, streams: int, seconds: float) -> Iterator[Process]:
    """Our worker with so many streams running."""
    contender = SampledPenstock(stand, seconds)
    with contender.started(streams) as process:
        tokens = round((2 * seconds + 60) * RATE)
        contender.feed(streams, Load(tokens, gap=1 / RATE))
        stand.wait_streams(streams)
        time.sleep(SETTLE)
        yield process


@contextmanager
def hurried(stand: Stand, streams: int, seconds: float) -> Iterator[Process]:
    """Our worker with more one-token jobs than it can do in the time."""
    contender = SampledPenstock(stand, seconds)
    with contender.started(streams) as process:
        contender.feed(round((2 * seconds + SETTLE) * MOST_JOBS), ONE_TOKEN)
        time.sleep(SETTLE)
        yield process


def show(profile: Profile, window: Reading, rows: int) -> None:
    """The tables."""
    print(f"{window.sent} tokens, {window.sent / window.at:.0f}/s, {window.at:.1f} s")
    print(f"{window.published / window.sent:.2f} events/token (below 1: Redis or CPU was short)")
    print(f"{window.worker / window.sent * 1e6:.1f} µs/token by the kernel, sampler included")
    for thread, stacks in profile.seconds.items():
        total = sum(stacks.values())
        print(f"\nthread {thread}: {total / window.sent * 1e6:.1f} µs/token")
        for title, counter in tables(stacks):
            print(f"  -- {title}")
            for name, used in nlargest(rows, counter.items(), key=itemgetter(1)):
                print(f"  {used / window.sent * 1e6:7.2f} µs {used / total:6.1%}  {name}")


def tables(stacks: dict[str, float]) -> Iterator[tuple[str, Seconds]]:
    """CPU seconds by function, by line and cumulative."""
    by_self, by_line, by_any = Seconds(float), Seconds(float), Seconds(float)
    for stack, used in stacks.items():
        frames = stack.split("\n")
        by_self[function(frames[0])] += used
        by_line[frames[0]] += used
        for name in set(map(function, frames)):
            by_any[name] += used
    yield from (("self", by_self), ("line", by_line), ("cumulative", by_any))


def function(frame: str) -> str:
    """A frame without its line number."""
    place, _, name = frame.partition(" ")
    return f"{place.rpartition(':')[0]} {name}"


def show_symbols(stand: Stand, process: Process, seconds: float, rows: int) -> None:
    """What perf sees: interpreter, extensions and kernel."""
    data = str(stand.directory / "perf.data")
    run("perf", "record", "-q", "-F", "999", "-g", "-o", data, "-p", str(process.pid),
        "--", "sleep", str(seconds))  # fmt: skip
    for sort in ("dso", "dso,symbol"):
        print(f"\n  -- perf by {sort}")
        report = run("perf", "report", "-i", data, "--no-children", "-g", "none", "--sort", sort)
        lines = [line for line in report.splitlines() if line.strip() and line[0] != "#"]
        print("\n".join(lines[:rows]))


def run(*argv: str) -> str:
    """A command's output; its complaints where it fails."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else done.stderr


if __name__ == "__main__":
    main()
