"""The routes of this process: those of its own settings, and what was applied to them since."""

from __future__ import annotations

from collections.abc import Sequence

from penstock import commands
from penstock.commands import Command
from penstock.errors import ConfigurationError
from penstock.publication import Publication
from penstock.settings import Route, RouteOverrides, Settings
from worker import telemetry


class Routes:
    """What this process serves, and how.

    Args:
        settings: this worker's own.
        template, celery: how to ring it, see `commands.register`.

    Attributes:
        version: of what was applied last; set from what `registration` came to.
    """

    def __init__(self, settings: Settings, template: str, celery: str) -> None:
        self._settings = settings
        self._ring = template, celery
        self.version = ""

    @property
    def served(self) -> Sequence[str]:
        """The names of the routes this process serves."""
        return list(self._settings.served_routes)

    def route(self, name: str) -> Route:
        """The route of this name as it is now; raises UnknownRoute."""
        return self._settings.route(name)

    @property
    def registration(self) -> Command[str]:
        """How to tell a server about this process and its routes; its result is the version."""
        settings = self._settings
        return commands.register(*self._ring, settings.served_routes, settings.tenants)

    def take_up(self, version: str, publication: Publication) -> Sequence[str]:
        """Go on with these routes; the names of those that this process has not served before.

        A route that is no longer in the publication is served on: jobs may wait for it. One whose
        token this process does not have stays as it is: asked without it, an upstream refuses its
        jobs for good.
        """
        before, own = self.served, self._settings.routes
        taken = {
            name: route
            for name, route in publication.routes.items()
            if not self._serves(name) or self._has_token(name, route)
        }
        self._settings = self._settings.applying({**own, **taken}, publication.tenants)
        self.version = version
        telemetry.log("routes_applied", version=version, routes=self.served)
        return [name for name in self.served if name not in before]

    def _serves(self, name: str) -> bool:
        chosen = self._settings.worker_routes
        return chosen is None or name in chosen

    def _has_token(self, name: str, route: RouteOverrides) -> bool:
        try:
            asked = self._settings.applying({name: route}, {}).route(name)
        except ConfigurationError:  # it is set to what no token can be
            asked = None
        if route.token_env and (asked is None or asked.token is None):
            telemetry.log("token_missing", route=name, variable=route.token_env)
            return False
        return True
