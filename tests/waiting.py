"""Waiting for a condition: the only clock in the tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], timeout: float = 10.0) -> T:
    """Wait until the condition gives something true, and return that."""
    end = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout} s: {condition}")
        time.sleep(0.01)
    return value


async def until_async(condition: Callable[[], T], timeout: float = 10.0) -> T:
    """As `until`, for coroutines."""
    end = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout} s: {condition}")
        await asyncio.sleep(0.01)
    return value
