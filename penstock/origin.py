"""Where a setting's value came from: an argument, a variable, or a line of penstock.toml."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, BaseModel, ValidationError

from penstock.mistake import Mistake, Place, dotted, place_of, real, said
from penstock.toml_position import positions


class Origin:
    """The sources of some settings, in their order.

    Args:
        arguments: by name, given in code or on the command line.
        environment: what the environment says, by name, as it was read.
        variable: the variable that gives the setting of this name.
        file: the file, which may be missing.
    """

    def __init__(
        self,
        arguments: Mapping[str, Any],
        environment: Mapping[str, Any],
        variable: Callable[[str], str],
        file: Path,
    ) -> None:
        self._arguments = arguments
        self._environment = environment
        self._variable = variable
        self._file = file
        self._lines = _lines(file)

    def mistakes(self, error: ValidationError, model: type[BaseModel]) -> list[Mistake]:
        """What is wrong with the settings of this model, each once."""
        found = {}
        for detail in real(error.errors(include_url=False, include_input=False)):
            place = place_of(detail)
            text, remedy = said(detail, model)
            where, name = self._whence(place, model)
            found[where, name, text] = Mistake(where, name, text, remedy)
        return list(found.values())

    def mistake(self, place: Place, text: str, remedy: str, model: type[BaseModel]) -> Mistake:
        """One that only shows when the settings are put to use."""
        return Mistake(*self._whence(place, model), text, remedy)

    def _whence(self, place: Place, model: type[BaseModel]) -> tuple[str, str]:
        """The source, and the name of the setting unless the source says it."""
        if not place or _reach(self._arguments, place) == len(place):
            return "", dotted(place)
        named = (_field_of(model, place[0]), *place[1:])
        said, written = _reach(self._environment, place), self._reach_in_file(named)
        if said and said >= written:
            return self._variable(str(place[0])), dotted(place) if len(place) > 1 else ""
        if written:
            return f"{self._file}:{self._lines[named[:written]]}", dotted(named)
        return str(self._file) if self._lines else "", dotted(named)

    def _reach_in_file(self, place: Place) -> int:
        """How many steps of the way to this place the file knows."""
        return max((n for n in range(len(place) + 1) if place[:n] in self._lines), default=0)


def _field_of(model: type[BaseModel], name: str | int) -> str | int:
    """The field that is called so, maybe by another name: in the file it has its own."""
    for field, info in model.model_fields.items():
        alias = info.validation_alias
        if isinstance(alias, AliasChoices) and name in alias.choices:
            return field
    return name


def _reach(value: Any, place: Place) -> int:
    """How many steps of the way to this place there are in a value."""
    for steps, part in enumerate(place):
        inside = _inside(value)
        if part not in inside:
            return steps
        value = inside[part]
    return len(place)


def _inside(value: Any) -> Mapping[Any, Any]:
    if isinstance(value, BaseModel):
        return value.model_dump(exclude_unset=True)
    if isinstance(value, list | tuple):
        return dict(enumerate(value))
    return value if isinstance(value, Mapping) else {}


def _lines(file: Path) -> dict[Place, int]:
    try:
        return positions(file.read_text())
    except OSError:
        return {}


def unreadable(file: Path, error: Exception) -> Mistake:
    """Why a file could not be read, with the line where it is no TOML."""
    match error:
        case UnicodeDecodeError():
            line = error.object[: error.start].count(b"\n") + 1
            return Mistake(f"{file}:{line}", "", "is not UTF-8", "save the file as UTF-8")
        case tomllib.TOMLDecodeError():
            return _no_toml(file, str(error))
        case OSError():
            return Mistake(str(file), "", f"cannot be read: {error.strerror}", "")
    return Mistake(str(file), "", f"cannot be read: {error}", "")


_AT_LINE = re.compile(r"(.*) \(at line (\d+), column (\d+)\)", re.DOTALL)


def _no_toml(file: Path, message: str) -> Mistake:
    """Tomllib ends its messages with where it stopped: "(at line 3, column 7)"."""
    found = _AT_LINE.fullmatch(message)
    if found is None:  # "(at end of document)"
        text = f"is not TOML: {message}"
        return Mistake(str(file), "", text, "look at its last line")
    what, line, column = found.groups()
    return Mistake(f"{file}:{line}", "", f"is not TOML: {what} (column {column})", "see toml.io")
