"""Scripts with one of the checks taken out that the promises rest on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from penstock.scripts import Script, load

CHECKS: dict[str, dict[str, tuple[str, str]]] = {
    "fence": {
        "append": ("f[1] == 'running' and f[2] == holder and f[3]", "f[3]"),
        "finish": (
            "if record.state ~= 'running' or record.holder ~= holder then "
            "return {'stale', record.state} end",
            "",
        ),
    },
    "sweep": {"sweep": ("if recovers then recover(id, record) end", "")},
    "outage": {"sweep": ("return now >= recover_from", "return true")},
    "settlement": {
        "sweep": (
            "settle(job, record, now, used)\n  account(record, used, false, now)",
            "account(record, used, false, now)",
        ),
    },
    "idempotency": {
        "enqueue": ("if not seen and key ~= '' then", "if false then"),
    },
}
"""Check by name: in which script, the text that makes it, and what takes its place."""


def without(check: str | None) -> Callable[[str], Script]:
    """`penstock.scripts.load`, but its scripts lack this check."""
    changes = CHECKS[check] if check else {}

    def mutated(name: str) -> Script:
        script = load(name)
        if name not in changes:
            return script
        old, new = changes[name]
        if old not in script.source:
            raise LookupError(f"the check of {name}.lua has been rewritten; mutate the new one")
        source = script.source.replace(old, new)
        return Script(name, source, hashlib.sha1(source.encode()).hexdigest())  # noqa: S324 - Redis's own name for a script

    return mutated
