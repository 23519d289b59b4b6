"""What `penstock routes apply` publishes: the routes and tenants of one penstock.toml.

A route is published as its table says, so that a worker fills in the rest from its own settings, as
it does with its own file. Of tokens there are only the names of variables.
"""

from __future__ import annotations

from typing import Self

from pydantic import ValidationError

from penstock.errors import ConfigurationError
from penstock.settings import (
    DEFAULT_ROUTE,
    Frozen,
    Name,
    RouteOverrides,
    Settings,
    Tenant,
    TenantName,
)

_FROM_THE_TOP = {"url": "upstream_url", "model": "model"}
"""Fields of a route, and the settings they come from where its table leaves them out."""


class Publication(Frozen):
    """Routes and tenants, for workers that run already."""

    routes: dict[Name, RouteOverrides]
    tenants: dict[TenantName, Tenant]

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """What these settings say; a default nobody has written down is not said."""
        routes = {DEFAULT_ROUTE: RouteOverrides(), **settings.routes}
        completed = {name: _completed(route, settings) for name, route in routes.items()}
        return cls(routes=completed, tenants=settings.tenants)

    @classmethod
    def read(cls, text: bytes) -> Self:
        """Read what was published; raises ConfigurationError."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            (first, *_) = error.errors(include_url=False, include_input=False)
            place = ".".join(map(str, first["loc"]))
            raise ConfigurationError(f"{place}: {first['msg']}") from None

    @property
    def text(self) -> str:
        """As JSON: only what was given."""
        return self.model_dump_json(exclude_unset=True)


def _completed(route: RouteOverrides, settings: Settings) -> RouteOverrides:
    said = {
        field: getattr(settings, setting)
        for field, setting in _FROM_THE_TOP.items()
        if getattr(route, field) is None and setting in settings.model_fields_set
    }
    return route.model_copy(update=said)
