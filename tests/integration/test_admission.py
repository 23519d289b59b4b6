"""How a worker asks the gates: those who ask at the same moment share a call."""

from __future__ import annotations

import asyncio

import pytest

from penstock import Client, Settings
from penstock.commands import Command
from penstock.errors import StoreUnavailable
from penstock.store import AsyncStore, T
from tests.integration.feeds import MESSAGES
from worker.admission import Admissions
from worker.dispatch import CELERY_VERSION, render_template
from worker.routes import Routes

pytestmark = pytest.mark.usefixtures("registered")


class CountingStore(AsyncStore):
    """A real store that counts the calls, and can be away."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.calls = 0
        self.called = asyncio.Event()
        self.present = True

    async def run(self, command: Command[T]) -> T:
        self.calls += 1
        self.called.set()
        if not self.present:
            await asyncio.sleep(0)
            raise StoreUnavailable("away")
        return await super().run(command)


def _admissions(store: AsyncStore, settings: Settings) -> Admissions:
    return Admissions(store, Routes(settings, render_template(), CELERY_VERSION))


async def test_those_who_ask_at_once_share_a_call(client: Client, settings: Settings) -> None:
    """A hundred ends at one moment make one call, and each sees its job's place given on."""
    client.submit_many([{"messages": MESSAGES}] * 3)
    async with CountingStore.opened(settings.server_url) as store:
        admissions = _admissions(store, settings)
        answers = await asyncio.gather(*(admissions.admit("default") for _ in range(100)))
    assert store.calls == 1
    assert [answer.in_use for answer in answers if answer] == [3] * 100


async def test_those_who_ask_while_a_call_is_under_way_share_the_next_one(
    client: Client, settings: Settings
) -> None:
    """A job that came after a call had begun is let through by the next one, for all who asked."""
    async with CountingStore.opened(settings.server_url) as store:
        admissions = _admissions(store, settings)
        first = asyncio.create_task(admissions.admit("default"))
        await store.called.wait()
        client.submit(MESSAGES)
        answers = await asyncio.gather(*(admissions.admit("default") for _ in range(100)))
        await first
    assert store.calls == 2
    assert [answer.in_use for answer in answers if answer] == [1] * 100


async def test_a_server_that_is_away_is_asked_once_for_all(settings: Settings) -> None:
    """Each of a hundred who ask while Redis is away finds out, by the same call."""
    async with CountingStore.opened(settings.server_url) as store:
        store.present = False
        admissions = _admissions(store, settings)
        results = await asyncio.gather(
            *(admissions.admit("default") for _ in range(100)), return_exceptions=True
        )
        assert store.calls == 1
        assert all(isinstance(result, StoreUnavailable) for result in results)
        store.present = True
        assert await admissions.admit("default") is not None
