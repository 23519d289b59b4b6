"""The producer commands: submit, follow, show, list, cancel, retry."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from penstock import Client, Cursor, JobNotFound, JobState
from penstock.errors import InvalidTransition
from penstock.events import START
from producers import body as request_body
from producers.duration import Duration
from producers.following import follow_job
from producers.narration import CompletionLine, EventLines, Narration
from producers.stopping import stop


class CursorType(click.ParamType[Cursor]):
    """An event's id."""

    name = "cursor"

    def convert(
        self, value: str | Cursor, param: click.Parameter | None, ctx: click.Context | None
    ) -> Cursor:
        """Parse it."""
        if isinstance(value, Cursor):
            return value
        try:
            return Cursor.parse(value)
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


class KeyValue(click.ParamType[tuple[str, str]]):
    """One entry of a mapping."""

    name = "key=value"

    def convert(
        self,
        value: str | tuple[str, str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[str, str]:
        """Cut it at the first `=`."""
        if isinstance(value, tuple):
            return value
        key, equals, text = value.partition("=")
        if not (key and equals):
            self.fail(f"{value!r} is not KEY=VALUE.", param, ctx)
        return key, text


@click.command()
@click.argument("prompt", required=False)
@click.option("--follow", is_flag=True, help="Stream the answer's text as it comes.")
@click.option("--wait", is_flag=True, help="Print the final chat.completion as one line of JSON.")
@click.option("--body", metavar="FILE", help="A whole chat-completions body; - for stdin.")
@click.option("--system", help="A system message in front of PROMPT.")
@click.option("--route", help="The route to ask, a name from penstock.toml.")
@click.option("--tenant", help="Who owns the job.")
@click.option("--priority", type=click.IntRange(0, 9), help="9 goes first; 5 where left out.")
@click.option("--delay", type=Duration(), help="Do not start before: 90, 30s, 5m, 2h, 1d.")
@click.option("--deadline", type=Duration(), help="Give up after, written as --delay.")
@click.option("--idempotency-key", help="The same key gives the same job.")
@click.option("--conversation", help="Jobs of one conversation belong together.")
@click.option(
    "--on-busy",
    type=click.Choice(["enqueue", "reject", "interrupt", "replace"]),
    help="What to do where the conversation has jobs already.",
)
@click.option("--metadata", type=KeyValue(), multiple=True, help="Kept with the job; repeatable.")
@click.option("--webhook", metavar="URL", help="Told how the job ended.")
def submit(prompt: str | None, follow: bool, wait: bool, **options: Any) -> None:
    """Submit a chat job and print its id.

    PROMPT is what the user says; - reads it from stdin. A --body may also hold job options
    (route, tenant, priority ...); the options given here win.

    With --follow stdout gets the answer's text, and with --wait its chat.completion; the id,
    reasoning, tool calls and timings go to stderr.
    """
    if follow and wait:
        raise click.UsageError("--follow and --wait exclude each other.")
    request = _request(prompt, options)
    with Client() as client:
        job = client.submit_many([request])[0]
        if not job.created:
            click.echo("this idempotency key has a job already", err=True)
        if follow or wait:
            follow_job(client, job.id, Narration if follow else CompletionLine, introduce=True)
        else:
            click.echo(job.id)


@click.command()
@click.argument("job")
@click.option("--after", type=CursorType(), default=START, help="Only events after this cursor.")
@click.option("--json", "as_json", is_flag=True, help="The events, one JSON object a line.")
def follow(job: str, after: Cursor, as_json: bool) -> None:
    """Follow a job until its end, from its first event or after a cursor.

    The answer's text goes to stdout, everything else to stderr.
    """
    with Client() as client:
        follow_job(client, job, EventLines if as_json else Narration, after)


@click.command()
@click.argument("job")
@click.option("--json", "as_json", is_flag=True, help="Everything, with request and outcome.")
def show(job: str, as_json: bool) -> None:
    """Show what Redis knows about a job, how long it will wait, and its answer.

    The prompt is shown only with --json.
    """
    from producers import report

    with Client() as client:
        record, outlook = client.get(job), client.outlook([job])[0]
    if as_json:
        click.echo(report.whole_as_json(record, outlook))
    else:
        report.print_record(record, outlook)


@click.command("list")
@click.option("--state", type=click.Choice([str(s) for s in JobState]), help="Only these.")
@click.option("--tenant", default="default", show_default=True, help="Whose jobs.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_jobs(state: str | None, tenant: str, limit: int, as_json: bool) -> None:
    """List a tenant's jobs, newest first."""
    from producers import report

    with Client() as client:
        records = list(client.list(tenant, JobState(state) if state else None, limit))
    if as_json:
        for record in records:
            click.echo(report.as_json(record))
    elif records:
        report.print_table(records)
    else:
        click.echo(f"tenant {tenant} has no such jobs", err=True)


@click.command()
@click.argument("jobs", metavar="JOB...", nargs=-1, required=True)
def cancel(jobs: tuple[str, ...]) -> None:
    """Stop jobs, whether they wait or run."""
    with Client() as client:
        _each(jobs, lambda job: stop(client, job))


@click.command()
@click.argument("jobs", metavar="JOB...", nargs=-1, required=True)
def retry(jobs: tuple[str, ...]) -> None:
    """Run failed jobs again, each with a new feed and new attempts."""
    with Client() as client:

        def again(job: str) -> str:
            client.retry(job)
            return "queued"

        _each(jobs, again)


def _each(jobs: tuple[str, ...], act: Callable[[str], str]) -> None:
    """Print what came of each job; exit with 1 if there is one it could not be done to."""
    refused = False
    for job in jobs:
        try:
            click.echo(f"{job} {act(job)}")
        except (JobNotFound, InvalidTransition) as error:
            refused = True
            click.echo(f"penstock: {error}", err=True)
    if refused:
        sys.exit(1)


def _request(prompt: str | None, options: dict[str, Any]) -> dict[str, Any]:
    """The body's fields and the job's options, in one mapping as the client takes it."""
    fields = request_body.compose(prompt, options.pop("system"), options.pop("body"))
    metadata, present = dict(options.pop("metadata")), fields.get("metadata")
    if metadata and isinstance(present, dict):
        metadata = {**present, **metadata}
    given = {name: value for name, value in options.items() if value is not None}
    return {**fields, **given, **({"metadata": metadata} if metadata else {})}
