"""What a benchmark ran on: without it the figures mean nothing."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import version
from pathlib import Path

from ops.bench.stand import Stand

PACKAGES = (
    "penstock", "celery", "kombu", "redis", "hiredis", "openai", "httpx", "httpx2", "httpx-aiohttp",
    "aiohttp", "uvloop", "gevent", "msgspec", "pydantic",
)  # fmt: skip


def describe(stand: Stand) -> dict[str, str]:
    """Processor, kernel, server and versions."""
    server = stand.redis.info("server")
    program = "valkey_version" if "valkey_version" in server else "redis_version"
    return {
        "processor": f"{os.cpu_count()} x {_model()}",
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "server": f"{program.removesuffix('_version')} {server[program]}",
        "packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
    }


def _model() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()
