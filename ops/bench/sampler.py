"""Where a worker's CPU time goes: samples every thread's Python stack, weighted by CPU time.

At each sample a thread's stack is charged with the CPU time the thread has used since the last one,
by its own CPU clock: a waiting thread costs nothing, and time in C code (uvloop, the HTTP parser,
hiredis) is charged to the Python frame it was called from. The sampler is a thread itself and needs
the GIL, so a long call in C is charged when it returns; the switch interval is short meanwhile, or
it would only ever see system calls. All that costs some CPU: look at the shares, not the sum.
uvloop lets the GIL go between two callbacks, so `Thread.run`, its frame, is charged with more than
its own: the less the worker has to do, the more. Profile it under load, and compare with `--perf`.

    python -m ops.bench.sampler DIRECTORY SECONDS CONCURRENCY

runs our worker; it samples for SECONDS once DIRECTORY/begin exists, and writes DIRECTORY/profile.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from types import FrameType

import msgspec

from penstock.settings import Settings

PERIOD = 0.002
SWITCH_INTERVAL = 0.00002
Stack = tuple[str, ...]


class Profile(msgspec.Struct):
    """CPU seconds by thread name and stack, innermost frame first; frames joined by newlines."""

    seconds: dict[str, dict[str, float]]


class Sampler(threading.Thread):
    """Samples for so many seconds once the file `begin` is there, then writes `profile`."""

    def __init__(self, directory: Path, seconds: float) -> None:
        super().__init__(name="sampler", daemon=True)
        self._directory = directory
        self._seconds = seconds
        self._clocks: dict[int, float] = {}
        self._charged: dict[str, defaultdict[str, float]] = {}

    def run(self) -> None:
        """See the class."""
        while not (self._directory / "begin").exists():
            time.sleep(0.02)
        sys.setswitchinterval(SWITCH_INTERVAL)
        end = time.monotonic() + self._seconds
        while time.monotonic() < end:
            time.sleep(PERIOD)
            self._sample()
        seconds = {name: dict(charged) for name, charged in self._charged.items()}
        unfinished = self._directory / "profile.part"
        unfinished.write_bytes(msgspec.json.encode(Profile(seconds)))
        unfinished.rename(self._directory / "profile")

    def _sample(self) -> None:
        frames = sys._current_frames()
        for thread in threading.enumerate():
            if thread is self or thread.ident not in frames or thread.native_id is None:
                continue
            used = cpu_of(thread.native_id)
            before = self._clocks.get(thread.native_id, used)
            self._clocks[thread.native_id] = used
            if used > before:
                charged = self._charged.setdefault(thread.name, defaultdict(float))
                charged[stack_of(frames[thread.ident])] += used - before


def cpu_of(native_id: int) -> float:
    """CPU seconds of a thread, 0 for one that has ended.

    The clock's number is made as the kernel does it (MAKE_THREAD_CPUCLOCK in
    include/linux/posix-timers.h): libc's way to get it crashes when the thread ends meanwhile.
    """
    try:
        return time.clock_gettime(~native_id << 3 | 6)
    except OSError:
        return 0.0


def stack_of(frame: FrameType | None) -> str:
    """The stack as text, innermost first."""
    frames = []
    while frame is not None:
        code = frame.f_code
        place = "/".join(Path(code.co_filename).parts[-2:])
        frames.append(f"{place}:{frame.f_lineno} {code.co_qualname}")
        frame = frame.f_back
    return "\n".join(frames)


def main() -> int:
    """Run the worker with the sampler beside it."""
    from worker.app import run

    directory, seconds, concurrency = sys.argv[1:]
    Sampler(Path(directory), float(seconds)).start()
    return run(Settings.load(concurrency=int(concurrency)))


if __name__ == "__main__":
    sys.exit(main())
