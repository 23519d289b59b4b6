"""What one filter or method of a text may be given: the clock is not asked before it has ended.

A payload may have 8 MiB, and some of Jinja2's filters take seconds over that, or make gigabytes of
it. So what is dear takes only so much, and nothing may grow beyond what a rendering may say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

MAX_ITEMS = 10_000
"""Of a list or mapping given to a filter."""

MAX_TEXT = 64 * 1024
"""Characters of a text given to a filter that is not cheap: `urlize` takes 30 ms over them."""

MAX_GROWN = 1024 * 1024
"""Characters that come out of a filter or method; a rendering may say no more."""

MAX_WIDTH = 1000
"""Of a padded text, an indentation or a batch."""

CHEAP = {
    "count", "d", "default", "e", "escape", "first", "last", "length", "lower", "replace", "safe",
    "string", "tojson", "trim", "upper",
}  # fmt: skip
"""Filters that go over 8 MiB in a fraction of a second."""

_NESTED = {"pprint", "string", "urlencode", "xmlattr"}
"""Filters that go down into what they are given."""

_WIDE = {"batch", "center", "indent", "ljust", "rjust", "slice", "zfill"}

_FORMATS = {"format", "format_map"}

_WIDE_FORMAT = re.compile(r"\d{4,}|\*|\{[^{}]*\{")
"""A width of thousands, or one that an argument says."""


class TooMuch(Exception):
    """A filter or method was given too much; the text says what."""


def bounded(
    name: str, filter_: Callable[..., Any], counted: Callable[[Iterator[Any]], Iterator[Any]]
) -> Callable[..., Any]:
    """A filter that raises TooMuch; what it goes through one by one is counted."""

    @wraps(filter_)
    def bound(*args: Any, **kwargs: Any) -> Any:
        given = [counted(arg) if isinstance(arg, Iterator) else arg for arg in args]
        check_growth(name, given, kwargs)
        if name not in CHEAP:
            for value in (*given, *kwargs.values()):
                _check_size(name, value)
        if name in _NESTED:
            _weigh(name, given)
        return filter_(*given, **kwargs)

    return bound


def check_growth(name: str, args: list[Any], kwargs: dict[str, Any]) -> None:
    """Raise TooMuch where little would become much, for a filter or a text's method.

    Args:
        name: the filter's or method's.
        args: what it is given, the text among them.
        kwargs: the same.
    """
    values = (*args, *kwargs.values())
    texts = [value for value in values if isinstance(value, str)]
    numbers = [value for value in values if isinstance(value, int | float)]
    if name == "expandtabs" or (name in _WIDE and any(abs(n) > MAX_WIDTH for n in numbers)):
        raise TooMuch(f"{name} would make a text over {MAX_WIDTH:,} wide")
    if name in _FORMATS and texts and _WIDE_FORMAT.search(texts[0]):
        raise TooMuch(f"{name} would make a text over {MAX_WIDTH:,} wide")
    if name == "replace" and len(texts) > 2:
        text, old, new = texts[:3]
        _check_grown(name, len(text) + text.count(old) * max(0, len(new) - len(old)), len(text))
    if name == "join":
        lists = [value for value in values if isinstance(value, list | tuple | dict)]
        between = max((len(text) for text in texts), default=0)
        _check_grown(name, between * sum(len(value) for value in lists), 0)


def _check_grown(name: str, size: int, before: int) -> None:
    if size > max(MAX_GROWN, before):
        raise TooMuch(f"{name} would make a text over {MAX_GROWN:,} characters")


def _check_size(name: str, value: Any) -> None:
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise TooMuch(f"{name} takes at most {MAX_TEXT:,} characters; cut the text: [:{MAX_TEXT}]")
    if isinstance(value, list | tuple | dict) and len(value) > MAX_ITEMS:
        raise TooMuch(f"{name} takes at most {MAX_ITEMS:,} items")


def _weigh(name: str, values: list[Any]) -> None:
    """Raise TooMuch where there is too much inside; stops as soon as that is so."""
    left, seen = list(values), 0
    while left:
        value, seen = left.pop(), seen + 1
        if isinstance(value, dict):
            left += value.values()
        elif isinstance(value, list | tuple):
            left += value
        if seen + len(left) > MAX_ITEMS:
            raise TooMuch(f"{name} takes at most {MAX_ITEMS:,} items, those inside included")
