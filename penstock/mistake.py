"""What is wrong with the settings: how validators say it, and how people are told.

A mistake is told in one line: where it stands, what it is about, what is wrong, what to do. It
never shows the wrong value, which may be a secret in the wrong place.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError
from pydantic_core.core_schema import ErrorType

Place: TypeAlias = tuple[str | int, ...]
"""The names of tables and fields that lead to a value, and its number where it is in a list."""

_OWN_TYPES = frozenset(get_args(ErrorType))
"""Kinds of mistakes that pydantic knows by name."""

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
TENANT_NAME = rf"^\*$|{NAME}"
URL = r"^https?://[^/\s@?#]+(/|$)"
"""Without user and password: it is shown, and others learn it through Redis."""
ORIGIN = r"^https?://[^/\s]+$|^\*$"
VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"
HEADER = r"^[A-Za-z0-9-]{1,64}$"

KIND = "mistake"
"""The type, among pydantic's, of what our own rules find wrong."""


class Mistake(NamedTuple):
    """One thing that is wrong.

    Attributes:
        where: a file and line, or a variable; "" where only the name is known.
        name: of the setting, dotted; "" where `where` says it all.
        text: what is wrong.
        remedy: what to do about it.
    """

    where: str
    name: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        """The line."""
        return f"{self.finding}; {self.remedy}" if self.remedy else self.finding

    @property
    def line(self) -> float:
        """Of the file; what stands elsewhere comes behind all lines."""
        number = self.where.rpartition(":")[2]
        return int(number) if number.isdecimal() else math.inf

    @property
    def finding(self) -> str:
        """The line without its remedy."""
        return ": ".join(part for part in (self.where, self.name, self.text) if part)


def wrong(text: str, remedy: str) -> PydanticCustomError:
    """The error a validator raises: what is wrong, and what to do about it."""
    return PydanticCustomError(KIND, "{text}; {remedy}", {"text": text, "remedy": remedy})


def details(error: ValidationError) -> Iterator[InitErrorDetails]:
    """What an error is made of, to raise it again together with more."""
    for found in error.errors(include_url=False):
        context = found.get("ctx", {})
        kind: str | PydanticCustomError = found["type"]
        if kind == KIND:
            kind = wrong(**context)
        elif kind not in _OWN_TYPES:  # a validator's own: pydantic does not know it by name
            kind = wrong(*in_words(found))
        yield InitErrorDetails(type=kind, loc=found["loc"], input=found["input"], ctx=context)


def place_of(error: ErrorDetails) -> Place:
    """Where the wrong value is; what pydantic adds for a wrong key is not part of it."""
    place = error["loc"]
    return place[: place.index("[key]")] if "[key]" in place else place


def dotted(place: Place) -> str:
    """The place as penstock.toml would write it; things in a list are counted from 1."""
    parts = [f" #{part + 1}" if isinstance(part, int) else f".{_key(part)}" for part in place]
    return "".join(parts).removeprefix(".")


def _key(name: str) -> str:
    return name if re.fullmatch(r"[\w*-]+", name) else json.dumps(name)


def real(errors: Iterable[ErrorDetails]) -> list[ErrorDetails]:
    """Without those that only follow from others: a list whose things are wrong is not empty."""
    found = list(errors)
    places = [error["loc"] for error in found]
    return [
        error
        for error in found
        if error["type"] != "too_short"
        or not any(place[: len(error["loc"])] == error["loc"] != place for place in places)
    ]


def said(error: ErrorDetails, model: type[BaseModel]) -> tuple[str, str]:
    """What pydantic found wrong with a field of this model, in our words; and the remedy."""
    place = place_of(error)
    if error["type"] == "extra_forbidden":
        return "there is no such setting", _resembling(str(place[-1]), _model_at(model, place[:-1]))
    text, remedy = in_words(error)
    if error["type"] in (KIND, "string_pattern_mismatch"):
        return text, remedy
    return text, _or_left_out(remedy, _field_at(model, place))


