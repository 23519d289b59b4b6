"""Checks of the routes: whether each upstream answers, and takes the token."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import urlsplit

from ops.doctor.finding import Finding
from penstock import Settings, UpstreamError
from penstock.settings import Route
from worker.upstream.client import Upstream

LOCAL = {"localhost", "127.0.0.1", "::1"}


def check_routes(settings: Settings, published: Mapping[str, str]) -> Iterator[Finding]:
    """All at the same time, where the workers ask; that may be elsewhere than these settings say.

    Args:
        settings: with the routes.
        published: URLs by route, as the workers published them.
    """
    routes = dict(settings.served_routes)
    for name, route in routes.items():
        if (url := published.get(name, route.url)) != route.url:
            routes[name] = Route(url=url, model=route.model)  # our token is not for them
            text = f"the workers ask {url}, these settings say {route.url}"
            advice = "run penstock routes apply, unless this is a simulation"
            yield Finding(f"route {name}", "warning", text, advice)
    yield from asyncio.run(_check_all(routes.items()))


async def _check_all(routes: Iterable[tuple[str, Route]]) -> list[Finding]:
    upstream = Upstream()
    try:
        return await asyncio.gather(*(_check(upstream, name, route) for name, route in routes))
    finally:
        await upstream.close()


async def _check(upstream: Upstream, name: str, route: Route) -> Finding:
    try:
        status, models = await upstream.probe(route)
    except UpstreamError as error:
        advice = f"check the route's url, {route.url}, and that the upstream runs"
        return Finding(f"route {name}", "problem", error.detail or error.message, advice)
    if status == 200 and models and route.model not in models:
        text = f"{route.url}/models does not list {route.model}"
        close = difflib.get_close_matches(route.model, models, 1)
        advice = f"did you mean {close[0]}?" if close else "check the route's model"
        return Finding(f"route {name}", "warning", text, advice)
    return judge(name, route, status)


def judge(name: str, route: Route, status: int) -> Finding:
    """What the status of GET /models means for a route."""
    subject, asked = f"route {name}", f"{route.url}/models answers {status}"
    token = _token(route)
    match status:
        case 200 if route.token is None and urlsplit(route.url).hostname not in LOCAL:
            advice = f"set {token}, unless this upstream asks for none"
            return Finding(subject, "warning", f"{asked}, but there is no token", advice)
        case 200:
            return Finding(subject, "ok", asked)
        case 401 | 403:
            what = "without a token" if route.token is None else "to this token"
            return Finding(subject, "problem", f"{asked} {what}", f"set {token} to a valid one")
        case 404:
            advice = "check that the url ends where /chat/completions begins"
            return Finding(subject, "warning", asked, advice)
        case _:
            return Finding(subject, "warning", asked, "try again, and look at the upstream")


def _token(route: Route) -> str:
    return route.token_env or "DEEPINFRA_TOKEN"
