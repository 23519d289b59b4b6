"""What a check found."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

Verdict: TypeAlias = Literal["ok", "warning", "problem", "unreachable"]

EXIT_STATUS = {"ok": 0, "warning": 0, "problem": 1, "unreachable": 3}
"""Of `penstock doctor`; the highest counts."""


class Finding(msgspec.Struct, frozen=True):
    """The result of one check.

    Attributes:
        subject: settings, server, rights, workers, records, routes, webhooks or `route <name>`.
        verdict: whether something must be done (problem; unreachable, where that is Redis), should
            be (warning), or not.
        text: what was found.
        advice: what to do; empty where nothing needs to be done.
    """

    subject: str
    verdict: Verdict
    text: str
    advice: str = ""
