"""What a request asks of Penstock, and what of the model.

The body is the model's, as it is: any field that OpenAI, DeepInfra or another upstream knows, and
none of them is dropped. The job's options stand beside them, by the names that `Client.submit`
takes, or as headers `x-penstock-…`, which win. What is unknown there is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from penstock.errors import InvalidRequest
from penstock.job import OPTION_NAMES

PREFIX = "x-penstock-"
IDEMPOTENCY_KEY = "idempotency-key"

OPTIONS = {name.replace("_", "-"): name for name in OPTION_NAMES - {"idempotency_key", "metadata"}}
"""Job options by their header's name, without the prefix."""

NUMBERS = {"priority", "delay", "deadline", "max-attempts", "result-ttl"}

HANDLING = {"on-disconnect": ("cancel", "continue"), "restart": ("end", "buffer")}
"""What else a header says, and its values."""


HEADERS = tuple(PREFIX + name for name in sorted({*OPTIONS, *HANDLING}))


class Asked(NamedTuple):
    """A chat request, taken apart.

    Attributes:
        job: what `AsyncClient.submit` takes: the body's fields and the job's options.
        stream: whether chunks are wanted.
        usage: whether they are to tell the usage.
    """

    job: dict[str, Any]
    stream: bool
    usage: bool


class Handling(NamedTuple):
    """How the request is to be dealt with; None where it does not say."""

    on_disconnect: str | None
    restart: str | None

    @property
    def buffer(self) -> bool:
        """Whether only finished attempts are delivered."""
        return self.restart == "buffer"


def read_chat(body: Mapping[str, Any]) -> Asked:
    """Take a chat-completions body apart; raises InvalidRequest.

    How it is answered is no part of the job: the same request, streamed or not, has one digest.
    """
    job = dict(body)
    stream = _flag(job.pop("stream", None), "stream")
    usage = False
    if isinstance(options := job.get("stream_options"), dict):
        rest = {name: value for name, value in options.items() if name != "include_usage"}
        usage = _flag(options.get("include_usage"), "stream_options.include_usage")
        job["stream_options"] = rest or None
    if job.get("stream_options", ...) is None:
        del job["stream_options"]
    return Asked(job, stream, usage)


def _flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool | None):
        raise InvalidRequest(f"{name}: must be true or false")
    return bool(value)


def read_options(headers: Mapping[str, str]) -> dict[str, Any]:
    """The job options that the headers name; raises InvalidRequest."""
    check_names(headers)
    options: dict[str, Any] = {}
    for header, value in headers.items():
        name = header.lower().removeprefix(PREFIX)
        if header.lower().startswith(PREFIX) and name in OPTIONS:
            options[OPTIONS[name]] = _number(value) if name in NUMBERS else value
    if IDEMPOTENCY_KEY in headers:
        options["idempotency_key"] = headers[IDEMPOTENCY_KEY]
    return options


def check_names(headers: Iterable[str]) -> None:
    """Raise InvalidRequest for a header `x-penstock-…` that is none of HEADERS."""
    for header in headers:
        if header.lower().startswith(PREFIX) and header.lower() not in HEADERS:
            known = ", ".join(sorted([*OPTIONS, *HANDLING]))
            raise InvalidRequest(f"{header}: is unknown; {PREFIX} is followed by one of {known}")


def _number(text: str) -> float | str:
    """A header is text, and options are not converted; what is no number is told of as a field."""
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError:
        return text


def read_handling(headers: Mapping[str, str]) -> Handling:
    """What the headers say about the answer; raises InvalidRequest for an unknown value."""
    said: dict[str, str | None] = {}
    for name, values in HANDLING.items():
        value = said[name] = headers.get(PREFIX + name)
        if value is not None and value not in values:
            raise InvalidRequest(f"{PREFIX}{name}: must be {' or '.join(values)}")
    return Handling(said["on-disconnect"], said["restart"])


def with_route(job: dict[str, Any], models: Mapping[str, str]) -> dict[str, Any]:
    """The job with the route that its model stands for, where it names none itself.

    Args:
        job: body fields and options.
        models: by route, the default one's first.

    A model is looked for among the routes' models, then among their names. Any other is the
    default route's upstream's to know.
    """
    model = job.get("model")
    if not isinstance(model, str) or job.get("route") is not None:
        return job
    for name, known in models.items():
        if known == model:
            return {**job, "route": name}
    if model in models:
        return {**{k: v for k, v in job.items() if k != "model"}, "route": model}
    return job
