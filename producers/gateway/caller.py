"""Who is asking: the tenant and scopes of each request, from its API key.

Where no key was ever made, the gateway is one person's own: it listens on loopback only, whoever
reaches it may do everything, and web pages are kept out, because a browser would carry their
requests to it.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, NamedTuple
from urllib.parse import urlsplit

from fastapi import Depends, Path, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from penstock import AsyncClient, Settings, access
from penstock.access import Scope, Visit
from producers.gateway.asked import check_query
from producers.gateway.problem import Problem

BEARER = HTTPBearer(auto_error=False, description="An API key: `penstock keys create`.")


class Caller(NamedTuple):
    """Who is asking.

    Attributes:
        tenant: whose jobs are seen.
        scopes: what may be done.
        key: the API key's id, for logs; "" where the gateway needs none.
    """

    tenant: str
    scopes: frozenset[Scope]
    key: str

    def may(self, scope: Scope) -> bool:
        """Whether this caller may do that."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def tenant_of(self, named: Any) -> Any:
        """The tenant that a request names or leaves out; raises Problem where it is another's."""
        if named in (None, self.tenant):
            return self.tenant
        if Scope.ADMIN not in self.scopes:
            raise Problem(403, "foreign_tenant", "only a key of scope admin may name a tenant")
        return named

    def may_touch(self, tenant: str) -> bool:
        """Whether jobs of this tenant are the caller's to see."""
        return tenant == self.tenant or Scope.ADMIN in self.scopes


def client_of(request: Request) -> AsyncClient:
    """The gateway's client."""
    client: AsyncClient = request.app.state.client
    return client


Shown = Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]
Queue = Annotated[AsyncClient, Depends(client_of)]


def asking(scope: Scope) -> Callable[..., Awaitable[Caller]]:
    """A dependency: the caller, who has this scope."""

    async def caller(request: Request, queue: Queue, shown: Shown) -> Caller:
        return await identify(request, queue, shown.credentials if shown else None, scope)

    caller.scope = scope  # type: ignore[attr-defined]  # for whoever lists who may do what
    return caller


Submitter = Annotated[Caller, Depends(asking(Scope.SUBMIT))]
Reader = Annotated[Caller, Depends(asking(Scope.READ))]
Canceller = Annotated[Caller, Depends(asking(Scope.CANCEL))]

Token = Annotated[str | None, Query(description="A stream token, in place of an API key.")]


async def watching(
    request: Request, queue: Queue, shown: Shown, id_: Annotated[str, Path(alias="id")],
    token: Token = None,
) -> Caller:  # fmt: skip
    """A dependency: who may read this job's events, by a key or by a stream token."""
    if token is None:
        return await identify(request, queue, shown.credentials if shown else None, Scope.READ)
    loan = await queue.store.run(access.redeem(token))
    if loan is None or loan.job != id_:
        text = "this stream token is not valid for this job, or not any more; ask for a new one"
        raise Problem(401, "invalid_token", text, {"WWW-Authenticate": "Bearer"})
    check_query(request)
    return Caller(loan.tenant, frozenset({Scope.READ}), "")


watching.scope = Scope.READ  # type: ignore[attr-defined]
Watcher = Annotated[Caller, Depends(watching)]


async def identify(request: Request, queue: AsyncClient, key: str | None, scope: Scope) -> Caller:
    """The caller who shows this key; raises Problem where it may not come in, or do that."""
    visit = await queue.store.run(access.visit(key, queue.settings.gateway_requests_per_minute))
    if visit is None:
        raise _unauthorized(key)
    if not visit.key:
        _check_private(request, queue.settings)
    caller = Caller(visit.tenant, visit.scopes, visit.key)
    request.state.caller = caller
    _check_pace(visit)
    if not caller.may(scope):
        raise Problem(403, "scope_missing", f"this needs a key of scope {scope}")
    check_query(request)  # strangers are not told what a path takes
    return caller


def _unauthorized(key: str | None) -> Problem:
    text = "this API key is not known, or not any more" if key else "an API key is needed"
    text += "; send it as Authorization: Bearer pk_..."
    return Problem(401, "invalid_key", text, {"WWW-Authenticate": "Bearer"})


def _check_pace(visit: Visit) -> None:
    if visit.wait > 0:
        seconds = str(math.ceil(visit.wait))
        text = f"this key asks too often; try again in {seconds} s"
        raise Problem(429, "too_many_requests", text, {"Retry-After": seconds})


def _check_private(request: Request, settings: Settings) -> None:
    """Raise Problem unless it is this machine that asks, and no web page through its browser."""
    if not is_loopback(settings.gateway_host):
        text = "there is no API key yet; make one with `penstock keys create`"
        raise Problem(401, "no_key", text, {"WWW-Authenticate": "Bearer"})
    if not is_loopback(urlsplit(f"//{request.headers.get('host', '')}").hostname or ""):
        raise Problem(421, "foreign_host", "without any API key only this machine is served")
    origin = request.headers.get("origin")
    if origin and origin not in (settings.gateway_origins or ()):
        raise Problem(403, "foreign_origin", "without any API key no web page is served")


def is_loopback(host: str) -> bool:
    """Whether this host name or address can only be this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
