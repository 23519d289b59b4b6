"""An answer as JSON: the chunks of the streaming form, and the plain form's one object.

Byte for byte in DeepInfra's shapes: no spaces, UTF-8 as it is, the keys in its documented order.
The parts of a chunk that stay the same through an answer are rendered once, so that a token costs
one string encoding and one join.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from ops.simulator.answer import Answer, Kind, usage
from ops.simulator.script import Script

LEAKED_STOP = b'"</s>"'
_encode = msgspec.json.encode


class Chunks:
    """Renders one answer. `tokens` counts the deltas rendered so far."""

    def __init__(self, answer: Answer, script: Script) -> None:
        self.answer = answer
        self.script = script
        self.tokens = 0
        self._opening = _opening(answer)
        self._null = b'""' if script.finish_empty else b"null"

    def deltas(self) -> Iterator[bytes]:
        """A chunk per token in the order of `Answer.deltas`; roles that come once are in front."""
        if not self.script.role_every_chunk:
            yield from (
                self._delta(index, b'"role":"assistant","content":""') for index in self._all
            )
        heads = [self._heads(index) for index in self._all]
        metered = self.script.usage == "every"
        tail = b'},"finish_reason":' + self._null + b"}]"
        close = b"" if metered else b"}"
        for index, piece in self.answer.deltas():
            self.tokens += 1
            if metered:
                close = self._metered(self.tokens)
            yield heads[index][piece.kind] + _encode(piece.value) + tail + close

    def closing(self, finish_reason: str | None = None) -> Iterator[bytes]:
        """Leaked stop tokens, a finish chunk per choice, and usage where the script wants it."""
        if self.script.leaked_stop:
            yield from (self._delta(i, self._role + b'"content":' + LEAKED_STOP) for i in self._all)
        last = self._all[-1]
        for index in self._all:
            reason = finish_reason or self.answer.choices[index].finish_reason
            end = b',"delta":{},"finish_reason":' + _encode(reason) + b"}]"
            yield self._opening + b'[{"index":%d' % index + end + self._usage_at_end(index == last)
        if self.script.usage == "later":
            yield self._opening + b"[]" + self._metered(self.tokens)

    def content(self, text: str) -> bytes:
        """A chunk with more content for the first choice."""
        return self._delta(0, self._role + b'"content":' + _encode(text))

    @property
    def _all(self) -> range:
        return range(len(self.answer.choices))

    @property
    def _role(self) -> bytes:
        return b'"role":"assistant",' if self.script.role_every_chunk else b""

    def _heads(self, index: int) -> dict[Kind, bytes]:
        names: dict[Kind, str] = {
            "content": "content",
            "reasoning": self.script.reasoning_field,
            "refusal": "refusal",
            "tool_calls": "tool_calls",
        }
        start = self._opening + b'[{"index":%d,"delta":{' % index + self._role
        return {kind: start + b'"%b":' % name.encode() for kind, name in names.items()}

    def _delta(self, index: int, fields: bytes) -> bytes:
        start = self._opening + b'[{"index":%d,"delta":{' % index
        return start + fields + b'},"finish_reason":' + self._null + b"}]}"

    def _metered(self, completion: int) -> bytes:
        prompt = self.answer.usage["prompt_tokens"]
        counted = usage(prompt, completion, self.script, self.answer.service_tier)
        return b',"usage":' + _encode(counted) + b"}"

    def _usage_at_end(self, last: bool) -> bytes:
        mode = self.script.usage
        wanted = mode == "every" or (mode == "finish" and last)
        return self._metered(self.tokens) if wanted else b"}"


def _opening(answer: Answer) -> bytes:
    fields: dict[str, Any] = {
        "id": answer.id,
        "object": "chat.completion.chunk",
        "created": answer.created,
        "model": answer.model,
    }
    return _encode(fields | _tier(answer))[:-1] + b',"choices":'


def _tier(answer: Answer) -> dict[str, str]:
    return {"service_tier": answer.service_tier} if answer.service_tier else {}


def completion(answer: Answer, script: Script, finish_reason: str | None = None) -> dict[str, Any]:
    """The plain form: a `chat.completion` object."""
    choices = [
        {
            "index": choice.index,
            "message": choice.message(script.reasoning_field),
            "finish_reason": finish_reason or choice.finish_reason,
        }
        for choice in answer.choices
    ]
    whole: dict[str, Any] = {
        "id": answer.id,
        "object": "chat.completion",
        "created": answer.created,
        "model": answer.model,
        **_tier(answer),
        "choices": choices,
    }
    return whole if script.usage == "never" else whole | {"usage": answer.usage}
