"""All checks, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from ops.doctor.finding import Finding
from ops.doctor.rights import allowed, check_rights
from ops.doctor.routes import check_routes
from ops.doctor.server import check_server
from ops.doctor.settings import read_settings, unknown_routes
from ops.doctor.webhooks import check_webhooks
from ops.doctor.workers import check_records, check_service, check_workers, published_urls
from penstock import Client, PenstockError, Settings, StoreUnavailable
from penstock.store import Store


class Examination:
    """Runs the checks.

    Attributes:
        doing: what is being checked now, for whoever waits.
    """

    def __init__(self) -> None:
        self.doing = "reading the settings"

    def findings(self) -> Iterator[Finding]:
        """What is found, as soon as it is; without settings nothing else can be checked."""
        settings, found = read_settings()
        yield from found
        if settings is None:
            return
        self._urls: dict[str, str] = {}
        yield from self._redis(settings)
        self.doing = "asking the upstream"
        yield from check_routes(settings, self._urls)

    def _redis(self, settings: Settings) -> Iterator[Finding]:
        """Without a server there are no workers to be found."""
        self.doing = f"asking Redis at {settings.safe_url}"
        try:
            with closing(Store(settings.server_url)) as store:
                yield from allowed("server", check_server(store))
                self.doing = "asking what users may do"
                yield from check_rights(store)
                self.doing = "pinging the workers"
                yield from allowed("workers", check_workers(settings, store))
                yield from allowed("records", check_records(store))
                yield from allowed("routes", self._routes(settings, store))
                self.doing = "looking at the webhooks"
                yield from allowed("webhooks", check_webhooks(settings))
        except StoreUnavailable as error:
            yield Finding("server", "unreachable", str(error), "see the message")
        except PenstockError as error:
            yield Finding("server", "problem", str(error), "see the message")

    def _routes(self, settings: Settings, store: Store) -> Iterator[Finding]:
        """What was ever published, and whether workers serve it."""
        self._urls = published_urls(settings, store)
        with Client(settings) as client:
            surveys = client.surveys()
        yield from check_service(store, surveys)
        yield from unknown_routes(settings, [survey.route for survey in surveys])
