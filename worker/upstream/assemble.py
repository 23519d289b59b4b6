"""Chunks in; deltas to relay, and at the end the whole `chat.completion`, out.

The completion is built from the very deltas that were handed out: what a reader puts together
while it streams is what the completion says. `choice.py` and `delta.py` have the rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from penstock.errors import StreamBroken
from worker.upstream.choice import FINISH_REASONS, Choice
from worker.upstream.delta import ChoiceDelta, Deltas
from worker.upstream.error_body import broken_stream, read_error
from worker.upstream.sse import DONE, NamedEvent
from worker.upstream.template import Template
from worker.upstream.usage import estimated, with_cost

if TYPE_CHECKING:
    from penstock.settings import Prices

_decode = msgspec.json.Decoder().decode  # to plain data, so that no field is lost
_REBUILT = frozenset({"object", "choices", "usage", "error"})


LESSONS = 8
"""How many chunks of an answer a template is made of at most: some servers repeat nothing."""


class Assembler:
    """One attempt's answer.

    Args:
        prices: the route's, for an answer that does not say what it cost.
        n: how many choices the request asked for.
        model: the name to give where no chunk has one.
        prompt_characters: of the request's messages, to estimate a usage that never came.

    Attributes:
        done: whether `[DONE]` has come; nothing after it needs to be read.
    """

    __slots__ = (
        "_answer", "_choices", "_fields", "_index", "_lessons", "_pieces", "_prices", "_prompt",
        "_strayed", "_taught", "_template", "done",
    )  # fmt: skip

    def __init__(
        self, *, prices: Prices, n: int = 1, model: str = "", prompt_characters: int = 0
    ) -> None:
        self.done = False
        self._prices = prices
        self._prompt = prompt_characters
        self._fields: dict[str, Any] = {"id": "", "created": 0, "model": model}
        self._choices = {index: Choice() for index in range(n)}
        self._answer = Deltas()
        self._pieces = 0
        self._template: Template | None = None
        self._index = 0  # whose content the template reads
        self._taught: dict[str, Any] = {}  # the fields around it
        self._strayed = False  # whether another chunk has come since
        self._lessons = LESSONS

    def feed(self, data: bytes) -> list[ChoiceDelta]:
        """Take one event's data; returns the deltas to relay, often one, sometimes none.

        A whole `chat.completion` counts as one big chunk, for servers that answer a request to
        stream with `application/json`.

        Raises:
            StreamBroken: it is an error, with the upstream's own message, type and code as far as
                it gave them, or it cannot be part of an answer.
        """
        if self._template and (delta := self._by_template(self._template, data)):
            return self._say([delta])
        try:
            chunk = _decode(data)
            if (
                type(chunk) is not dict
                or type(chunk.get("choices")) is not list
                or "error" in chunk
                or type(data) is NamedEvent
            ):
                _check_for_error(data, chunk)
            deltas = self._absorb(chunk)
            self._strayed = True
            if self._lessons and _is_plain(chunk, deltas):
                self._learn(data, chunk, deltas[0])
            return deltas
        except (msgspec.DecodeError, UnicodeDecodeError):
            return self._feed_text(data)
        except RecursionError:
            raise _not_a_chunk("an event nested too deeply") from None

    def _by_template(self, template: Template, data: bytes) -> ChoiceDelta | None:
        """The delta of a chunk that differs from others in its content only."""
        content = template.read(data) if type(data) is bytes else None
        if content and self._choices[self._index].passes(content):
            if self._strayed:
                self._fields.update(self._taught)
                self._strayed = False
            return {"index": self._index, "delta": {"content": content}}
        return None

    def _learn(self, data: bytes, chunk: dict[str, Any], delta: ChoiceDelta) -> None:
        """Read chunks by this one from now on."""
        self._lessons -= 1
        self._index = delta["index"]
        self._template = Template.learn(data, delta["delta"]["content"])
        self._taught = {field: value for field, value in chunk.items() if value is not None}
        self._strayed = False

    def completion(self) -> dict[str, Any]:
        """The whole answer as a `chat.completion`, usage with its `estimated_cost`.

        Raises:
            StreamBroken: a choice has no known finish_reason, so this is no whole answer.
        """
        for index, choice in self._choices.items():
            if choice.finish_reason is None:
                raise StreamBroken(
                    f"the stream ended before choice {index} had a finish_reason", code="incomplete"
                )
            if choice.finish_reason not in FINISH_REASONS:
                raise StreamBroken(
                    f"choice {index} ended with finish_reason {choice.finish_reason[:40]!r}",
                    code="unknown_finish_reason",
                )
        return self._completion()

    def partial(self) -> dict[str, Any]:
        """The answer so far as a `chat.completion`, for a cancelled job.

        `finish_reason` is null where a choice has not finished, and `usage.estimated` is true: it
        is the last usage that came, else counted from characters and deltas.
        """
        completion = self._completion()
        completion["usage"]["estimated"] = True
        return completion

    def _feed_text(self, data: bytes) -> list[ChoiceDelta]:
        """`[DONE]`, or an empty event, which some servers send to keep the connection open."""
        text = data.strip()
        if text == DONE:
            self.done = True
        elif text:
            _check_for_error(data, text.decode(errors="replace"))
        return []

    def _absorb(self, chunk: dict[str, Any]) -> list[ChoiceDelta]:
        """Take the choices of a chunk, and the fields around them: the last one not null stays."""
        deltas: list[ChoiceDelta] = []
        if "choices" not in chunk and "usage" not in chunk:
            return deltas  # a ping, or what else is no part of an answer
        for given in chunk.get("choices") or ():
            if type(given) is not dict or type(index := given.get("index", 0)) is not int:
                raise _not_a_chunk("a choice without an index")
            choice = self._choices.get(index) or self._choices.setdefault(index, Choice())
            if delta := choice.advance(given):
                deltas.append({"index": index, "delta": delta})
        fields = self._fields
        for field, value in chunk.items():
            if value is not None:
                fields[field] = value
        return self._say(deltas)

    def _say(self, deltas: list[ChoiceDelta]) -> list[ChoiceDelta]:
        if deltas:
            self._answer.add(deltas)
            self._pieces += len(deltas)
        return deltas

    def _completion(self) -> dict[str, Any]:
        said = {choice["index"]: choice["delta"] for choice in self._answer.joined()}
        fields = {field: v for field, v in self._fields.items() if field not in _REBUILT}
        return {
            "id": fields.pop("id"),
            "object": "chat.completion",
            **fields,
            "choices": [
                {"index": index, **choice.whole(said.get(index, {}))}
                for index, choice in sorted(self._choices.items())
            ],
            "usage": self._usage(),
        }

    def _usage(self) -> dict[str, Any]:
        usage = self._fields.get("usage")
        if not isinstance(usage, dict):
            usage = estimated(
                prompt_characters=self._prompt, characters=self._answer.size, pieces=self._pieces
            )
        return with_cost(usage, self._prices, self._fields.get("service_tier"))


def _is_plain(chunk: dict[str, Any], deltas: list[ChoiceDelta]) -> bool:
    """Whether all that a chunk says is one choice's content, so that a template can read others."""
    return (
        len(deltas) == 1
        and deltas[0]["delta"].keys() == {"content"}
        and len(chunk["choices"]) == 1
        and not chunk["choices"][0].get("logprobs")  # they are joined, not replaced
    )


def _check_for_error(data: bytes, value: Any) -> None:
    """Raise StreamBroken for an event whose decoded data is an error, or no chunk at all."""
    if read_error(value):
        raise broken_stream(value)
    if isinstance(data, NamedEvent) and data.name == "error":
        raise broken_stream({"error": value})
    if not isinstance(value, dict):
        raise _not_a_chunk("an event that is not a JSON object")
    if not isinstance(value.get("choices"), list | None):
        raise _not_a_chunk("choices that are not a list")


def _not_a_chunk(what: str) -> StreamBroken:
    return StreamBroken(f"the upstream sent {what}", code="not_a_chunk")
