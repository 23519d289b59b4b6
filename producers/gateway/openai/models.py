"""The models that can be asked for, as OpenAI's API lists them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def listed(models: Mapping[str, str]) -> list[dict[str, Any]]:
    """Each model once, as OpenAI's `model` object, with the routes that lead to it.

    Args:
        models: by route.

    `created` is 0: nobody knows when a model began.
    """
    routes: dict[str, list[str]] = {}
    for name, model in models.items():
        routes.setdefault(model, []).append(name)
    return [
        {"id": id_, "object": "model", "created": 0, "owned_by": "penstock", "routes": names}
        for id_, names in routes.items()
    ]
