"""Pages of a tenant's jobs: what is looked for, and where the next page begins. Does no I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from penstock import keys
from penstock.errors import InvalidRequest
from penstock.job import JobRecord
from penstock.state import JobState

LOOK_AT = 500
"""Jobs read in one round trip where most may not match."""

MOST_ROUNDS = 10
"""Round trips for one page. A filter that little matches gives short pages, not slow ones."""

_CURSOR = re.compile(r"\d{1,12}\.\d{6}", re.ASCII)


class Page(NamedTuple):
    """Some of a tenant's jobs, newest first; `next` is where the next page begins, None at the end.

    A page may be short, even empty, though there are more.
    """

    records: list[JobRecord]
    next: str | None


class Search:
    """The making of one page.

    Attributes:
        page: the result, None while another round is needed.
    """

    def __init__(
        self,
        tenant: str,
        state: JobState | None,
        metadata: Mapping[str, str],
        limit: int,
        after: str | None,
    ) -> None:
        if after is not None and not _CURSOR.fullmatch(after):
            raise InvalidRequest("after: it is no cursor; take `next` of the page before")
        self._tenant, self._state, self._metadata = tenant, state, metadata
        self._limit, self._after, self._rounds = limit, after, 0
        self._size = LOOK_AT if state or metadata else limit
        self._found: list[JobRecord] = []
        self.page: Page | None = None

    @property
    def range(self) -> tuple[Any, ...]:
        """Arguments of ZREVRANGEBYSCORE for the next round."""
        start = f"({self._after}" if self._after else "+inf"
        return keys.jobs(self._tenant), start, "-inf", 0, self._size, True

    def take(self, entries: Sequence[Any], records: Sequence[JobRecord | None]) -> None:
        """Take one round's ids with their scores, and their records."""
        for (_, score), record in zip(entries, records, strict=True):
            self._after = f"{score:.6f}"
            if record is not None and self._matches(record):
                self._found.append(record)
                if len(self._found) == self._limit:
                    self.page = Page(self._found, self._after)
                    return
        self._rounds += 1
        if len(entries) < self._size:
            self.page = Page(self._found, None)
        elif self._rounds == MOST_ROUNDS:
            self.page = Page(self._found, self._after)

    def _matches(self, record: JobRecord) -> bool:
        given = record.metadata.items()
        return self._state in (None, record.state) and self._metadata.items() <= given
