"""What no table of the settings can see by itself: whether those it names are there.

Everything here reads the tables as they were given, so that it can speak up beside what is wrong
within them; what has no sense yet is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from pydantic import BaseModel
from pydantic_core import InitErrorDetails

from penstock.mistake import wrong

Fallbacks: TypeAlias = Mapping[str, Sequence[str]]
"""By route: the routes it names."""


def mistakes(given: Any, default: str) -> Iterator[InitErrorDetails]:
    """What is wrong between the tables of these settings; `default` is a route that always is."""
    routes = {default: {}, **_tables(given, "routes")}
    yield from _wrong_fallbacks({name: _names(table) for name, table in routes.items()})


def _tables(given: Any, name: str) -> dict[str, Mapping[str, Any]]:
    tables = given.get(name) if isinstance(given, Mapping) else None
    if not isinstance(tables, Mapping):
        return {}
    return {str(key): _table(value) for key, value in tables.items()}


def _table(value: Any) -> Mapping[str, Any]:
    if isinstance(value, BaseModel):
        return value.model_dump(exclude_unset=True)
    return value if isinstance(value, Mapping) else {}


def _names(table: Mapping[str, Any]) -> Sequence[str]:
    """What is no text is no route's name, and is "" here: the table itself complains of it."""
    names = table.get("fallback", ())
    if not isinstance(names, list | tuple):
        return ()
    return [name if isinstance(name, str) else "" for name in names]


def _wrong_fallbacks(fallbacks: Fallbacks) -> Iterator[InitErrorDetails]:
    told: set[frozenset[str]] = set()
    for route, names in fallbacks.items():
        for position, name in enumerate(names):
            place = ("routes", route, "fallback", position)
            if name not in fallbacks:
                known = ", ".join(sorted(fallbacks))
                error = wrong(f"there is no route {name!r}", f"known routes: {known}")
                yield InitErrorDetails(type=error, loc=place, input=name)
                continue
            circle = _way(fallbacks, name, route)
            if circle and frozenset(circle) not in told:
                told.add(frozenset(circle))
                error = wrong(
                    f"leads back: {' -> '.join([route, *circle])}", "take one of them out"
                )
                yield InitErrorDetails(type=error, loc=place, input=name)


def _way(fallbacks: Fallbacks, start: str, end: str) -> list[str]:
    """A shortest way along fallbacks from `start` to `end`, both included; empty: there is none."""
    ways, seen = [[start]], {start}
    for way in ways:  # grows while it is walked
        if way[-1] == end:
            return way
        for name in fallbacks.get(way[-1], ()):
            if name not in seen:
                seen.add(name)
                ways.append([*way, name])
    return []
