"""One choice of an answer as it grows: evens out what servers do differently.

* `reasoning` becomes `reasoning_content`, the name most servers use, unless both are there.
* The role is part of a choice's first delta and of no other.
* A tool call's fragment that says its id again and its whole name again does not mean both twice.
* `</s>` right before `finish_reason` is a leaked stop token and dropped. The end of the content
  that may turn out to be one is held back until more content, or the finish, decides it.
* `finish_reason` `""` means null. After a real one, deltas that say nothing are ignored and any
  other breaks the stream: then the end was none, and no rule would give the right answer.
* Of the fields around the delta the last value that is not null is kept; `logprobs` are joined.
"""

from __future__ import annotations

from typing import Any, TypeVar

from penstock.errors import StreamBroken
from worker.upstream.delta import finished, join, says_nothing
from worker.upstream.error_body import broken_stream

FINISH_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
"""Those of OpenAI's API reference: the choice is whole."""

FAILURES = frozenset({"abort", "error"})
"""Those by which vLLM, SGLang and OpenRouter say that it is not."""

STOP_TOKEN = "</s>"  # noqa: S105 - a token of the model's vocabulary

Kind = TypeVar("Kind")

_TEXTS = ("content", "reasoning_content", "refusal")
_FAILED = "the upstream gave up on a choice with finish_reason"
_PARTS = frozenset({"index", "delta", "message", "finish_reason"})


class Choice:
    """One choice, all but its deltas.

    Attributes:
        finish_reason: why it ended, None until then.
    """

    __slots__ = ("_around", "_calls", "_held", "_started", "_steady", "finish_reason")

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self._started = False  # a delta has been handed out
        self._held = ""  # the end of the content, while it may be a leaked stop token
        self._steady = False  # started, nothing held, not finished: text passes as it is
        self._calls: dict[int, tuple[Any, str]] = {}  # index -> id and name so far
        self._around: dict[str, Any] = {}

    def passes(self, content: str) -> bool:
        """Whether this content is certainly text, and goes on as it is."""
        return self._steady and content[-1] not in STOP_TOKEN

    def advance(self, given: dict[str, Any]) -> dict[str, Any]:
        """Take this choice of one chunk; returns the delta to relay, {} if that says nothing.

        Raises:
            StreamBroken: it failed, went on after its end, or is not shaped like a choice.
        """
        if len(given) > 3:  # more than index, delta and finish_reason
            self._keep_around(given)
        delta = given.get("delta")
        if self._steady and type(delta) is dict and not given.get("finish_reason"):
            content = delta.get("content")
            if (
                type(content) is str
                and content
                and self.passes(content)
                and (len(delta) == 1 or (len(delta) == 2 and "role" in delta))
            ):
                return {"content": content}  # nearly always
        return self._advance(given)

    def whole(self, said: dict[str, Any]) -> dict[str, Any]:
        """The choice of a `chat.completion`, from everything its deltas said."""
        message = {"role": "assistant", "content": None, **said}
        if "tool_calls" in said:
            message["tool_calls"] = [_whole_call(call) for call in said["tool_calls"]]
        if not said.keys() & {"content", "tool_calls", "function_call", "refusal"}:
            message["content"] = ""
        return {"message": message, **finished(self._around), "finish_reason": self.finish_reason}

    def _advance(self, given: dict[str, Any]) -> dict[str, Any]:
        delta = given.get("delta")
        if delta is None:
            delta = given.get("message")  # an answer that was not streamed: all at once
        said = self._evened({} if delta is None else _checked(delta, dict))
        if self.finish_reason is not None:
            if said or self._held:
                raise StreamBroken(
                    "the upstream went on with a choice after its finish_reason",
                    code="after_finish",
                )
        elif reason := given.get("finish_reason"):
            self._finish(_checked(reason, str), given, said)
        self._started = self._started or bool(said)
        self._steady = self._started and not self._held and self.finish_reason is None
        return said

    def _evened(self, delta: dict[str, Any]) -> dict[str, Any]:
        """A delta without what says nothing, in the words of OpenAI's API."""
        said = {field: value for field, value in delta.items() if not says_nothing(value)}
        if self._started or self.finish_reason is not None:
            said.pop("role", None)
        if type(said.get("reasoning")) is str:
            said.setdefault("reasoning_content", said.pop("reasoning"))
        for field in _TEXTS:
            if field in said:
                _checked(said[field], str)
        if "tool_calls" in said:
            fragments = enumerate(_checked(said["tool_calls"], list))
            said["tool_calls"] = [self._fragment(position, given) for position, given in fragments]
        if "content" in said:
            said["content"] = self._hold_back(said["content"])
            if not said["content"]:
                del said["content"]
        return said

    def _hold_back(self, content: str) -> str:
        """The content that is certainly text, with what was held before."""
        text = self._held + content
        start = text.rfind("<", -len(STOP_TOKEN))
        if start < 0 or not STOP_TOKEN.startswith(text[start:]):
            start = len(text)
        self._held = text[start:]
        return text[:start]

    def _fragment(self, position: int, given: Any) -> dict[str, Any]:
        """A tool call's fragment; one without an index is the one at its position."""
        index = _checked(given, dict).get("index")
        index = position if index is None else _checked(index, int)
        fragment = {**given, "index": index}
        function = given.get("function")
        if type(function) is dict and type(name := function.get("name")) is str:
            call, known = given.get("id"), self._calls.get(index)
            if known and call and (call, name) == known:
                fragment["function"] = {**function, "name": ""}
            elif known:
                self._calls[index] = (known[0], known[1] + name)
            else:
                self._calls[index] = (call, name)
        return fragment

    def _finish(self, reason: str, given: dict[str, Any], said: dict[str, Any]) -> None:
        if reason in FAILURES:
            raise broken_stream({"error": given.get("error") or f"{_FAILED} {reason}"})
        self.finish_reason = reason
        if self._held and self._held != STOP_TOKEN:
            said["content"] = said.get("content", "") + self._held
        self._held = ""

    def _keep_around(self, given: dict[str, Any]) -> None:
        for field, value in given.items():
            if field == "logprobs":
                join(self._around, {field: value})
            elif value is not None and field not in _PARTS:
                self._around[field] = value


def _checked(value: Any, kind: type[Kind]) -> Kind:
    """The value, if it is of this kind; raises StreamBroken."""
    if type(value) is not kind:
        raise StreamBroken(
            f"the upstream sent a choice with {type(value).__name__} where {kind.__name__} belongs",
            code="not_a_chunk",
        )
    return value


def _whole_call(call: dict[str, Any]) -> dict[str, Any]:
    """A tool call as a message has it: no index, and a function's name and arguments are there."""
    whole = {"type": "function"} | {k: v for k, v in call.items() if k != "index"}
    function = whole.get("function", {})
    if whole["type"] == "function" and type(function) is dict:
        whole["function"] = {"name": "", "arguments": "", **function}
    return whole
