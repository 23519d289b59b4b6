"""docs/openai-api.md and the gateway agree."""

from __future__ import annotations

from pathlib import Path

from producers.gateway.openai.fields import HANDLING, OPTIONS, PREFIX
from producers.gateway.openai.request import ResponseRequest
from producers.gateway.openai.routes import router
from tests.acceptance.likeness import DIFFERENCES
from tests.contract.test_docs import names, rows

PAGE = Path(__file__).parents[2] / "docs" / "openai-api.md"


def test_the_paths_are_documented() -> None:
    """Each path of the API stands in the page's table."""
    table = rows(PAGE.name, "| path | does |")
    shown = {tuple(name.split(" ")) for row in table for name in names(row[0])}
    assert shown == {
        (method, route.path.replace("{id:path}", "{id}"))
        for route in router.routes
        for method in route.methods  # type: ignore[attr-defined]
    }


def test_the_headers_are_documented() -> None:
    """Each header of a job's options and of the answer's handling, and no other."""
    table = rows(PAGE.name, "| header | means |")
    assert {names(row[0])[0] for row in table} == {PREFIX + name for name in {*OPTIONS, *HANDLING}}
    for name, values in HANDLING.items():
        (row,) = [row for row in table if names(row[0]) == [PREFIX + name]]
        assert set(values) <= set(names(row[1]))


def test_the_fields_of_a_response_are_documented() -> None:
    """Each field that is supported, and no other."""
    table = rows(PAGE.name, "| field | means |")
    assert {name for row in table for name in names(row[0])} == set(ResponseRequest.model_fields)


def test_what_differs_without_the_queue_is_documented() -> None:
    """What the comparing tests leave out is what the page tells, in the same words."""
    table = rows(PAGE.name, "| differs | how |")
    assert {names(row[0])[0]: row[1] for row in table} == DIFFERENCES
