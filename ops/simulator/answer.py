"""What the simulator will say: a pure function of the request, its script and the server's seed."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, zip_longest
from typing import Any, Literal

import msgspec

from ops.simulator.request import ChatRequest, coerce
from ops.simulator.script import PLAIN, Script, ToolCall
from ops.simulator.words import THOUGHT, VOCABULARY, introduction, tokenize

USD_PER_INPUT_TOKEN = 0.10e-6
USD_PER_OUTPUT_TOKEN = 0.50e-6
USD_PER_CACHED_TOKEN = 0.04e-6
"""DeepInfra's prices for Nemotron 3 Super."""

TIERS = {"priority": 1.5, "flex": 0.8}
"""What a service tier does to the price; others leave it as it is."""

BYTES_PER_PROMPT_TOKEN = 4
EPOCH = 1_694_623_354
"""`created` of the earliest answer; the time stamp of DeepInfra's documentation sample."""

Kind = Literal["content", "reasoning", "refusal", "tool_calls"]


class Piece(msgspec.Struct, frozen=True, gc=False):
    """One token: the delta's field and value (text, or a list with one tool call fragment)."""

    kind: Kind
    value: str | list[dict[str, Any]]


_MADE_UP: dict[Kind, list[Piece]] = {
    kind: [Piece(kind, word) for word in VOCABULARY] for kind in ("content", "reasoning")
}


class Choice(msgspec.Struct, frozen=True):
    """One of the `n` answers: its tokens in order, and how it ends; None: it broke off."""

    index: int
    pieces: list[Piece]
    finish_reason: str | None

    def _text(self, kind: Kind) -> str:
        return "".join(str(piece.value) for piece in self.pieces if piece.kind == kind)

    @property
    def content(self) -> str | None:
        """The whole content; None where only a refusal or tool calls were sent."""
        return self._text("content") or (None if self.refusal or self.tool_calls else "")

    @property
    def reasoning(self) -> str | None:
        """The whole reasoning, or None."""
        return self._text("reasoning") or None

    @property
    def refusal(self) -> str | None:
        """The whole refusal, or None."""
        return self._text("refusal") or None

    @property
    def tool_calls(self) -> list[dict[str, Any]]:
        """The whole calls: `{"id", "type", "function": {"name", "arguments"}}` each."""
        fragments = [piece.value[0] for piece in self.pieces if piece.kind == "tool_calls"]
        return assemble(fragment for fragment in fragments if isinstance(fragment, dict))

    def message(self, reasoning_field: str = "reasoning_content") -> dict[str, Any]:
        """The message of the plain form; fields nothing was said in are left out."""
        message: dict[str, Any] = {"role": "assistant", "content": self.content}
        extras = {
            reasoning_field: self.reasoning,
            "refusal": self.refusal,
            "tool_calls": self.tool_calls,
        }
        return message | {name: value for name, value in extras.items() if value}


class Answer(msgspec.Struct, frozen=True):
    """All that will be said; `usage` is the final one, even where the script keeps it back."""

    id: str
    created: int
    model: str
    service_tier: str | None
    choices: list[Choice]
    usage: dict[str, Any]

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The final message of every choice, in the order of their index."""
        return [choice.message() for choice in self.choices]

    @property
    def tokens(self) -> int:
        """How many deltas carry something."""
        return sum(len(choice.pieces) for choice in self.choices)

    def deltas(self) -> Iterator[tuple[int, Piece]]:
        """(choice, token) in the order they are sent: the choices take turns."""
        if len(self.choices) == 1:
            return ((0, piece) for piece in self.choices[0].pieces)
        return self._by_turns()

    def _by_turns(self) -> Iterator[tuple[int, Piece]]:
        for row in zip_longest(*(choice.pieces for choice in self.choices)):
            for index, piece in enumerate(row):
                if piece is not None:
                    yield index, piece


def predict(
    request: bytes | Mapping[str, Any] | ChatRequest,
    *,
    script: Script | None = None,
    seed: int = 0,
    attempt: int = 1,
) -> Answer:
    """Tell what a simulator with this seed answers when no fault strikes.

    Args:
        request: the body as JSON bytes, as a mapping or decoded.
        script: used where the request has no `simulate` field.
        seed: the server's.
        attempt: how often this request was made, from 1; matters only to a script with `vary`.
    """
    chat = coerce(request)
    script = chat.simulate or script or PLAIN
    identity = _identity(chat, script, seed, attempt)
    choices = [_choice(chat, script, identity, index) for index in range(chat.n or 1)]
    tier = script.service_tier or chat.service_tier
    return Answer(
        id=f"chatcmpl-{identity:032x}",
        created=EPOCH + identity % 100_000_000,
        model=chat.model,
        service_tier=tier,
        choices=choices,
        usage=usage(
            prompt_tokens(chat), sum(len(choice.pieces) for choice in choices), script, tier
        ),
    )


def cut(answer: Answer, tokens: int, script: Script, reason: str | None = None) -> Answer:
    """What an answer of one choice is after so many tokens, which end for this reason."""
    (choice,) = answer.choices
    said = Choice(choice.index, choice.pieces[:tokens], reason)
    counted = usage(answer.usage["prompt_tokens"], len(said.pieces), script, answer.service_tier)
    return msgspec.structs.replace(answer, choices=[said], usage=counted)


def _identity(chat: ChatRequest, script: Script, seed: int, attempt: int) -> int:
    """128 bits that stand for the question; `stream` and the transport's wishes do not count."""
    variation = attempt if script.vary else 1
    question = [seed, script.seed, variation, chat.model, chat.messages, chat.tools, chat.seed]
    encoded = msgspec.json.encode(question, order="deterministic")
    return int.from_bytes(hashlib.blake2b(encoded, digest_size=16).digest())


