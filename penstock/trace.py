"""Where the spans of a job's trace begin and end, for those who make none.

The methods here do nothing, and nothing is imported for them; penstock/tracing.py has the same ones
on OpenTelemetry. `tracer_of` gives the one or the other. No delta comes by here: a span is made for
a request, a submission, an attempt, a call of the upstream, and a delivery.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from penstock.errors import ConfigurationError

if TYPE_CHECKING:
    from penstock.commands import Accepted, Claim
    from penstock.job import JobSpec
    from penstock.outbox import Taken
    from penstock.outcome import Outcome
    from penstock.settings import Route, Settings

MOST_TRACESTATE = 512
"""Bytes of a tracestate that are carried: what W3C Trace Context asks everybody to pass on."""


class Carrier(NamedTuple):
    """A place in a trace, as it travels: the two headers of W3C Trace Context.

    https://www.w3.org/TR/trace-context/
    """

    traceparent: str
    tracestate: str = ""

    @classmethod
    def of(cls, traceparent: str | None, tracestate: str | None) -> Carrier | None:
        """None without a traceparent; a tracestate that is too long is left behind."""
        if not traceparent:
            return None
        kept = tracestate or ""
        return cls(traceparent, kept if len(kept) <= MOST_TRACESTATE else "")

    @property
    def headers(self) -> dict[str, str]:
        """As headers of a request."""
        return {name: value for name, value in self._asdict().items() if value}


class Span:
    """A span that is none, as a context manager; what is said of it goes nowhere."""

    @property
    def carrier(self) -> Carrier | None:
        """What whoever goes on from here is given; None where there is no trace."""
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self.end()

    def end(self) -> None:
        """The span is over; once more is no harm."""

    def replied(self, status: int, path: str | None) -> None:
        """Of a request: the answer's status, and the path as the route writes it, if it is one."""

    def accepted(self, jobs: Sequence[Accepted]) -> None:
        """Of a submission: what it led to."""

    def settled(self, outcome: Outcome) -> None:
        """Of an attempt: what it came to."""

    def began(self, moment: float | None) -> None:
        """Of a call: when the first token came, by the monotonic clock; None where none has."""

    def answered(self, completion: Mapping[str, Any]) -> None:
        """Of a call: the `chat.completion` it gave."""

    def delivered(self, status: int | None, error: str) -> None:
        """Of a delivery: the endpoint's status, None without any; `error` is "" after a 2xx."""


_NONE = Span()


class Tracer:
    """Makes no spans."""

    def request(self, method: str, scheme: str, headers: Mapping[str, str]) -> Span:
        """An HTTP request that came in; `headers` by lower-case name."""
        return _NONE

    def send(self, specs: Sequence[JobSpec]) -> Span:
        """A submission of jobs."""
        return _NONE

    def attempt(self, claim: Claim) -> Span:
        """An attempt at a job; how long the job waited becomes a span of its own."""
        return _NONE

    def call(self, route: Route, model: str) -> Span:
        """A call of the upstream within an attempt."""
        return _NONE

    def delivery(self, taken: Taken) -> Span:
        """One try to deliver a webhook."""
        return _NONE

    def close(self) -> None:
        """Send what has ended on its way, for a moment at most."""

    async def aclose(self) -> None:
        """As `close`, while the event loop goes on."""


def tracer_of(settings: Settings, service: str) -> Tracer:
    """The tracer of a process; it makes spans where the settings say so.

    Args:
        settings: see `tracing` there.
        service: what this process is called in traces, unless OTEL_SERVICE_NAME says otherwise.

    Raises ConfigurationError where the extra `tracing` is not installed.
    """
    if not settings.tracing:
        return Tracer()
    try:
        from penstock.tracing import OpenTelemetry
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        raise ConfigurationError(
            "tracing needs OpenTelemetry: pip install 'penstock[tracing]', or set tracing to false"
        ) from None
    return OpenTelemetry.of(settings, service)
