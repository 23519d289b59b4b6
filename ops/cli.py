"""`penstock`: the command line. Each command's module is imported when the command is used."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from typing import NamedTuple

import click

from ops.interrupt import INTERRUPTED, never_lost


class Mount(NamedTuple):
    """Where a command is, and its line in `penstock --help`: that must not cost its import."""

    place: str
    help: str


COMMANDS = {
    "demo": Mount("ops.local.demo:demo", "Show everything at work: one prompt, answered live."),
    "up": Mount("ops.local.up:up", "Run a server, workers and a gateway until Ctrl-C."),
    "submit": Mount("producers.cli:submit", "Submit a chat job."),
    "follow": Mount("producers.cli:follow", "Follow a job's answer until its end."),
    "show": Mount("producers.cli:show", "Show what Redis knows about a job."),
    "list": Mount("producers.cli:list_jobs", "List a tenant's jobs, newest first."),
    "cancel": Mount("producers.cli:cancel", "Stop jobs."),
    "retry": Mount("producers.cli:retry", "Run failed jobs again."),
    "usage": Mount("producers.usage:usage", "Show what tenants used, and what it cost."),
    "routes": Mount("producers.routes:routes", "Show the routes live; apply a changed file."),
    "top": Mount("producers.top.cli:top", "Watch what goes on; cancel and retry jobs."),
    "keys": Mount("producers.keys:keys", "Make, list and revoke the gateway's API keys."),
    "gateway": Mount("producers.gateway.cli:gateway", "Serve HTTP until Ctrl-C or SIGTERM."),
    "hooks": Mount("producers.hooks.cli:hooks", "Show what webhooks become."),
    "webhooks": Mount(
        "producers.webhooks:webhooks", "Show webhook deliveries, and send them again."
    ),
    "worker": Mount("ops.local.worker:worker", "Run a worker until Ctrl-C or SIGTERM."),
    "simulator": Mount("ops.simulator.cli:simulator", "Run a stand-in for the upstream API."),
    "doctor": Mount("ops.doctor.cli:doctor", "Check everything, and say what to do."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].place.partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from COMMANDS."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, mount.help) for name, mount in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; what it left in stdout's buffer counts as its own failure."""
        try:
            result: object = super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()
        except BrokenPipeError:  # click would make a plain 1 of it, which says "the job failed"
            from ops.failure import PIPE_CLOSED, discard_output

            discard_output()
            ctx.exit(PIPE_CLOSED)
        return result


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="penstock", message="%(prog)s %(version)s")
@click.option("--lifeline", is_flag=True, hidden=True, help="Stop when stdin ends.")
def penstock(lifeline: bool) -> None:
    """Chat completions as jobs: in through Redis, answered by Celery workers, followed live.

    Exit status: 0 done; 1 the job failed, was cancelled or expired; 2 wrong usage, request or
    configuration; 3 Redis cannot be reached. Results go to stdout, everything else to stderr.
    """
    if lifeline:
        threading.Thread(target=_stop_with_stdin, name="lifeline", daemon=True).start()


def _stop_with_stdin() -> None:
    """Whoever started us holds the other end; when it is gone, stop as on SIGTERM."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> int:
    """Run a command; every error is one line on stderr and an exit status."""
    never_lost()
    try:
        result = penstock.main(prog_name="penstock", standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):  # here: a second Ctrl-C would hit another import
        return INTERRUPTED
    except Exception as error:
        from ops.failure import report

        return report(error)
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    sys.exit(main())