def in_words(error: ErrorDetails) -> tuple[str, str]:
    """What pydantic found wrong with a value, in our words; and the remedy, "" where none helps."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == KIND:
        return context["text"], context["remedy"]
    if kind == "value_error":
        return str(context["error"]), ""
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(context["pattern"], ("is not of the form that it must have", ""))
    if kind in ("too_short", "string_too_short") and context["min_length"] == 1:
        return "is empty", "put something in"
    text, remedy = _SAYINGS.get(kind, ("is not what belongs here", ""))
    return text.format(**_plain(context)), remedy


_PATTERNS = {
    NAME: ("is no name", "take up to 64 of A-Z a-z 0-9 _ . - and begin with a letter or digit"),
    URL: (
        "is no URL, or has a user or password in it",
        "write what begins with http:// or https://, up to /chat/completions; secrets go to token",
    ),
    ORIGIN: ("is no origin", "write https://app.example.com, without a path, or * for any page"),
    VARIABLE: ("is no variable's name", "take letters, digits and _, and no digit first"),
    HEADER: ("is no header's name", "take up to 64 letters, digits and -"),
}
_PATTERNS[TENANT_NAME] = _PATTERNS[NAME]

_WHOLE = ("must be a whole number", "give a whole number")
_NUMBER = ("must be a number", "give a number")
_LIST = ("must be a list", "put it in [ ]")
_TABLE = ("must be a table", "write a table")
_TRUTH = ("must be true or false", "give one of them")
_CHOICE = ("must be {expected}", "choose one")
_PATH = ("must be a path", "write it in quotes")

_SAYINGS = {
    "greater_than": ("must be more than {gt}", "give a larger number"),
    "greater_than_equal": ("must be {ge} or more", "give a larger number"),
    "less_than_equal": ("must be {le} or less", "give a smaller number"),
    "finite_number": ("must be a finite number", "give a number"),
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "bool_type": _TRUTH,
    "bool_parsing": _TRUTH,
    "literal_error": _CHOICE,
    "enum": _CHOICE,
    "string_type": ("must be text", "write it in quotes"),
    "string_too_short": ("must have {min_length} characters or more", "write more"),
    "string_too_long": ("must have {max_length} characters or fewer", "write less"),
    "too_short": ("must be {min_length} or more", "give more of them"),
    "too_long": ("must be {max_length} or fewer", "give fewer of them"),
    "list_type": _LIST,
    "tuple_type": _LIST,
    "dict_type": _TABLE,
    "model_type": _TABLE,
    "model_attributes_type": _TABLE,
    "path_type": _PATH,
    "ip_any_network": (
        "is no network",
        "write 10.1.0.0/16, with no bits behind those that count, or one address",
    ),
    "missing": ("is missing", "give it"),
    "none_required": ("can only be left out", "take it out"),
    "union_tag_invalid": ("is {tag}, and must be one of {expected_tags}", "choose one"),
    "union_tag_not_found": ("needs {discriminator}", "give it"),
    "extra_forbidden": ("is not known here", "take it out"),
}
"""By pydantic's type of error: what is wrong, with its context filled in, and what to do."""


def _plain(context: Mapping[str, Any]) -> dict[str, Any]:
    """Bounds as one would write them: 0, not 0.0."""
    return {
        name: f"{value:g}" if isinstance(value, float) else value for name, value in context.items()
    }


def _or_left_out(remedy: str, field: FieldInfo | None) -> str:
    if field is None:
        return remedy
    if field.is_required():
        return f"give {field.description}" if field.description else remedy
    default = field.default if isinstance(field.default, int | float | str) else None
    if isinstance(default, bool):
        default = str(default).lower()
    left_out = "or leave it out" if default is None else f"or leave it out for {default}"
    return f"{remedy}, {left_out}" if remedy else left_out.removeprefix("or ")


def _resembling(name: str, model: type[BaseModel] | None) -> str:
    known = sorted(model.model_fields) if model else []
    close = difflib.get_close_matches(name, known, 1)
    if close:
        return f"did you mean {close[0]}?"
    return f"known here: {', '.join(known)}" if known else "take it out"


def _field_at(model: type[BaseModel], place: Place) -> FieldInfo | None:
    inside = _model_at(model, place[:-1]) if place else None
    return inside.model_fields.get(str(place[-1])) if inside else None


def _model_at(model: type[BaseModel], place: Place) -> type[BaseModel] | None:
    """The model of the table there; None where there is no such table."""
    inside: type[BaseModel] | None = model
    parts = iter(place)
    for part in parts:
        field = inside.model_fields.get(str(part)) if inside else None
        if field is None:
            return None
        inside = _model_in(field.annotation)
        if get_origin(field.annotation) is dict:
            next(parts, None)  # the table's own name
    return inside


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)
