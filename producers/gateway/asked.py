"""Refuses what a request says and nobody would hear: unknown parameters, headers, bodies."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant

from producers.gateway.body import json_body
from producers.gateway.problem import Problem

PREFIX = "x-penstock-"


def check_query(request: Request) -> None:
    """Raise Problem for a query parameter that the request's route does not have."""
    for name in request.query_params.keys() - _taken(request.scope["route"].dependant):
        text = f"{name}: is not supported as a query parameter here"
        raise Problem(400, "unknown_parameter", text)


def _taken(dependant: Dependant) -> set[str]:
    """The names of the query parameters of a route, or of what it depends on."""
    names = {field.alias for field in dependant.query_params}
    return names.union(*map(_taken, dependant.dependencies))


async def no_options(request: Request) -> None:
    """A dependency: raises Problem for a job's option as a header, where it is a field."""
    for name in request.headers:
        if name.lower().startswith(PREFIX):
            text = f"{name}: is no header of this path; a job's options stand in its body"
            raise Problem(400, "unknown_header", text)


async def no_body(body: Annotated[dict[str, Any], Depends(json_body)]) -> None:
    """A dependency: raises Problem for a body that says something."""
    if body:
        raise Problem(400, "unknown_body", f"{next(iter(body))}: this path takes no body")
