"""Input items of the Responses API as the messages of a chat. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from penstock.errors import InvalidRequest


class Part(BaseModel):
    """A part of an item: nothing is converted, and an unknown name in it is an error."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class InputText(Part):
    """What the user, or somebody above it, says."""

    type: Literal["input_text"]
    text: str

    def chat(self) -> dict[str, Any]:
        """The chat API's part."""
        return {"type": "text", "text": self.text}


class InputImage(Part):
    """A picture by its URL, which may hold the picture itself."""

    type: Literal["input_image"]
    image_url: str
    detail: str | None = None

    def chat(self) -> dict[str, Any]:
        """The chat API's part."""
        detail = {} if self.detail is None else {"detail": self.detail}
        return {"type": "image_url", "image_url": {"url": self.image_url, **detail}}


class OutputText(Part):
    """What the model said, as it stands in an answer's item."""

    type: Literal["output_text"]
    text: str
    annotations: Annotated[list[Any], Field(max_length=0)] = []
    logprobs: Any = None

    def chat(self) -> dict[str, Any]:
        """The chat API's part."""
        return {"type": "text", "text": self.text}


class Refusal(Part):
    """What the model would not say."""

    type: Literal["refusal"]
    refusal: str

    def chat(self) -> dict[str, Any]:
        """The chat API's part."""
        return {"type": "refusal", "refusal": self.refusal}


Content: TypeAlias = Annotated[
    InputText | InputImage | OutputText | Refusal, Field(discriminator="type")
]


class Thought(Part):
    """A piece of reasoning or of its summary."""

    type: Literal["reasoning_text", "summary_text"]
    text: str


class Answered(Part):
    """What items of an answer have beside their content; of no matter when they come back."""

    id: str | None = None
    status: str | None = None


class Message(Answered):
    """Something said."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Content]


class FunctionCall(Answered):
    """The model's call of a function."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str


class FunctionCallOutput(Answered):
    """What the function answered."""

    type: Literal["function_call_output"]
    call_id: str
    output: str | list[InputText]


class ReasoningItem(Answered):
    """What the model thought before the next item."""

    type: Literal["reasoning"]
    summary: list[Thought] = []
    content: list[Thought] | None = None
    encrypted_content: None = None


def _kind(value: Any) -> Any:
    """The type of an item; a message need not say it."""
    if isinstance(value, dict):
        return value.get("type", "message")
    return getattr(value, "type", None)


Item: TypeAlias = Annotated[
    Annotated[Message, Tag("message")]
    | Annotated[FunctionCall, Tag("function_call")]
    | Annotated[FunctionCallOutput, Tag("function_call_output")]
    | Annotated[ReasoningItem, Tag("reasoning")],
    Discriminator(_kind),
]


def messages_of(given: str | Sequence[Item]) -> list[dict[str, Any]]:
    """The chat's messages.

    Calls join the assistant's message in front of them, and reasoning goes with what the assistant
    said or called next, as the chat API has them.

    Raises:
        InvalidRequest: it said or called nothing next; OpenAI refuses that too.
    """
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    messages: list[dict[str, Any]] = []
    thoughts = ""
    for item in given:
        if thoughts and not _is_assistants(item):
            raise _unfinished()
        match item:
            case ReasoningItem():
                thoughts += _thoughts(item)
                continue
            case FunctionCall():
                _assistant(messages, thoughts)["tool_calls"].append(_call(item))
            case FunctionCallOutput():
                messages.append(_output(item))
            case Message():
                messages.append(_message(item, thoughts))
        thoughts = ""
    if thoughts or not messages:
        raise _unfinished()
    return messages


def _is_assistants(item: Item) -> bool:
    """Whether reasoning may stand in front of it."""
    if isinstance(item, Message):
        return item.role == "assistant"
    return isinstance(item, FunctionCall | ReasoningItem)


def _unfinished() -> InvalidRequest:
    return InvalidRequest("input: reasoning must be followed by what the assistant said or called")


def _thoughts(item: ReasoningItem) -> str:
    return "".join(thought.text for thought in item.content or item.summary)


def _assistant(messages: list[dict[str, Any]], thoughts: str) -> dict[str, Any]:
    """The assistant's message that the next call belongs to."""
    if not messages or messages[-1]["role"] != "assistant" or thoughts:
        messages.append({"role": "assistant", "content": None, **_reasoned(thoughts)})
    messages[-1].setdefault("tool_calls", [])
    return messages[-1]


def _reasoned(thoughts: str) -> dict[str, str]:
    return {"reasoning_content": thoughts} if thoughts else {}


def _call(item: FunctionCall) -> dict[str, Any]:
    function = {"name": item.name, "arguments": item.arguments}
    return {"id": item.call_id, "type": "function", "function": function}


def _output(item: FunctionCallOutput) -> dict[str, Any]:
    output = item.output
    text = output if isinstance(output, str) else "".join(part.text for part in output)
    return {"role": "tool", "tool_call_id": item.call_id, "content": text}


def _message(item: Message, thoughts: str) -> dict[str, Any]:
    reasoned = _reasoned(thoughts) if item.role == "assistant" else {}
    return {"role": item.role, "content": _content(item.content), **reasoned}


def _content(content: str | list[Content]) -> str | list[dict[str, Any]]:
    """Text alone as a string, which every upstream takes."""
    if isinstance(content, str):
        return content
    if all(isinstance(part, InputText | OutputText) for part in content):
        return "".join(part.chat()["text"] for part in content)
    return [part.chat() for part in content]
