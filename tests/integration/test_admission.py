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

    calls = 0
    present = True

    async def run(self, command: Command[T]) -> T:
        self.calls += 1
        if not self.present:
            await asyncio.sleep(0)
            raise StoreUnavailable("away")
        return await super().run(command)


def _admissions(store: AsyncStore, settings: Settings) -> Admissions:
    return Admissions(store, Routes(settings, render_template(), CELERY_VERSION))


async def test_those_who_ask_while_a_call_is_under_way_share_the_next_one(
    client: Client, settings: Settings
) -> None:
    """A hundred ends at one moment make two calls, and each ends when its job's place was given on."""
    client.submit_many([{"messages": MESSAGES}] * 3)
    async with CountingStore.opened(settings.server_url) as store:
        admissions = _admissions(store, settings)
        answers = await asyncio.gather(*(admissions.admit("default") for _ in range(100)))
    assert store.calls == 2
    assert [answer.in_use for answer in answers if answer] == [3] * 100


async def test_one_who_asks_after_a_call_began_does_not_take_its_answer(
    client: Client, settings: Settings
) -> None:
    """A job that came after a call had begun is let through by the next one."""
    async with CountingStore.opened(settings.server_url) as store:
        admissions = _admissions(store, settings)
        first = asyncio.create_task(admissions.admit("default"))
        while not store.calls:
            await asyncio.sleep(0)
        client.submit(MESSAGES)
        answer = await admissions.admit("default")
        await first
    assert answer is not None
    assert (store.calls, answer.in_use) == (2, 1)


async def test_a_server_that_is_away_is_asked_once_for_all(settings: Settings) -> None:
    """Of a hundred who ask while Redis is away two find out, and none waits for the others in turn."""
    async with CountingStore.opened(settings.server_url) as store:
        store.present = False
        admissions = _admissions(store, settings)
        results = await asyncio.gather(
            *(admissions.admit("default") for _ in range(100)), return_exceptions=True
        )
    assert store.calls == 2
    assert sum(isinstance(result, StoreUnavailable) for result in results) == 2