def prompt_tokens(chat: ChatRequest) -> int:
    """One token per four bytes of the compact JSON of `messages` and `tools`, at least one."""
    given = [chat.messages, chat.tools] if chat.tools else [chat.messages]
    size = sum(len(msgspec.json.encode(part)) for part in given)
    return max(1, size // BYTES_PER_PROMPT_TOKEN)


def usage(prompt: int, completion: int, script: Script, tier: str | None) -> dict[str, Any]:
    """The usage object of so many tokens, with what they cost in USD."""
    counted: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    cached = min(script.cached_tokens or 0, prompt)
    if script.cached_tokens is not None:
        counted["prompt_tokens_details"] = {"cached_tokens": cached}
    if script.cost:
        price = (prompt - cached) * USD_PER_INPUT_TOKEN
        price += cached * USD_PER_CACHED_TOKEN + completion * USD_PER_OUTPUT_TOKEN
        counted["estimated_cost"] = round(price * TIERS.get(tier or "", 1.0), 12)
    return counted


def _choice(chat: ChatRequest, script: Script, identity: int, index: int) -> Choice:
    rng = random.Random(identity + index)
    whole = [
        *_reasoning(script, rng),
        *_content(script, rng),
        *_spoken("refusal", script.refusal),
        *_calls(chat, script, rng),
    ]
    pieces = whole[: chat.budget]
    usual = "tool_calls" if script.tool_calls else "stop"
    reason = script.finish_reason or ("length" if len(pieces) < len(whole) else usual)
    return Choice(index, pieces, reason)


def _introduces(script: Script) -> bool:
    wishes = (script.tokens, script.text, script.refusal)
    return not script.tool_calls and all(wish is None for wish in wishes)


def _spoken(kind: Kind, text: str | None) -> list[Piece]:
    return [Piece(kind, token) for token in tokenize(text or "")]


def _reasoning(script: Script, rng: random.Random) -> list[Piece]:
    wish = script.reasoning
    if isinstance(wish, int):
        return rng.choices(_MADE_UP["reasoning"], k=wish)
    if wish is None and _introduces(script):
        wish = THOUGHT
    return _spoken("reasoning", wish)


def _content(script: Script, rng: random.Random) -> list[Piece]:
    if _introduces(script):
        return _spoken("content", introduction(rng.randrange(1000)))
    if script.text is None:
        return rng.choices(_MADE_UP["content"], k=script.tokens or 0)
    return _spoken("content", script.text)


def _calls(chat: ChatRequest, script: Script, rng: random.Random) -> list[Piece]:
    if not script.tool_calls:
        return []
    wanted = script.tool_calls
    calls = _made_up_calls(chat, wanted, rng) if isinstance(wanted, int) else wanted
    cut = _shredded if script.shred else _whole_heads
    fragments = [cut(i, call, call.id or _call_id(rng)) for i, call in enumerate(calls)]
    ordered = _by_turns(fragments) if script.shred else chain.from_iterable(fragments)
    return [Piece("tool_calls", [fragment]) for fragment in ordered]


def _made_up_calls(chat: ChatRequest, count: int, rng: random.Random) -> list[ToolCall]:
    """Calls of the tools the request offers, in turn, with arguments nobody has to understand."""
    offered = [name for tool in chat.tools or [] if (name := _tool_name(tool))] or ["look_up"]
    return [
        ToolCall(name=offered[i % len(offered)], arguments=_made_up_arguments(rng))
        for i in range(count)
    ]


def _tool_name(tool: Any) -> str | None:
    function = tool.get("function") if isinstance(tool, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else None


def _made_up_arguments(rng: random.Random) -> str:
    words = "".join(rng.choices(VOCABULARY, k=4))
    return msgspec.json.encode({"query": words, "limit": rng.randrange(100)}).decode()


def _call_id(rng: random.Random) -> str:
    return f"call_{rng.getrandbits(96):024x}"


def _whole_heads(index: int, call: ToolCall, call_id: str) -> list[dict[str, Any]]:
    """The usual way: id, type and name at once, then the arguments token by token."""
    head = {"name": call.name, "arguments": ""}
    opening = {"index": index, "id": call_id, "type": "function", "function": head}
    rest = tokenize(call.arguments)
    return [opening, *({"index": index, "function": {"arguments": part}} for part in rest)]


def _shredded(index: int, call: ToolCall, call_id: str) -> list[dict[str, Any]]:
    middle = len(call.name) // 2
    name = [part for part in (call.name[:middle], call.name[middle:]) if part]
    arguments = [call.arguments[at : at + 3] for at in range(0, len(call.arguments), 3)]
    return [
        {"index": index, "id": call_id},
        {"index": index, "type": "function"},
        *({"index": index, "function": {"name": part}} for part in name),
        *({"index": index, "function": {"arguments": part}} for part in arguments),
    ]


def _by_turns(fragments: list[list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    for row in zip_longest(*fragments):
        yield from (fragment for fragment in row if fragment is not None)


def assemble(fragments: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join tool call fragments by their index."""
    calls: dict[int, dict[str, Any]] = {}
    for fragment in fragments:
        blank = {"id": "", "type": "", "function": {"name": "", "arguments": ""}}
        call = calls.setdefault(fragment["index"], blank)
        call["id"] += fragment.get("id", "")
        call["type"] += fragment.get("type", "")
        for name, part in fragment.get("function", {}).items():
            call["function"][name] += part
    return [calls[index] for index in sorted(calls)]
