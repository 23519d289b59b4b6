"""A hook at work: from a delivery's bytes to the job it asks for. Pure, but for its templates."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from pydantic import SecretStr

from penstock.errors import ConfigurationError, InvalidRequest
from penstock.hook import Hook
from penstock.job import JobSpec
from penstock.mistake import Mistake, Place, dotted
from penstock.settings import Settings, refusal
from producers.hooks import signature
from producers.hooks.template import Expression, NoTemplate, Template

BODY = "hook_body"
"""The metadata field that holds the SHA-256 of a delivery's body."""

FORM = "application/x-www-form-urlencoded"


class Unreadable(Exception):
    """A payload is neither JSON nor a form, or not in UTF-8."""


class WorkingHook:
    """A hook with its templates compiled and its secrets read.

    Raises ConfigurationError where one of them is wrong.
    """

    def __init__(self, name: str, hook: Hook, settings: Settings) -> None:
        if found := list(_mistakes(name, hook, settings)):
            raise refusal(found)
        self.name = name
        self.hook = hook
        place = partial(_dotted, name)
        self._filter = Expression(hook.filter, place("filter")) if hook.filter else None
        self._messages = [
            (message.role, Template(message.content, place("messages", n, "content")))
            for n, message in enumerate(hook.messages)
        ]
        self._conversation = (
            Template(hook.conversation, place("conversation")) if hook.conversation else None
        )
        self._settings = settings
        self._secrets: Sequence[str] = ()

    def arm(self) -> None:
        """Read the secrets; raises ConfigurationError."""
        self._secrets = self._settings.hook_secrets(self.name, self.hook.secret_env)
        try:
            for secret in self._secrets:
                signature.check_secret(self.hook, secret)
        except ValueError as error:
            raise ConfigurationError(f"{self.hook.secret_env}: {error}") from None
        self._webhook()

    def verify(self, headers: Mapping[str, str], body: bytes, now: float) -> str | None:
        """Check who sent this; the delivery's id, if a header says it. Raises Unverified."""
        return signature.verify(self.hook, headers, body, self._secrets, now)

    def delivery_of(self, headers: Mapping[str, str]) -> str | None:
        """The id that a delivery's headers say, whoever sent it."""
        return headers.get(signature.id_header(self.hook, headers) or "")

    def wants(self, payload: Any, headers: Mapping[str, str]) -> bool:
        """Whether this is to become a job; raises TemplateFailed."""
        return self._filter is None or self._filter.holds({"payload": payload, "headers": headers})

    def submission(
        self, payload: Any, headers: Mapping[str, str], delivery: str | None, body: bytes
    ) -> dict[str, Any]:
        """The job, as a client takes it; raises TemplateFailed."""
        values = {"payload": payload, "headers": headers}
        digest = hashlib.sha256(body).hexdigest()
        fields: dict[str, Any] = {
            **self.hook.request,
            "messages": [
                {"role": role, "content": template.render(values)}
                for role, template in self._messages
            ],
            "tenant": self.hook.tenant,
            "route": self.hook.route,
            "priority": self.hook.priority,
            "metadata": {"hook": self.name, BODY: digest},
            "idempotency_key": self._key(payload, delivery, digest),
        }
        if self._conversation and (name := self._conversation.render(values)):
            fields["conversation"] = name
        if self.hook.result_ttl:
            fields["result_ttl"] = self.hook.result_ttl
        if self.hook.answer:
            fields["webhook"] = self._webhook()
        return fields

    def _key(self, payload: Any, delivery: str | None, digest: str) -> str:
        """What makes two deliveries the same."""
        id_ = delivery or _signed_id(self.hook, payload)
        known = hashlib.sha256(f"id {id_}".encode()).hexdigest() if id_ else digest
        return f"hook:{self.name}:{known}"

    def _webhook(self) -> dict[str, Any] | None:
        """Where the answer goes, with its secret; raises ConfigurationError."""
        if self.hook.answer is None:
            return None
        webhook = self.hook.answer.webhook
        secrets: Sequence[SecretStr] = ()
        if webhook.secret_env:
            secrets = self._settings.webhook_secrets(webhook.secret_env)
        return {"url": webhook.url, "secret": tuple(secrets), "events": webhook.events}


def _dotted(name: str, *place: str | int) -> str:
    return dotted(("hooks", name, *place))


def mistakes(settings: Settings) -> list[Mistake]:
    """What is wrong with the templates of all hooks."""
    hooks = settings.hooks.items()
    return [found for name, hook in hooks for found in _mistakes(name, hook, settings)]


def _mistakes(name: str, hook: Hook, settings: Settings) -> Iterator[Mistake]:
    for place, kind, source in _sources(hook):
        try:
            kind(source, "")
        except NoTemplate as error:
            place = ("hooks", name, *place)
            remedy = f"correct it, and see: penstock hooks test {name}"
            yield settings.mistake(place, str(error), remedy)
    try:
        JobSpec.build(_skeleton(hook))
    except InvalidRequest as error:
        text = f"makes no valid job: {str(error).removeprefix('invalid request: ')}"
        yield settings.mistake(("hooks", name, "request"), text, "correct it")


def _skeleton(hook: Hook) -> dict[str, Any]:
    """The job as far as no payload has a say in it."""
    said = [{"role": message.role, "content": "..."} for message in hook.messages]
    fields = {**hook.request, "messages": said, "tenant": hook.tenant, "route": hook.route}
    return {**fields, **({"result_ttl": hook.result_ttl} if hook.result_ttl else {})}


def strangers(settings: Settings) -> list[tuple[str, str]]:
    """Each hook whose route these settings do not have, with that route: workers may know it."""
    hooks, known = settings.hooks.items(), settings.resolved_routes
    return [(name, hook.route) for name, hook in hooks if hook.route not in known]


def _sources(hook: Hook) -> Iterator[tuple[Place, type[Template | Expression], str]]:
    """The templates of a hook, with where they stand in its table."""
    if hook.filter:
        yield ("filter",), Expression, hook.filter
    for position, message in enumerate(hook.messages):
        yield ("messages", position, "content"), Template, message.content
    if hook.conversation:
        yield ("conversation",), Template, hook.conversation


def compiled(settings: Settings) -> dict[str, WorkingHook]:
    """Every hook of the settings, ready for use; raises ConfigurationError."""
    if found := mistakes(settings):
        raise refusal(found)
    hooks = {name: WorkingHook(name, hook, settings) for name, hook in settings.hooks.items()}
    for hook in hooks.values():
        hook.arm()
    return hooks


def read(body: bytes, content_type: str) -> Any:
    """A payload: JSON, or a form; of a form with a field `payload` the JSON in that.

    GitHub and Slack send such forms. Raises Unreadable.
    """
    media = content_type.partition(";")[0].strip().lower()
    try:
        if media == FORM:
            form = dict(parse_qsl(body.decode("utf-8"), keep_blank_values=True, errors="strict"))
            return msgspec.json.decode(form["payload"]) if "payload" in form else form
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise Unreadable("the payload is not JSON in UTF-8, nor a form") from None


_SIGNED_IDS = {"stripe": "id", "slack": "event_id"}


def _signed_id(hook: Hook, payload: Any) -> str | None:
    """The delivery's id where it stands in the payload."""
    field = _SIGNED_IDS.get(hook.verify)
    id_ = payload.get(field) if field and isinstance(payload, dict) else None
    return id_ if isinstance(id_, str) and id_ else None
