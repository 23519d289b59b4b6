"""The composition root of a gateway process: `create_app` makes its FastAPI application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.telemetry import TelemetryConfig
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from penstock import AsyncClient, ConfigurationError, PenstockError, Settings, StoreError
from penstock.agreement import Agreement
from penstock.errors import NotPermitted
from penstock.mistake import in_words
from penstock.trace import Tracer, tracer_of
from producers.gateway import answer, documents, jobs, telemetry
from producers.gateway.asked import check_query
from producers.gateway.door import HEADERS, JOB_HEADER, Door
from producers.gateway.openai import fields
from producers.gateway.openai import routes as openai_routes
from producers.gateway.openai.offer import Offer
from producers.gateway.problem import Problem, problem_of
from producers.hooks import hook
from producers.hooks import routes as hook_routes

SERVICE = "penstock-gateway"
"""What a gateway is called in traces, where nobody says."""

NO_TELEMETRY: TelemetryConfig = {
    "tracing": False, "metrics": False, "logs": False, "auto_configure": False,
}  # fmt: skip
"""FastAPI's own would tell whole queries, and stream tokens stand in them; see door.py for ours."""


def create_app(settings: Settings) -> FastAPI:
    """The gateway's application; it connects when it is started.

    Raises ConfigurationError where a hook's template is none, or its secret is not set, or where
    traces are wanted and the extra `tracing` is missing.
    """
    tracer = tracer_of(settings, SERVICE)

    # Routers that are included are made again for each application, by its first request.
    app = FastAPI(
        title="Penstock",
        version=version("penstock"),
        summary="Chat completions as jobs.",
        routes=[*jobs.router.routes, *openai_routes.router.routes, *hook_routes.router.routes],
        lifespan=partial(_lifespan, settings, tracer),
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        telemetry=NO_TELEMETRY,
    )
    app.state.offer = Offer()
    app.state.hooks = hook.compiled(settings)
    app.openapi = partial(documents.of, app)  # type: ignore[method-assign]
    app.add_api_route("/v1/openapi.json", _document, include_in_schema=False)
    app.add_exception_handler(PenstockError, _on_error)
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_middleware(Door, settings=settings, tracer=tracer)
    if settings.gateway_origins:
        _admit_pages(app, settings.gateway_origins)
    return app


@asynccontextmanager
async def _lifespan(settings: Settings, tracer: Tracer, app: FastAPI) -> AsyncIterator[None]:
    """Everything that lives as long as the server does."""
    async with AsyncClient(settings, shared=True, tracer=tracer) as client:
        assert client.fanout  # noqa: S101 - it shares one
        client.fanout.on_behind = telemetry.BEHIND.inc
        app.state.client = client
        agreement = Agreement(client.store)
        agreeing = asyncio.create_task(agreement.keep())
        yield
        agreeing.cancel()
        await asyncio.wait([agreeing])
        await agreement.leave()


def _admit_pages(app: FastAPI, origins: tuple[str, ...]) -> None:
    app.add_middleware(
        Pages,
        allow_origins=origins,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=[
            "Authorization",
            "Content-Type",
            "Idempotency-Key",
            "Last-Event-ID",
            "traceparent",
            "tracestate",
            *fields.HEADERS,
        ],
        expose_headers=["Location", "Retry-After", JOB_HEADER],
    )


class Pages(CORSMiddleware):
    """Outside Door, so that its errors are for pages too; a preflight never comes so far."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """With the headers that every other answer has."""
        response = super().preflight_response(request_headers)
        response.raw_headers.extend(HEADERS)
        return response


async def _document(request: Request) -> Response:
    """The whole API; the framework's own route would not hear what it is asked."""
    check_query(request)
    return answer.json(documents.of(request.app))


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, PenstockError)  # noqa: S101 - what it is registered for
    if action := _UNTOLD.get(type(error)):
        request.state.passage.log(action, error=str(error))
    return answer.of_problem(request.url.path, problem_of(error))


_UNTOLD = {
    ConfigurationError: "queue_refused",
    NotPermitted: "queue_refused",
    StoreError: "queue_broken",
}
"""Errors whose text is for the operator only, by what the log calls them."""


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101
    return answer.of_problem(request.url.path, error)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    places = (f"{_parameter(wrong['loc'])}: {in_words(wrong)[0]}" for wrong in error.errors())
    problem = Problem(400, "invalid_request", "invalid request: " + "; ".join(places))
    return answer.of_problem(request.url.path, problem)


def _parameter(place: Sequence[str | int]) -> str | int:
    """The name of a parameter, of which one of several values may be wrong."""
    return place[1] if len(place) > 1 else place[0]


_FOREIGN = {
    404: ("no_such_path", "there is nothing at this path"),
    405: ("no_such_method", "this path does not take {}"),
}
"""What the framework refuses by itself: code and text."""


async def _on_http(request: Request, error: Exception) -> Response:
    """What the framework refuses by itself: an unknown path, a wrong method."""
    assert isinstance(error, HTTPException)  # noqa: S101
    code, text = _FOREIGN.get(error.status_code, ("invalid_request", "this is not understood"))
    text = f"{text.format(request.method)}; /v1/openapi.json lists what there is"
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(documents.methods_at(request.app, request.url.path))
    problem = Problem(error.status_code, code, text, headers)
    return answer.of_problem(request.url.path, problem)
