"""Who may import what. Each rule says why it is there."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("penstock", "worker", "producers", "ops")


class Import(NamedTuple):
    """One import in one file."""

    file: str
    module: str


@functools.cache
def imports() -> list[Import]:
    """All there are; read once, and not by those who collect the tests only."""
    return list(_imports())


def _imports() -> Iterator[Import]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                for module in _modules(node):
                    yield Import(str(path.relative_to(ROOT)), module)


def _modules(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


class Rule(NamedTuple):
    """Files below `where` must not import `what`, but for those below `but`."""

    where: tuple[str, ...]
    what: tuple[str, ...]
    but: tuple[str, ...] = ()


PURE = tuple(
    f"penstock/{name}.py"
    for name in ("job", "state", "events", "outcome", "errors", "keys", "webhook", "hook", "trace")
)

RULES = {
    "the library knows neither side, so an application installs it alone": Rule(
        ("penstock/",), ("worker", "producers", "ops")
    ),
    "producers and workers meet only in Redis, so they are deployed apart": Rule(
        ("worker/",), ("producers", "ops")
    ),
    "a producer needs no Celery, no httpx and no worker's code": Rule(
        ("producers/",), ("worker", "ops", "celery", "kombu", "httpx")
    ),
    "the model is pure: whoever reads it need not think of I/O": Rule(
        PURE, ("redis", "httpx", "celery", "asyncio", "socket", "threading", "penstock.store")
    ),
    "redis-py's errors are mapped in one place": Rule(
        PACKAGES, ("redis",),
        (
            "penstock/store.py", "penstock/connection.py", "penstock/feed.py",
            "penstock/fanout.py", "ops/bench/",
        ),
    ),
    "httpx's errors are mapped in one place, for each of its two uses": Rule(
        PACKAGES, ("httpx",), ("worker/upstream/client.py", "worker/webhooks.py", "ops/bench/")
    ),
    "Celery is the engine, not the language: four modules speak it, and one for those who do": Rule(
        PACKAGES,
        ("celery", "kombu", "billiard"),
        (
            "worker/dispatch.py", "worker/app.py", "worker/pool.py", "worker/tasks.py",
            "penstock/celery.py", "ops/bench/",
        ),
    ),
    "who makes no traces pays for none: OpenTelemetry is imported when they are turned on": Rule(
        PACKAGES, ("opentelemetry",), ("penstock/tracing.py",)
    ),
    "who has no Celery can use all of the library but its Celery tasks": Rule(
        PACKAGES, ("penstock.celery",)
    ),
    "the simulator tells responses by the gateway's modules, and has no web framework": Rule(
        (
            "producers/gateway/problem.py",
            *(f"producers/gateway/openai/{name}.py" for name in (
                "delivery", "errors", "growth", "items", "request", "response", "sequence",
            )),
        ),
        ("fastapi", "starlette", "uvicorn", "asyncio", "producers.gateway.answer"),
    ),
    "decoders, policies, guards and signatures that do no I/O can be tested in any order": Rule(
        (
            "worker/retry.py", "worker/upstream/sse.py", "worker/upstream/assemble.py",
            "worker/upstream/delta.py", "worker/upstream/choice.py", "worker/guard.py",
            "worker/payload.py", "producers/hooks/signature.py",
        ),
        ("redis", "httpx", "celery", "asyncio", "time", "structlog"),
    ),
}  # fmt: skip


def _breaks(rule: Rule, found: Import) -> bool:
    within = found.file.startswith(tuple(rule.where)) and not found.file.startswith(
        rule.but or "\0"
    )
    return within and any(found.module == w or found.module.startswith(f"{w}.") for w in rule.what)


@pytest.mark.parametrize("reason", RULES)
def test_imports_keep_to_their_rooms(reason: str) -> None:
    """No file imports what its room must not know."""
    assert [found for found in imports() if _breaks(RULES[reason], found)] == []


def test_the_rules_can_be_broken() -> None:
    """A rule that no import could break would prove nothing."""
    assert len(imports()) > 300
    for rule in RULES.values():
        broken = Import(f"{rule.where[0].rstrip('/')}/x.py", rule.what[0])
        if rule.where[0].endswith(".py"):
            broken = Import(rule.where[0], rule.what[0])
        assert _breaks(rule, broken)


def test_only_the_settings_read_the_environment() -> None:
    """One reader of the environment: no other file names os.environ or getenv."""
    readers = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if {"os.environ", "os.getenv", "environb"} & _names(path)
    }
    assert readers == {"penstock/settings.py"}


def _names(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def test_only_scripts_change_a_jobs_state() -> None:
    """No Python code writes to Redis by a plain command: every transition is a script."""
    writes = {
        "set", "hset", "hdel", "zadd", "zrem", "xadd", "lpush", "rpush", "delete", "expire",
        "incr", "hincrby", "sadd", "srem", "publish", "persist",
    }  # fmt: skip
    found = []
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    owner = ast.unparse(node.func.value)
                    if node.func.attr in writes and owner.endswith((".redis", "pipeline")):
                        found.append(f"{path.relative_to(ROOT)}: {ast.unparse(node)[:60]}")
    assert [line for line in found if not line.startswith("ops/bench/")] == []
