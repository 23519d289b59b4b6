"""What a user sees of an error: one line on stderr, and the exit status."""

from __future__ import annotations

import errno
import os
import sys
import traceback

import click

from penstock.errors import ConfigurationError, InvalidRequest, PenstockError, StoreUnavailable
from penstock.settings import Settings

PIPE_CLOSED = 141
"""128 + SIGPIPE: the reader of our stdout has left, which is its good right."""


_EXTRAS = {
    **dict.fromkeys(("celery", "httpx", "httpx_aiohttp", "prometheus_client", "uvloop"), "worker"),
    **dict.fromkeys(("fastapi", "uvicorn", "starlette", "httptools", "jinja2"), "gateway"),
}
"""What `pip install penstock` alone does not bring, and the extra that does."""

_UNWRITABLE = {errno.ENOSPC, errno.EBADF, errno.EIO}


def report(error: Exception) -> int:
    """Say what went wrong, for people; the exit status."""
    match error:
        case click.exceptions.NoArgsIsHelpError():
            error.show()
            return error.exit_code
        case click.ClickException():
            _say(_usage(error))
            return error.exit_code
        case ConfigurationError() if error.mistakes:
            for mistake in error.mistakes:
                _say(str(mistake))
            return status_of(error)
        case PenstockError():
            _say(str(error))
            return status_of(error)
        case OSError() if error.errno in _UNWRITABLE:
            discard_output()
            _say(f"cannot write the output: {error.strerror}")
            return 1
        case ModuleNotFoundError() if error.name in _EXTRAS:
            _say(f"this command needs {error.name}: pip install 'penstock[{_EXTRAS[error.name]}]'")
            return 2
        case _:
            return _unexpected(error)


def status_of(error: PenstockError) -> int:
    """2 for a mistake in what was asked, 3 where Redis cannot be reached, else 1."""
    if isinstance(error, StoreUnavailable):
        return 3
    return 2 if isinstance(error, ConfigurationError | InvalidRequest) else 1


def _say(text: str) -> None:
    click.echo(f"penstock: {text}", err=True)


def _usage(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    if context is None:
        return error.format_message()
    return f"{error.format_message()} See: {context.command_path} --help"


def _unexpected(error: Exception) -> int:
    """A fault of ours, or of the machine: still no traceback unless it was asked for."""
    discard_output()
    if _debugging():
        traceback.print_exception(error)
    else:
        text = str(error).partition("\n")[0] or "no message"
        _say(f"unexpected {type(error).__name__}: {text}. Traceback: set PENSTOCK_LOG_LEVEL=debug")
    return 1


def _debugging() -> bool:
    try:
        return Settings.load().log_level == "debug"
    except Exception:  # it may be what has failed already
        return False


def discard_output() -> None:
    """What is still buffered cannot be written: keep the interpreter's exit from trying again."""
    try:
        if sys.stdout is not None:  # it was closed before we began
            sys.stdout.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
