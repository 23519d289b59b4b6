"""What no table of the settings can see by itself: whether those it names are there.

Everything here reads the tables as they were given, so that it can speak up beside what is wrong
within them; what has no sense yet is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from pydantic import BaseModel
from pydantic_core import InitErrorDetails

from penstock.mistake import dotted, wrong

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
    yield from _wrong_fallbacks({name: _names(table) for name, table in routes.items()})
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


def _names(table: Mapping[str, Any]) -> Sequence[str]:
    """What is no text is no route's name, and is "" here: the table itself complains of it."""
    names = table.get("fallback", ())
    if not isinstance(names, list | tuple):
        return ()
    return [name if isinstance(name, str) else "" for name in names]


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
                known = ", ".join(dotted((route,)) for route in sorted(fallbacks))
                error = wrong(f"there is no route {name!r}", f"known routes: {known}")
                yield InitErrorDetails(type=error, loc=place, input=name)
                continue
            circle = _way(fallbacks, name, route)
            if circle and frozenset(circle) not in told:
                told.add(frozenset(circle))
                steps = " -> ".join(dotted((step,)) for step in [route, *circle])
                error = wrong(f"leads back: {steps}", "take one of them out")
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
