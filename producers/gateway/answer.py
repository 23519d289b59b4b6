"""Makes responses: JSON, and errors in the shape of the API that was asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from starlette.responses import Response

from producers.gateway.problem import Problem

Shape = Callable[[Problem], dict[str, Any]]

SHAPES: dict[str, Shape] = {}
"""The error bodies of the paths that begin so; all others have the native one."""


def json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    body = msgspec.json.encode(content)
    return Response(body, status, headers=headers, media_type="application/json")


def of_problem(path: str, problem: Problem) -> Response:
    """An error answer."""
    shape = next((SHAPES[start] for start in SHAPES if path.startswith(start)), Problem.as_dict)
    return json(shape(problem), problem.status, problem.headers)
