"""Where `penstock` starts: before it imports anything that takes time, Ctrl-C just ends it."""

from __future__ import annotations

import signal


def main() -> int:
    """Run the command line; its exit status."""
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interruptible:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # an exception would be a traceback so far
    from ops.cli import main as run

    if interruptible:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return run()
