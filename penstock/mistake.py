"""What is wrong with the settings, as pydantic carries it."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

KIND = "mistake"
"""The type, among pydantic's, of what our own rules find wrong."""


def wrong(text: str, remedy: str) -> PydanticCustomError:
    """The error a validator raises: what is wrong, and what to do about it."""
    return PydanticCustomError(KIND, "{text}; {remedy}", {"text": text, "remedy": remedy})


def details(error: ValidationError) -> Iterator[InitErrorDetails]:
    """What an error is made of, to raise it again together with more."""
    for found in error.errors(include_url=False):
        context = found.get("ctx", {})
        kind = wrong(**context) if found["type"] == KIND else found["type"]
        yield InitErrorDetails(type=kind, loc=found["loc"], input=found["input"], ctx=context)
