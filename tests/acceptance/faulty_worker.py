"""`penstock worker` with a plan for what shall go wrong: no test hook lives in the product.

The plan, all of it optional, such as `{"lease": 2, "die": ["after claim", 3]}`:

- `lease`: seconds in place of 10; beat and sweep keep their share of it.
- `die`: a step of STEPS or WEBHOOK_STEPS and a number: SIGKILL at the so-many-th time this process
  gets there.
- `poison`: SIGKILL on claiming a job whose metadata has `poison`.
- `clock`: seconds by which this process's clock is wrong.
- `format`: the newest format of a record that this worker reads, as if it were of that version.
- `without`: a check of mutants.py to take out.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from penstock import commands, job
from penstock.commands import LEASE, PATIENCE, Claim, Command
from penstock.settings import Settings
from penstock.store import AsyncStore
from tests.acceptance.mutants import without
from worker import app, attempt, keeper
from worker.app import run
from worker.attempt import Attempts
from worker.pool import AsyncioPool

STEPS = [
    f"{side} {step}"
    for step in ("receive", "claim", "append", "finish")
    for side in ("before", "after")
]
"""Receive: a message is handed to the pool. The others: that script is called; append is the first
delta when the number is 1."""

WEBHOOK_STEPS = ["before settle_delivery", "after settle_delivery"]
"""An endpoint has been called: before and after that is written down."""


def die() -> None:
    """End as by kill -9: nothing is flushed, closed or handed back."""
    os.kill(os.getpid(), signal.SIGKILL)


class Fate:
    """Dies when a step has been reached often enough."""

    def __init__(self, step: str, times: int) -> None:
        if step not in STEPS + WEBHOOK_STEPS:
            raise ValueError(f"{step!r} is none of {STEPS + WEBHOOK_STEPS}")
        self._step, self._left = step, times

    def reach(self, step: str) -> None:
        """The process is at this step."""
        if step == self._step:
            self._left -= 1
            if self._left == 0:
                die()


def watch_steps(fate: Fate) -> None:
    """Report each step to fate."""
    on_apply, run_attempt, run_command = AsyncioPool.on_apply, Attempts.run, AsyncStore.run
    run_commands = AsyncStore.run_all

    def receive(self: AsyncioPool, *args: Any, **kwargs: Any) -> Any:
        fate.reach("before receive")
        return on_apply(self, *args, **kwargs)

    async def received(self: Attempts, *args: Any) -> None:
        fate.reach("after receive")
        await run_attempt(self, *args)

    async def command(self: AsyncStore, command: Command[Any]) -> Any:
        fate.reach(f"before {command.script.name}")
        result = await run_command(self, command)
        fate.reach(f"after {command.script.name}")
        return result

    async def commands_(self: AsyncStore, batch: Sequence[Command[Any]]) -> Any:
        fate.reach(f"before {batch[0].script.name}")
        results = await run_commands(self, batch)
        fate.reach(f"after {batch[0].script.name}")
        return results

    AsyncioPool.on_apply, Attempts.run, AsyncStore.run = receive, received, command  # type: ignore[method-assign]
    AsyncStore.run_all = commands_  # type: ignore[method-assign]


def take_poison() -> None:
    """Die of any job whose metadata says `poison`."""
    run_command = AsyncStore.run

    async def command(self: AsyncStore, command: Command[Any]) -> Any:
        result = await run_command(self, command)
        if isinstance(result, Claim) and b"poison" in result.metadata:
            die()
        return result

    AsyncStore.run = command  # type: ignore[method-assign]


def shorten(lease: float) -> None:
    """Live faster: a shorter lease, and everything that is measured by it."""
    share = lease / LEASE
    commands.claim.__defaults__ = commands.renew.__defaults__ = (lease,)
    commands.sweep.__defaults__ = (500, lease)
    commands.agree.__defaults__ = (PATIENCE * share,)
    attempt.LEASE = lease
    app.EVERY *= share
    for name in "BEAT", "ROUND", "RENEWAL_TIMEOUT":
        setattr(keeper, name, getattr(keeper, name) * share)


def misset_clock(seconds: float) -> None:
    """Be wrong about the time of day."""
    real = time.time
    time.time = lambda: real() + seconds


def be_of_version(version: int) -> None:
    """Read and write records as the version whose newest format this is."""
    commands.RECORD_VERSION = job.RECORD_VERSION = version


def follow_plan(plan: Mapping[str, Any]) -> None:
    """Put every part of the plan into effect."""
    if lease := plan.get("lease"):
        shorten(lease)
    if "die" in plan:
        watch_steps(Fate(*plan["die"]))
    if plan.get("poison"):
        take_poison()
    if seconds := plan.get("clock"):
        misset_clock(seconds)
    if version := plan.get("format"):
        be_of_version(version)
    if check := plan.get("without"):
        commands.load = without(check)


def work() -> None:
    """Run the worker until it is told to stop."""
    sys.exit(run(Settings.load()))
