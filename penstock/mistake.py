"""What is wrong with the settings: how validators say it, and how people are told.

A mistake is told in one line: where it stands, what it is about, what is wrong, what to do. It
never shows the wrong value, which may be a secret in the wrong place.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
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
URL = r"^https?://[^/\s]+"

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
            kind = PydanticCustomError("value", "{text}", {"text": found["msg"]})
        yield InitErrorDetails(type=kind, loc=found["loc"], input=found["input"], ctx=context)


def place_of(error: ErrorDetails) -> Place:
    """Where the wrong value is; what pydantic adds for a wrong key is not part of it."""
    place = error["loc"]
    return place[: place.index("[key]")] if "[key]" in place else place


def dotted(place: Place) -> str:
    """The place as penstock.toml would write it."""
    return ".".join(
        str(part) if re.fullmatch(r"[\w*-]+", str(part)) else json.dumps(part) for part in place
    )


def said(error: ErrorDetails, model: type[BaseModel]) -> tuple[str, str]:
    """What pydantic found wrong with a field of this model, in our words; and the remedy."""
    kind, context = error["type"], error.get("ctx", {})
    place = place_of(error)
    if kind == KIND:
        return context["text"], context["remedy"]
    if kind == "extra_forbidden":
        return "there is no such setting", _resembling(str(place[-1]), _model_at(model, place[:-1]))
    if kind == "string_pattern_mismatch":
        return _PATTERNS[context["pattern"]]
    text, remedy = _SAYINGS.get(kind, (error["msg"], ""))
    return text.format(**_plain(context)), _or_left_out(remedy, _field_at(model, place))


_PATTERNS = {
    NAME: ("is no name", "take up to 64 of A-Z a-z 0-9 _ . - and begin with a letter or digit"),
    URL: ("is no URL", "write what begins with http:// or https://, up to /chat/completions"),
}
_PATTERNS[TENANT_NAME] = _PATTERNS[NAME]

_WHOLE = ("must be a whole number", "give a whole number")
_NUMBER = ("must be a number", "give a number")

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
    "bool_type": ("must be true or false", "give one of them"),
    "bool_parsing": ("must be true or false", "give one of them"),
    "literal_error": ("must be {expected}", "choose one"),
    "string_type": ("must be text", "write it in quotes"),
    "tuple_type": ("must be a list", 'write [ "…" ]'),
    "dict_type": ("must be a table", "write a table"),
    "model_type": ("must be a table", "write a table"),
    "missing": ("is missing", "give it"),
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
