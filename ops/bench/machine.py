"""What a benchmark ran on: without it the figures mean nothing."""

from __future__ import annotations

import os
import platform
import re
import time
from importlib.metadata import version
from pathlib import Path

from ops.bench.stand import Stand

PACKAGES = (
    "penstock", "celery", "kombu", "redis", "hiredis", "openai", "httpx", "httpx2", "httpx-aiohttp",
    "aiohttp", "uvloop", "gevent", "msgspec", "pydantic",
)  # fmt: skip


ADDITIONS = 5_000_000
"""A seventh to a third of a second on the machines this was measured on."""


def speed() -> str:
    """How many additions a second of CPU is worth in this interpreter.

    A shared machine gives more or less from one minute to the next, though nobody else is seen to
    run: figures of two runs compare no better than their speeds do.
    """
    began, total = time.process_time(), 0
    for number in range(ADDITIONS):
        total += number
    rate = ADDITIONS / 1e6 / (time.process_time() - began)
    return f"{rate:.1f} million additions a second of CPU"


def describe(stand: Stand) -> dict[str, str]:
    """Processor and its speed, kernel, server and versions."""
    server = stand.redis.info("server")
    program = "valkey_version" if "valkey_version" in server else "redis_version"
    return {
        "processor": f"{os.cpu_count()} x {_model()}",
        "speed before": speed(),
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "server": f"{program.removesuffix('_version')} {server[program]}",
        "packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
    }


def _model() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()
