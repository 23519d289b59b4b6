"""A request of the Responses API as the chat job that answers it. Pure.

What the models below do not name is refused by its name. Options of the job stand beside the fields
or in headers, as with chat completions; only `conversation` is OpenAI's word for something else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Annotated, Any, Literal

import msgspec
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from penstock.errors import InvalidRequest
from penstock.job import MOST_MISTAKES, OPTION_NAMES
from penstock.mistake import Place, in_words
from producers.gateway.openai.items import Item, messages_of

MARK = "penstock.response"
"""Key in the record's metadata of what the chat body does not say about the response."""

FORWARDED = (
    "model", "parallel_tool_calls", "temperature", "top_p", "user", "safety_identifier",
    "service_tier", "prompt_cache_key", "prompt_cache_retention", "seed", "stop", "top_k", "min_p",
    "presence_penalty", "frequency_penalty", "repetition_penalty",
)  # fmt: skip
"""Fields that chat completions call the same; from `seed` on OpenAI's Responses API lacks them."""

TEXT = "str"
"""Where pydantic puts what is wrong with a field that may be text or something else: as no text."""

OPTIONS = OPTION_NAMES - {"conversation", "metadata"}


class Mark(msgspec.Struct, frozen=True, omit_defaults=True):
    """What stands at MARK, as JSON.

    Attributes:
        background: whether nobody waited for the answer.
        instructed: whether the first message is the request's `instructions`.
        previous_response_id: the response that this one goes on from.
    """

    background: bool = False
    instructed: bool = False
    previous_response_id: str | None = None


class Strict(BaseModel):
    """A part of a request: nothing is converted, and an unknown name in it is an error."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class FunctionTool(Strict):
    """A function the model may call; its other fields are the chat API's too."""

    type: Literal["function"]
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionChoice(Strict):
    """The function the model has to call."""

    type: Literal["function"]
    name: str


class Reasoning(Strict):
    """How much to think; the reasoning itself always comes, there are no summaries of it."""

    effort: str | None = None


class Format(Strict):
    """What the text has to be."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None


class Text(Strict):
    """How the text has to be."""

    format: Format | None = None
    verbosity: str | None = None


def _only(value: bool, wanted: bool) -> bool:
    if value is not wanted:
        raise ValueError(f"can only be {str(wanted).lower()}")
    return value


Always = Annotated[
    bool, AfterValidator(partial(_only, wanted=True)), Field(json_schema_extra={"const": True})
]
Never = Annotated[
    bool, AfterValidator(partial(_only, wanted=False)), Field(json_schema_extra={"const": False})
]
"""As a Literal they would let 1 and 0 pass."""


class StreamOptions(Strict):
    """Frames are not padded."""

    include_obfuscation: Never | None = None


class ResponseRequest(Strict):
    """The body of POST /v1/responses; a field that is null counts as left out.

    `store`, `truncation` and `include` may only ask for what is done anyway.
    """

    input: str | Annotated[list[Item], Field(min_length=1)]
    model: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    background: bool = False
    stream: bool = False
    stream_options: StreamOptions | None = None
    metadata: dict[str, str] = {}
    tools: list[FunctionTool] = []
    tool_choice: Literal["none", "auto", "required"] | FunctionChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning: Reasoning | None = None
    text: Text | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: float | None = None
    top_p: float | None = None
    user: str | None = None
    safety_identifier: str | None = None
    service_tier: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    store: Always = True
    truncation: Literal["disabled"] = "disabled"
    include: Annotated[list[str], Field(max_length=0)] = []

    def job(self, before: list[dict[str, Any]]) -> dict[str, Any]:
        """What `AsyncClient.submit` takes.

        Args:
            before: messages of the conversation so far.
        """
        given = self.model_dump(exclude_none=True, by_alias=True)
        body: dict[str, Any] = {name: given[name] for name in FORWARDED if name in given}
        body["messages"] = [*self._system(), *before, *messages_of(self.input)]
        if self.max_output_tokens:
            body["max_tokens"] = self.max_output_tokens
        if self.tools:
            body["tools"] = [_tool(tool) for tool in given["tools"]]
        if self.tool_choice is not None:
            body["tool_choice"] = _choice(given["tool_choice"])
        if self.reasoning and self.reasoning.effort:
            body["reasoning_effort"] = self.reasoning.effort
        if self.text:
            body |= _text(given["text"])
        return {**body, "metadata": {**self.metadata, MARK: self._mark()}}

    def _system(self) -> list[dict[str, Any]]:
        if self.instructions is None:
            return []
        return [{"role": "system", "content": self.instructions}]

    def _mark(self) -> str:
        instructed = self.instructions is not None
        mark = Mark(self.background, instructed, self.previous_response_id)
        return msgspec.json.encode(mark).decode()


def read(body: Mapping[str, Any]) -> tuple[ResponseRequest, dict[str, Any]]:
    """Check a body; the request in it, and the job's options beside that.

    Raises:
        InvalidRequest: with each wrong field's name and never its value.
    """
    said = {name: value for name, value in body.items() if value is not None}
    options = {name: value for name, value in said.items() if name in OPTIONS}
    given = {name: value for name, value in said.items() if name not in OPTIONS}
    try:
        return ResponseRequest.model_validate(given), options
    except ValidationError as error:
        raise InvalidRequest("invalid request: " + "; ".join(_mistakes(error))) from None


def _mistakes(error: ValidationError) -> list[str]:
    found = error.errors(include_input=False, include_url=False)
    places = [wrong["loc"] for wrong in found if wrong["type"] != "list_type"]
    told = [wrong for wrong in found if not _is_something_else(wrong["loc"], places)]
    return [f"{_place(wrong['loc'])}: {_said(wrong)}" for wrong in told[:MOST_MISTAKES]]


def _is_something_else(place: Place, places: Iterable[Place]) -> bool:
    """Whether a field that is no text is a list, with a mistake of its own in it."""
    field = place[:-1]
    return place[-1] == TEXT and any(p[: len(field)] == field and p != place for p in places)


def _place(parts: Place) -> str:
    """Without pydantic's names for the kinds a field may be of."""
    return ".".join(str(part) for part in parts if part != TEXT and "[" not in str(part))


def _said(wrong: ErrorDetails) -> str:
    if wrong["type"] == "extra_forbidden":
        return "is not supported"
    return in_words(wrong)[0].replace("a table", "an object")


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {k: v for k, v in tool.items() if k != "type"}}


def _choice(choice: Any) -> Any:
    if isinstance(choice, str):
        return choice
    return {"type": "function", "function": {"name": choice["name"]}}


def _text(text: dict[str, Any]) -> dict[str, Any]:
    """The chat fields for a text's format and verbosity."""
    fields = {"verbosity": text["verbosity"]} if "verbosity" in text else {}
    if "format" not in text:
        return fields
    kind, schema = text["format"]["type"], {k: v for k, v in text["format"].items() if k != "type"}
    asked = {"type": kind, "json_schema": schema} if kind == "json_schema" else {"type": kind}
    return {**fields, "response_format": asked}
