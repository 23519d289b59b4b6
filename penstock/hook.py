"""Webhooks in, as penstock.toml describes them: from somebody's payload to a job."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from penstock import mistake
from penstock.webhook import TenantWebhook

Scheme = Literal["github", "stripe", "slack", "standard", "token"]
"""How a sender proves who it is: see producers/hooks/signature.py."""

Header = Annotated[str, StringConstraints(pattern=mistake.HEADER, to_lower=True)]
Variable = Annotated[str, StringConstraints(pattern=mistake.VARIABLE)]
Named = Annotated[str, StringConstraints(pattern=mistake.NAME)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HookMessage(_Frozen):
    """One message of the job: its content is a template over `payload` and `headers`."""

    role: Annotated[str, Field(min_length=1)] = "user"
    content: Annotated[str, Field(min_length=1)]


class HookAnswer(_Frozen):
    """What is done with the answer; without it there is the feed, and the tenant's webhook."""

    webhook: TenantWebhook


class Hook(_Frozen):
    """A `[hooks.NAME]` table.

    Attributes:
        verify: the sender's scheme.
        secret_env: environment variable of the secret; several, for a rotation, with spaces.
        header: where `token` finds the secret; left out: `Authorization: Bearer`.
        delivery_header: where `token` finds the delivery's id; left out: none.
        tolerance: seconds by which a signed time may differ from ours.
        filter: an expression over `payload` and `headers`; what it is false for is ignored.
        messages: the job's.
        request: further fields of the chat-completions body.
        conversation: a template; jobs of one conversation run one at a time.
    """

    verify: Scheme
    secret_env: Variable
    header: Header | None = None
    delivery_header: Header | None = None
    tolerance: Annotated[float, Field(gt=0, le=86_400)] = 300
    filter: str | None = None
    messages: Annotated[tuple[HookMessage, ...], Field(min_length=1)]
    request: dict[str, Any] = Field(default_factory=dict)
    tenant: Named = "default"
    route: Named = "default"
    priority: Annotated[int, Field(ge=0, le=9)] = 5
    conversation: str | None = None
    result_ttl: Annotated[int, Field(ge=1)] | None = None
    answer: HookAnswer | None = None

    @field_validator("request")
    @classmethod
    def _is_rest(cls, value: dict[str, Any]) -> dict[str, Any]:
        if taken := sorted(value.keys() & cls.model_fields.keys()):
            text = f"holds {', '.join(taken)}: for this there are fields beside it"
            raise mistake.wrong(text, "write them there")
        return value
