"""What one attempt decided. The attempt produces it; exactly one store transition follows.

============ ============================================== =================================
outcome      produced by                                    what happens next
============ ============================================== =================================
Completed    the assembler, from a whole answer             finish as `completed`
Retry        worker/retry.py, from an UpstreamError         requeue after the delay
Failed       worker/retry.py, from an UpstreamError         finish as `failed`
Cancelled    the attempt, told by the keeper                finish as `cancelled`
Interrupted  the attempt, at shutdown or a lost lease       hand back at the front, not counted
============ ============================================== =================================

No repr carries a completion: outcomes may be logged.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from penstock.errors import UpstreamError


@dataclass(frozen=True, slots=True)
class Completed:
    """The upstream gave a whole answer: a `chat.completion` object, usage with its cost."""

    completion: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Retry:
    """The attempt failed and another may succeed; it must not start before `delay` seconds."""

    error: UpstreamError
    delay: float


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt failed and was the last: no retry can help, or none is left or in time."""

    error: UpstreamError


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Somebody cancelled the job; `completion` is the partial answer, None if there was none."""

    reason: str
    completion: dict[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Interrupted:
    """This worker stops, or has lost the job's lease: not the job's fault, so not an attempt."""

    reason: str


Outcome: TypeAlias = Completed | Retry | Failed | Cancelled | Interrupted
