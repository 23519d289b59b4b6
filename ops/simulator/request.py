"""The chat request as the simulator reads it: the fields that change the answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from ops.simulator.script import Script

MODEL = "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B"
"""The model DeepInfra serves by this name; the simulator answers for any other name too."""


class ChatRequest(msgspec.Struct, frozen=True):
    """The body of POST {base}/chat/completions; fields not listed are accepted and ignored."""

    messages: Annotated[list[Any], msgspec.Meta(min_length=1)]
    model: str = MODEL
    stream: bool | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=128)] | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    tools: list[Any] | None = None
    seed: int | None = None
    service_tier: str | None = None
    simulate: Script | None = None

    @property
    def budget(self) -> int | None:
        """The most completion tokens of one choice."""
        return self.max_completion_tokens or self.max_tokens


_decoder = msgspec.json.Decoder(ChatRequest)


def read(body: bytes) -> ChatRequest:
    """Decode a body; raises msgspec.DecodeError for no JSON, ValidationError for a wrong field."""
    return _decoder.decode(body)


def coerce(request: bytes | Mapping[str, Any] | ChatRequest) -> ChatRequest:
    """A request in any form a test may hold it in."""
    if isinstance(request, ChatRequest):
        return request
    if isinstance(request, bytes):
        return read(request)
    return msgspec.convert(request, ChatRequest)
