"""The documents say what the code does."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import get_args
from xml.etree import ElementTree

from penstock.events import EventType
from penstock.hook import Hook, Scheme
from penstock.settings import SCHEDULE, SECRETS, Prices, RouteOverrides, Settings, Tenant, Timeouts
from penstock.state import TRANSITIONS, JobState
from producers.gateway import census, problem
from producers.gateway import telemetry as gateway_telemetry
from producers.hooks import routes
from tests.gateways import native_routes
from worker import telemetry

DOCS = Path(__file__).parents[2] / "docs"


def rows(page: str, heading: str) -> list[list[str]]:
    """The rows of the table whose header line is this."""
    text = (DOCS / page).read_text()
    assert heading in text, f"{page} has no table {heading}"
    lines = text[text.index(heading) :].splitlines()[2:]
    table = []
    for line in lines:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return table


def names(cell: str) -> list[str]:
    """Everything in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def test_the_states_are_documented() -> None:
    """docs/lifecycle.md has each state once, in the order of the code."""
    table = rows("lifecycle.md", "| state | meaning | who moves it on |")
    assert [names(row[0])[0] for row in table] == [str(state) for state in JobState]


def test_the_ways_between_states_are_documented() -> None:
    """docs/lifecycle.md shows exactly the transitions that state.py allows."""
    table = rows("lifecycle.md", "| from | to |")
    shown = {names(row[0])[0]: set(names(row[1])) for row in table}
    assert shown == {str(state): {str(s) for s in to} for state, to in TRANSITIONS.items()}


def test_the_picture_of_the_states_is_true() -> None:
    """docs/pictures/states.svg has each state once, and the same ways between them."""
    path = DOCS / "pictures" / "states.svg"
    picture = ElementTree.parse(path).getroot()  # noqa: S314 - our own
    states = [text.text for text in picture.iterfind(".//*[@id='states']/{*}text")]
    assert sorted(map(str, states)) == sorted(map(str, JobState))
    ways: dict[str, set[str]] = {str(state): set() for state in JobState}
    for way in picture.iterfind(".//*[@data-from]"):
        for start in way.attrib["data-from"].split():
            ways[start] |= set(way.attrib["data-to"].split())
    assert ways == {str(state): {str(s) for s in to} for state, to in TRANSITIONS.items()}


def test_the_events_are_documented() -> None:
    """docs/events.md has each type of event once."""
    table = rows("events.md", "| type | data |")
    assert [names(row[0])[0] for row in table] == [str(kind) for kind in EventType]


def test_the_settings_are_documented() -> None:
    """docs/configuration.md has each setting with its variable and its default."""
    table = rows("configuration.md", "| setting | variable | default | meaning |")
    shown = {names(row[0])[0]: (names(row[1]), names(row[2])) for row in table}
    tables = ("routes", "tenants", "hooks")
    assert list(shown) == [name for name in Settings.model_fields if name not in tables]
    for name, (variables, defaults) in shown.items():
        expected = "DEEPINFRA_TOKEN" if name == "token" else f"PENSTOCK_{name.upper()}"
        assert variables == [expected]
        default = Settings.model_fields[name].default
        assert defaults == ([] if default is None else [plain(default)])


def test_the_secret_files_are_documented() -> None:
    """docs/configuration.md names the file variable of each secret."""
    page = (DOCS / "configuration.md").read_text()
    assert {name for name in SECRETS if f"`{name}_FILE`" not in page} == set()


def test_the_route_settings_are_documented() -> None:
    """docs/configuration.md has each field of a route's table, of its timeouts and prices."""
    table = rows("configuration.md", "| field | default | meaning |")
    shown = {names(row[0])[0]: names(row[1]) for row in table}
    expected = {}
    for name, field in RouteOverrides.model_fields.items():
        if name not in ("timeouts", "prices"):
            expected[name] = [] if field.default is None else [plain(field.default)]
    for group, model in {"timeouts": Timeouts, "prices": Prices}.items():
        for name, field in model.model_fields.items():
            has_none = field.is_required() or field.default is None
            expected[f"{group}.{name}"] = [] if has_none else [plain(field.default)]
    assert shown == expected


