"""The models that can be asked for: those of the routes. Pure."""

from __future__ import annotations

from typing import Any

from penstock.settings import Settings


def listed(settings: Settings) -> list[dict[str, Any]]:
    """Each model once, as OpenAI's `model` object, with the routes that lead to it.

    `created` is 0: nobody knows when a model began.
    """
    routes: dict[str, list[str]] = {}
    for name, route in settings.resolved_routes.items():
        routes.setdefault(route.model, []).append(name)
    return [
        {"id": id_, "object": "model", "created": 0, "owned_by": "penstock", "routes": names}
        for id_, names in routes.items()
    ]
