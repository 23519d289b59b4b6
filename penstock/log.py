"""Sets up structured logs for a process: one line an event, on stderr, `console` or `json`.

Every line has `action`; lines about a job also have `job`, `attempt`, `route` and `tenant`. The
libraries' own records (Celery, kombu, redis, httpx) go through the same processors.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog
from structlog.typing import EventDict, Processor

from penstock.settings import Settings, wants_colours

_SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]

_QUIET = ("celery.worker.strategy", "httpx", "httpcore", "aiohttp", "asyncio")
"""Loggers that write a line for each job or request; ours say the same with more context."""


def configure(settings: Settings) -> None:
    """Send everything this process logs through one formatter to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_SHARED, _foreign_action],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(settings.log),
            ],
        )
    )
    logging.captureWarnings(True)
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(settings.log_level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def get_logger(name: str) -> Any:
    """A logger; call it as `log.info(message, action=..., ...)`."""
    return structlog.stdlib.get_logger(name)


def _renderers(style: str) -> list[Processor]:
    if style == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    plain = structlog.dev.plain_traceback
    return [
        structlog.dev.ConsoleRenderer(colors=wants_colours(sys.stderr), exception_formatter=plain)
    ]


def _foreign_action(logger: Any, method: str, event: EventDict) -> EventDict:
    """Give a library's line an action too: the logger's name."""
    record = event.get("_record")
    event.setdefault("action", f"library.{record.name}" if record else "library")
    return event
