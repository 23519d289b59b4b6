"""What no table of the settings can see by itself: whether those it names are there.

Everything here reads the tables as they were given, so that it can speak up beside what is wrong
within them; what has no sense yet is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from pydantic import BaseModel
from pydantic_core import InitErrorDetails

from penstock.mistake import NAME, Place, dotted, wrong

Fallbacks: TypeAlias = Mapping[str, Sequence[str]]
"""By route: the routes it names."""


BUDGETS = ("budget_day", "budget_month")


def mistakes(given: Any, default: str, priced: str) -> Iterator[InitErrorDetails]:
    """What is wrong between the tables of these settings.

    Args:
        given: by name, before anything is checked.
        default: a route that is there without a table.
        priced: the model whose prices hold where a route states none.
    """
    if not isinstance(given, Mapping):
        return
    routes = {default: {}, **_tables(given, "routes")}
    fallbacks = {name: _names(table.get("fallback")) for name, table in routes.items()}
    yield from _wrong_fallbacks(fallbacks)
    for position, name in enumerate(_names(_split(given.get("worker_routes")))):
        if name and name not in routes:
            yield _unknown(name, ("worker_routes", position), routes)
    tenants = _tables(given, "tenants").values()
    if any(tenant.get(budget) is not None for tenant in tenants for budget in BUDGETS):
        yield from _missing_prices(routes, given.get("model") or priced, priced)


def _tables(given: Mapping[str, Any], name: str) -> dict[str, Mapping[str, Any]]:
    tables = given.get(name)
    if not isinstance(tables, Mapping):
        return {}
    return {str(key): _table(value) for key, value in tables.items()}


def _table(value: Any) -> Mapping[str, Any]:
    if isinstance(value, BaseModel):
        return value.model_dump(exclude_unset=True)
    return value if isinstance(value, Mapping) else {}


def _names(given: Any) -> Sequence[str]:
    """What is no route's name is "" here: the table itself complains of it."""
    if not isinstance(given, list | tuple):
        return ()
    return [name if isinstance(name, str) and re.match(NAME, name) else "" for name in given]


def _split(given: Any) -> Any:
    """A variable has its names in one text."""
    if not isinstance(given, str):
        return given
    return [name for name in map(str.strip, given.split(",")) if name]


def _missing_prices(
    routes: Mapping[str, Mapping[str, Any]], model: str, priced: str
) -> Iterator[InitErrorDetails]:
    """A budget is kept by prices: another model's, or another provider's, would be a guess."""
    for route, table in routes.items():
        foreign = table.get("url") is not None or (table.get("model") or model) != priced
        if foreign and table.get("prices") is None:
            text = "is missing: tenants have budgets, and the default prices are not this model's"
            error = wrong(text, "add prices = { input = …, output = … }, USD per 1M tokens")
            yield InitErrorDetails(type=error, loc=("routes", route, "prices"), input=None)


def _wrong_fallbacks(fallbacks: Fallbacks) -> Iterator[InitErrorDetails]:
    told: set[frozenset[str]] = set()
    for route, names in fallbacks.items():
        for position, name in enumerate(names):
            place = ("routes", route, "fallback", position)
            if name not in fallbacks:
                if name:
                    yield _unknown(name, place, fallbacks)
                continue
            circle = _way(fallbacks, name, route)
            if circle and frozenset(circle) not in told:
                told.add(frozenset(circle))
                steps = " -> ".join(dotted((step,)) for step in [route, *circle])
                error = wrong(f"leads back: {steps}", "take one of them out")
                yield InitErrorDetails(type=error, loc=place, input=name)


def _unknown(name: str, place: Place, routes: Iterable[str]) -> InitErrorDetails:
    return InitErrorDetails(type=wrong(*no_route(name, routes)), loc=place, input=name)


def no_route(name: str, routes: Iterable[str]) -> tuple[str, str]:
    """What is wrong with a name that is none of these routes', and the remedy."""
    known = ", ".join(dotted((route,)) for route in sorted(routes))
    added = dotted(("routes", name))
    return (
        f"there is no route {name!r}",
        f"known routes: {known}; choose one of these, or add a table [{added}]",
    )


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
