"""The last words of the jobs on the screen, as they come.

Only those are followed: one connection, and what it is told of a screenful of jobs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from penstock import Client, Event, EventType, keys
from penstock.events import decode
from penstock.store import mapped_errors

KEPT = 400
"""Characters of an answer: more than a line of the widest terminal."""

LOOKED_BACK = 5
"""Events of a job that comes onto the screen: each holds some fifty milliseconds of its words."""

AT_ONCE = 2_000
"""Messages taken before the screen is drawn again."""


class Words:
    """Follows jobs.

    Args:
        client: to reach Redis with.
    """

    def __init__(self, client: Client) -> None:
        self._store = client.store
        self._said: dict[str, str] = {}
        self._channel: Any = None

    def of(self, job: str) -> str:
        """What the job said last; nothing that a terminal would obey."""
        return visible(self._said.get(job, ""))

    def follow(self, jobs: Collection[str]) -> None:
        """Follow these from now on, and no others; raises StoreUnavailable."""
        gone, new = self._said.keys() - set(jobs), [job for job in jobs if job not in self._said]
        with mapped_errors(self._store.url):
            if self._channel is None:
                self._channel = self._store.redis.pubsub(ignore_subscribe_messages=True)
            if gone:
                self._channel.unsubscribe(*map(keys.feed, gone))
            if new:
                self._channel.subscribe(*map(keys.feed, new))
        for job in gone:
            del self._said[job]
        self.look_back(new)

    def look_back(self, jobs: Iterable[str]) -> None:
        """Read what these said last."""
        asked = list(jobs)
        pipeline = self._store.redis.pipeline(transaction=False)
        for job in asked:
            pipeline.xrevrange(keys.feed(job), count=LOOKED_BACK)
        with mapped_errors(self._store.url):
            replies = pipeline.execute()
        for job, entries in zip(asked, replies, strict=True):
            self._said[job] = ""
            for _, fields in reversed(entries):
                self._take(decode(fields[b"event"]))

    def listen(self) -> None:
        """Take what has come since; raises StoreUnavailable."""
        if self._channel is None or not self._channel.subscribed:
            return
        with mapped_errors(self._store.url):
            for _ in range(AT_ONCE):
                message = self._channel.get_message(timeout=0)
                if message is None:
                    return
                self._take(decode(message["data"]))

    def close(self) -> None:
        """Follow nobody any more; the next `follow` begins anew."""
        channel, self._channel = self._channel, None
        self._said.clear()
        if channel is not None:
            channel.close()

    def _take(self, event: Event) -> None:
        if event.job not in self._said:
            return  # it has just left the screen
        if event.type == EventType.DELTA:
            said = self._said[event.job] + (event.text or event.reasoning)
            self._said[event.job] = said[-KEPT:]
        elif event.type in (EventType.STARTED, EventType.RESTARTED):
            self._said[event.job] = ""


def visible(text: str) -> str:
    """One line of what can be seen: no control characters, nor those that turn a line around."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(shown.split())
