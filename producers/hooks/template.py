"""Templates over what others send: Jinja2 in its sandbox, with bounds on time, turns and output.

The template is the operator's own; the payload is a stranger's. So no payload may make a harmless
template run for long, or its output grow without end.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from jinja2 import (
    ChainableUndefined,
    StrictUndefined,
    TemplateError,
    TemplateSyntaxError,
    Undefined,
    nodes,
)
from jinja2.meta import find_undeclared_variables
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from producers.hooks.bounds import TooMuch, bounded, check_growth

MAX_TURNS = 10_000
"""Turns of loops, and calls, in one rendering."""

MAX_OUTPUT = 1024 * 1024
"""Characters of one rendering: four times a context of 262,144 tokens would not fit a route."""

MAX_SECONDS = 0.25
"""Of CPU, for one rendering; asked at each turn and each piece of output. What one filter may take
is bounded by what it is given: see bounds.py."""

MAX_NUMBER = 2**63

_budget: ContextVar[Budget] = ContextVar("penstock_template_budget")


class TemplateFailed(Exception):
    """A template could not be rendered; the text says why, without anything of the payload."""


class NoTemplate(Exception):
    """A text is no template, or no expression; the error's text says why, and where in it."""


class Budget:
    """What one rendering may still do."""

    def __init__(self) -> None:
        self._turns = MAX_TURNS
        self._output = MAX_OUTPUT
        self._end = time.thread_time() + MAX_SECONDS

    def turn(self) -> None:
        """A loop goes round, or something is called."""
        self._turns -= 1
        if self._turns < 0:
            raise TemplateFailed(f"it takes over {MAX_TURNS:,} turns of loops and calls")
        if time.thread_time() > self._end:
            raise TemplateFailed(f"it takes over {MAX_SECONDS:g} s of CPU")

    def put(self, size: int) -> None:
        """So many characters come out."""
        self._output -= size
        if self._output < 0:
            raise TemplateFailed(f"its output is over {MAX_OUTPUT:,} characters")


def _counted(items: Iterable[Any]) -> Iterator[Any]:
    for item in items:
        _budget.get().turn()
        yield item


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja2's sandbox, whose loops, calls and operators are counted.

    `payload.items` is the payload's own field of that name, not a dict's method.
    """

    intercepted_binops = frozenset({"*", "**", "%", "+"})

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for loop in tree.find_all(nodes.For):
            loop.iter = nodes.Filter(loop.iter, "counted", [], [], None, None, lineno=loop.lineno)
        return tree

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call something, and count it."""
        _budget.get().turn()
        method = getattr(function, "__wrapped__", function)  # the sandbox wraps `format`
        if isinstance(owner := getattr(method, "__self__", None), str):
            check_growth(method.__name__, [owner, *args], kwargs)
        return super().call(context, function, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Refuse what makes much out of little."""
        _budget.get().turn()
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        if operator == "+" or (operator != "**" and numbers and abs(left) < MAX_NUMBER):
            return super().call_binop(context, operator, left, right)
        raise TemplateFailed(f"{operator} is for numbers only" if not numbers else "no powers")

    def getattr(self, obj: Any, attribute: str) -> Any:
        """A field of a mapping goes before a method."""
        if isinstance(obj, dict) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)


def _said(value: Any) -> Any:
    """A field that is null says nothing; a method is none: `payload.title` of a text is one."""
    if callable(value) and not isinstance(value, Undefined):
        raise TemplateFailed("it names a method where it should name a field")
    return "" if value is None else value


def _sandbox(undefined: type[Any]) -> Sandbox:
    sandbox = Sandbox(undefined=undefined, autoescape=False, finalize=_said, cache_size=0)
    for name, filter_ in sandbox.filters.items():
        sandbox.filters[name] = bounded(name, filter_, _counted)
    sandbox.filters["counted"] = _counted
    del sandbox.globals["lipsum"]
    return sandbox


KNOWN = {"payload", "headers"}
"""What a template may speak of."""

_RENDERING = _sandbox(StrictUndefined)
_DECIDING = _sandbox(ChainableUndefined)


class Template:
    """A text to be rendered: a field that the payload does not have is an error.

    Raises NoTemplate where it is none. `place` stands in what `render` raises.
    """

    def __init__(self, source: str, place: str) -> None:
        self._place = place
        with _compiling():
            _check_names(_RENDERING.parse(source))
            self._template = _RENDERING.from_string(source)

    def render(self, values: Mapping[str, Any]) -> str:
        """The text; raises TemplateFailed."""
        budget = Budget()
        token = _budget.set(budget)
        pieces = []
        try:
            for piece in self._template.generate(**values):
                budget.put(len(piece))
                budget.turn()
                pieces.append(piece)
        except Exception as error:
            raise _failed(error, self._place) from None
        finally:
            _budget.reset(token)
        return "".join(pieces).strip()


class Expression:
    """A condition; a field that the payload does not have is false.

    Raises NoTemplate where it is none. `place` stands in what `holds` raises.
    """

    def __init__(self, source: str, place: str) -> None:
        self._place = place
        with _compiling():
            self._holds = _DECIDING.compile_expression(source, undefined_to_none=True)
            _check_names(_DECIDING.parse(f"{{{{ ({source}) }}}}"))

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether it is true; raises TemplateFailed."""
        token = _budget.set(Budget())
        try:
            return bool(self._holds(**values))
        except Exception as error:
            raise _failed(error, self._place) from None
        finally:
            _budget.reset(token)


@contextmanager
def _compiling() -> Iterator[None]:
    try:
        yield
    except TemplateSyntaxError as error:
        said = (error.message or "").rstrip(".")
        raise NoTemplate(f"is no template: {said}, in its line {error.lineno}") from None
    except TemplateError as error:
        raise NoTemplate(f"is no template: {error}") from None


def _check_names(tree: nodes.Template) -> None:
    """A name that is never there is false for ever, or fails with the first delivery."""
    unknown = sorted(find_undeclared_variables(tree) - KNOWN - _RENDERING.globals.keys())
    if unknown:
        raise NoTemplate(f"names {', '.join(unknown)}; there are payload and headers")


def _failed(error: Exception, place: str) -> TemplateFailed:
    """What went wrong in words of ours: an error's own text may quote the payload."""
    if isinstance(error, TemplateFailed | TooMuch):
        return TemplateFailed(f"{place}: {error}")
    return TemplateFailed(
        f"{place}: {_REASONS.get(type(error).__name__, 'it does not fit the payload')}"
    )


_REASONS = {
    "UndefinedError": "it names a field that the payload does not have; see Jinja2's `default`",
    "SecurityError": "it does what a template may not",
    "RecursionError": "it is nested too deeply",
}