def test_the_tenant_settings_are_documented() -> None:
    """docs/configuration.md has each field of a tenant's table."""
    table = rows("configuration.md", "| of a tenant | default | meaning |")
    shown = {names(row[0])[0]: names(row[1]) for row in table}
    assert shown == {
        name: [] if field.default is None else [plain(field.default)]
        for name, field in Tenant.model_fields.items()
    }


def test_the_hook_settings_are_documented() -> None:
    """docs/configuration.md has each field of a hook's table."""
    table = rows("configuration.md", "| of a hook | default | meaning |")
    shown = {names(row[0])[0]: names(row[1]) for row in table}
    assert shown == {
        name: [] if field.is_required() or field.default is None else [plain(field.default)]
        for name, field in Hook.model_fields.items()
        if name != "request"
    } | {"request": []}


def test_the_schemes_of_hooks_are_documented() -> None:
    """docs/webhooks.md tells of each scheme by which a sender proves itself."""
    table = rows("webhooks.md", "| `verify` | checked | a delivery is known by |")
    assert {names(row[0])[0] for row in table} == set(get_args(Scheme))


def test_the_answers_of_hooks_are_documented() -> None:
    """docs/webhooks.md has each status of the route, but for a fault of ours."""
    table = rows("webhooks.md", "| answer | when |")
    (route,) = routes.router.routes
    assert {int(row[0]) for row in table} == set(route.responses) - {500}  # type: ignore[attr-defined]


def test_the_schedule_of_webhooks_is_documented() -> None:
    """docs/webhooks.md says after how long a delivery is tried again."""
    page = (DOCS / "webhooks.md").read_text().replace("\n", " ")
    shown = "5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h and 24 h"
    units = {"s": 1, "min": 60, "h": 3600}
    waits = [each.split() for each in shown.replace(" and", ",").split(", ")]
    assert shown in page
    assert tuple(int(n) * units[unit] for n, unit in waits) == SCHEDULE


def plain(default: object) -> str:
    """A default as one would write it."""
    return f"{default:g}" if isinstance(default, float) else str(default)


def test_the_log_lines_are_documented() -> None:
    """docs/operations.md has each action that a worker logs, with its level."""
    table = rows("operations.md", "| action | level | meaning |")
    shown = {names(row[0])[0]: row[1] for row in table}
    assert shown == {name: action.level for name, action in telemetry.ACTIONS.items()}


def test_the_gateways_log_lines_are_documented() -> None:
    """docs/http-api.md has each action that a gateway logs, with its level."""
    table = rows("http-api.md", "| action of a gateway | level | meaning |")
    shown = {names(row[0])[0]: row[1] for row in table}
    assert shown == {name: action.level for name, action in gateway_telemetry.ACTIONS.items()}


def test_the_gateways_errors_are_documented() -> None:
    """docs/http-api.md has each status with its type."""
    table = rows("http-api.md", "| status | type | when |")
    assert {int(row[0]): names(row[1])[0] for row in table} == problem.TYPES


def test_the_gateways_routes_are_documented() -> None:
    """docs/http-api.md has each request of the native API with the scope that it takes."""
    table = rows("http-api.md", "| request | scope | answers |")
    assert {names(row[0])[0]: names(row[1])[0] for row in table} == {
        f"{method} {route.path}": str(scope) for route, method, scope in native_routes()
    }


def test_the_metrics_are_documented() -> None:
    """docs/operations.md has each metric of workers and gateways once, with its labels."""
    table = rows("operations.md", "| metric | of a | labels | meaning |")
    shown = [(names(row[0])[0], row[1], tuple(names(row[2]))) for row in table]
    expected = counted_by(telemetry, "worker") + counted_by(gateway_telemetry, "gateway")
    expected += [(name, "gateway, of all", each) for name, (each, _) in census.GAUGES.items()]
    assert sorted(shown) == sorted(expected)


def counted_by(module: ModuleType, whose: str) -> list[tuple[str, str, tuple[str, ...]]]:
    """A module's metrics: name, whose they are, labels."""
    metrics = [value for value in vars(module).values() if hasattr(value, "_labelnames")]
    return [(metric._name, whose, metric._labelnames) for metric in metrics]


def test_links_lead_somewhere() -> None:
    """Every relative link in the README and the docs names a file that exists."""
    root = DOCS.parent
    for page in [root / "README.md", *DOCS.glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
