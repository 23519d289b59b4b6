"""The producer commands, on a real server, with a real worker where an answer is wanted."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from penstock import Client, Settings
from penstock.commands import append, claim, finish
from penstock.events import decode, encode
from penstock.settings import RouteOverrides, Tenant
from penstock.state import JobState
from tests.forks import PENSTOCK
from tests.integration.gates import Gate
from tests.processes import Started, run_cli
from tests.terminal import CommandLine, on_a_terminal

NOWHERE = "redis://127.0.0.1:1/0"

COMPLETION = {
    "choices": [{"index": 0, "message": {"content": "Water falls."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2},
}


@pytest.fixture
def body(tmp_path: Path) -> Path:
    """A body that scripts the simulator's answer."""
    path = tmp_path / "body.json"
    simulate = {"text": "Water falls.", "reasoning": "Hm."}
    messages = [{"role": "user", "content": "What does water do?"}]
    path.write_text(json.dumps({"messages": messages, "simulate": simulate}))
    return path


def failed(client: Client) -> str:
    """A job whose only attempt failed."""
    job = client.submit([{"role": "user", "content": "Hi"}]).id
    client.store.run(claim(job, "me"))
    error = {"type": "status_error", "code": "bad_model", "message": "no such model", "status": 404}
    data = {"error": error, "attempts": 1}
    client.store.run(finish(job, "me", JobState.FAILED, 2, data))
    return job


def test_submit_prints_the_id_and_nothing_else(cli: CommandLine, client: Client) -> None:
    """Stdout is the id of a job that has every option as it was given."""
    said = cli(
        "submit", "Hi", "--tenant", "zug", "--priority", "7", "--delay", "2h",
        "--metadata", "a=b=c", "--metadata", "d=", "--conversation", "c1", "--idempotency-key", "k",
        "--webhook", "https://example.org/hook",
    )  # fmt: skip
    assert (said.status, said.err) == (0, "")
    record = client.get(said.out.rstrip("\n"))
    assert (record.tenant, record.priority, record.state) == ("zug", 7, JobState.SCHEDULED)
    assert record.available_at - record.created_at == pytest.approx(7200, abs=1)
    assert record.metadata == {"a": "b=c", "d": ""}
    assert (record.conversation, record.idempotency_key) == ("c1", "k")
    assert record.webhook == "https://example.org/hook"
    assert msgspec.json.decode(record.request) == {"messages": [{"role": "user", "content": "Hi"}]}


def test_an_idempotency_key_gives_the_same_job(cli: CommandLine) -> None:
    """A second submission prints the first one's id, and says so on stderr."""
    first = cli("submit", "Hi", "--idempotency-key", "k")
    again = cli("submit", "Hi", "--idempotency-key", "k")
    assert again == (0, first.out, "this idempotency key has a job already\n")
    other = cli("submit", "Hello", "--idempotency-key", "k")
    assert (other.status, other.out) == (2, "")
    assert "belongs to" in other.err


def test_an_answer_is_followed_by_different_readers(
    cli: CommandLine, client: Client, start_worker: Started, body: Path
) -> None:
    """--follow gives the text, --wait the completion, follow the same again, --json the events."""
    start_worker()
    live = cli("submit", "--body", str(body), "--follow")
    assert (live.status, live.out) == (0, "Water falls.\n")
    job, thought, closing = live.err.splitlines()
    assert thought == "Hm."
    assert closing.startswith("done in ")

    late = cli("follow", job)
    assert (late.out, late.err.splitlines()) == (live.out, [thought, closing])

    events = list(client.job(job).events())
    lines = cli("follow", job, "--json").out.splitlines()
    assert [decode(line.encode()) for line in lines] == events
    rest = cli("follow", job, "--json", "--after", events[1].id).out.splitlines()
    assert rest == lines[2:]
    assert cli("follow", job, "--after", events[-1].id) == (0, "", "")

    waited = cli("submit", "--body", str(body), "--wait")
    assert waited.status == 0
    completion = json.loads(waited.out)
    assert completion["object"] == "chat.completion"
    assert completion["choices"][0]["message"]["content"] == "Water falls."
    assert waited.err == f"{next(client.list()).id}\n"

    shown = cli("show", job)
    assert "completed" in shown.out
    assert shown.out.rstrip().endswith("Water falls.")
    assert "What does water do?" not in shown.out


def test_a_prompt_can_come_through_a_pipe(client: Client, settings: Settings) -> None:
    """`-` reads all of stdin: the prompt, or a body with --body."""
    done = run_cli(settings.server_url, "submit", "-", input_="Zürich\n")
    request = msgspec.json.decode(client.get(done.stdout.strip()).request)
    assert request["messages"] == [{"role": "user", "content": "Zürich\n"}]
    done = run_cli(settings.server_url, "submit", "--body", "-", input_=json.dumps(request))
    assert msgspec.json.decode(client.get(done.stdout.strip()).request) == request
    done = run_cli(settings.server_url, "submit", "--body", "-", input_="{")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("penstock: stdin, line 1, column 2: ")


def test_a_broken_attempt_is_declared_void(
    cli: CommandLine, start_worker: Started, tmp_path: Path
) -> None:
    """A follower sees that what it read is void, then the whole answer, and ends well."""
    fault = {"kind": "close", "event": 4}
    simulate = {"text": "one two three four", "fault": fault, "attempts": 1, "gap": 0.1}
    messages = [{"role": "user", "content": "Count."}]
    path = tmp_path / "body.json"
    path.write_text(json.dumps({"messages": messages, "simulate": simulate}))
    start_worker()
    said = cli("submit", "--body", str(path), "--follow")
    assert said.status == 0
    void, whole = said.out.splitlines()
    assert whole == "one two three four"
    assert whole.startswith(void)
    assert "the text above is void, the answer begins anew" in said.err


def test_a_failed_job_is_an_exit_status(cli: CommandLine, client: Client, registered: None) -> None:
    """Whoever follows gets 1 and the error on stderr; show tells it; retry runs it again."""
    job = failed(client)
    text = f"penstock: {job} failed after 1 attempt: no such model\n"
    assert cli("follow", job) == (1, "", text)
    shown = cli("show", job)
    assert shown.status == 0
    assert "no such model (bad_model)" in shown.out
    assert cli("retry", job) == (0, f"{job} queued\n", "")
    assert client.get(job).state == JobState.ADMITTED
    refused = cli("retry", job)
    assert (refused.status, refused.out) == (1, "")
    assert refused.err.endswith("only a failed job can be run again\n")


def test_a_waiting_job_shows_its_place_and_its_wait(cli: CommandLine, settings: Settings) -> None:
    """`show` says its number in the line, and how long that takes once the route has answered."""
    gate = Gate(settings.server_url, RouteOverrides(concurrency=1))
    gate.now = time.time() - 100
    jobs = gate.submit_many(3)
    gate.admit()
    assert shown(cli, jobs[2])["waits as"] == "number 2 in line"
    for job in jobs:
        holder = gate.claim(job)
        gate.now += 20
        gate.end(job, holder, 100)
        gate.admit()
    gate.now = time.time()
    running, *jobs = gate.submit_many(5)
    gate.admit()
    assert shown(cli, jobs[3])["waits as"] == "number 4 in line, about 1 min 20 s to go"
    assert "waits as" not in shown(cli, running)


def test_a_job_shows_the_tier_it_was_asked_and_answered_in(
    cli: CommandLine, settings: Settings
) -> None:
    """The tier the gate chose and why; and the one that the answer named, which is billed."""
    gate = Gate(settings.server_url, RouteOverrides(service_tiers=("flex", "priority")))
    gate.now = time.time()
    job = gate.submit()
    assert "tier" not in shown(cli, job)
    gate.admit()
    assert shown(cli, job)["tier"] == "flex (cheapest)"
    answered = {**COMPLETION, "service_tier": "default"}
    gate.run(finish(job, gate.claim(job), JobState.COMPLETED, 2, answered))
    facts = shown(cli, job)
    assert (facts["tier"], facts["answered in tier"]) == ("flex (cheapest)", "default")


def shown(cli: CommandLine, job: str) -> dict[str, str]:
    """What `penstock show` says of a job, by name."""
    said = cli("show", job)
    assert (said.status, said.err) == (0, "")
    lines = (re.split(r" {2,}", line, maxsplit=1) for line in said.out.splitlines())
    return {line[0]: line[1] for line in lines if len(line) == 2}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            "--tenant full",
            "tenant full has as many jobs waiting as may wait (1); submit again when some have run",
        ),
        (
            "--tenant poor",
            "the budget of tenant poor has no room for this job; wait for the next day, or raise "
            "budget_day",
        ),
        (
            "--tenant talker --conversation c --on-busy reject",
            "conversation 'c' is at {first}; wait for its end, or choose another on_busy",
        ),
    ],
    ids=["max_waiting", "budget", "conversation"],
)
def test_a_job_that_is_one_too_many_is_refused(
    cli: CommandLine, settings: Settings, arguments: str, complaint: str
) -> None:
    """Over max_waiting, a budget, or in a busy conversation: one line, status 2, nothing stored."""
    full, poor = Tenant(max_waiting=1), Tenant(budget_day=1, over_budget="reject")
    gate = Gate(settings.server_url, RouteOverrides(concurrency=1), {"full": full, "poor": poor})
    gate.now = time.time()
    first = {"poor": gate.submit("poor")}
    gate.admit()
    gate.finish(first["poor"], 1, usd=1)
    gate.submit("other")
    gate.admit()  # it has the only place
    first |= {tenant: gate.submit(tenant, conversation="c") for tenant in ("full", "talker")}
    tenant = arguments.split()[1]
    for way in ([], ["--follow"], ["--wait"]):
        said = cli("submit", "Hi", *arguments.split(), *way)
        assert said == (2, "", f"penstock: {complaint.format(first=first[tenant])}\n")
    listed = cli("list", "--tenant", tenant, "--json").out.splitlines()
    assert [json.loads(line)["id"] for line in listed] == [first[tenant]]


def test_cancel_takes_several_jobs(cli: CommandLine) -> None:
    """Each gets its line; an unknown one is an error, and does not keep the others."""
    one, two = (cli("submit", "Hi").out.strip() for _ in range(2))
    said = cli("cancel", one, "job_none", two)
    assert (said.status, said.out) == (1, f"{one} cancelled\n{two} cancelled\n")
    assert said.err == (
        "penstock: there is no job job_none; "
        "it was never submitted here, or its result_ttl is over\n"
    )
    assert cli("cancel", one) == (0, f"{one} cancelled\n", "")
    followed = cli("follow", one)
    assert followed.status == 1
    assert followed.err == f"penstock: {one} was cancelled: cancelled by request\n"


def test_list_and_show_are_made_for_programs_too(cli: CommandLine, client: Client) -> None:
    """A table for people; with --json one object a line, whole only for a single job."""
    one, two = (cli("submit", "Hi", "--tenant", "zug").out.strip() for _ in range(2))
    cli("cancel", one)
    table = cli("list", "--tenant", "zug").out.splitlines()
    assert table[0].split() == ["JOB", "STATE", "AGE", "TOOK", "ROUTE", "ATTEMPT", "TOKENS"]
    assert [line.split()[:2] for line in table[1:]] == [[two, "queued"], [one, "cancelled"]]
    (line,) = cli("list", "--tenant", "zug", "--state", "queued", "--json").out.splitlines()
    assert json.loads(line)["id"] == two
    assert "request" not in json.loads(line)
    assert len(cli("list", "--tenant", "zug", "--limit", "1", "--json").out.splitlines()) == 1
    whole = json.loads(cli("show", one, "--json").out)
    assert whole["request"] == {"messages": [{"role": "user", "content": "Hi"}]}
    assert whole["outcome"]["reason"] == "cancelled by request"
    assert cli("list") == (0, "", "tenant default has no such jobs\n")


@pytest.mark.parametrize("command", ["follow", "show", "cancel", "retry"])
def test_an_unknown_job_is_told_in_the_same_words(cli: CommandLine, command: str) -> None:
    """Whatever one wants of it: exit status 1 and the library's message."""
    assert cli(command, "job_none") == (
        1, "", "penstock: there is no job job_none; "
        "it was never submitted here, or its result_ttl is over\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    "arguments", ["submit Hi --wait", "follow j", "show j", "list", "cancel j", "retry j"]
)
def test_redis_out_of_reach_is_status_3(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch, arguments: str
) -> None:
    """Every command says which server it tried, and what to do."""
    monkeypatch.setenv("PENSTOCK_REDIS_URL", NOWHERE)
    said = cli(*arguments.split())
    assert (said.status, said.out) == (3, "")
    assert said.err.startswith(f"penstock: cannot reach Redis at {NOWHERE}")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("command", ["list", "up"])
@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        (NOWHERE, "Start it, set PENSTOCK_REDIS_URL to another, or unset that and run one here"),
        (
            "sentinel://me:canary@127.0.0.1:1,127.0.0.1:2/0?master_name=m",
            "start its servers and Sentinels, or correct hosts and master_name in PENSTOCK_REDIS_",
        ),
    ],
)
def test_what_to_do_fits_the_url(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch, url: str, remedy: str, command: str
) -> None:
    """`penstock up` starts no server where one is given, so nobody is sent there with the URL."""
    monkeypatch.setenv("PENSTOCK_REDIS_URL", url)
    said = cli(command)
    assert (said.status, said.err.count("\n")) == (3, 1)
    assert remedy in said.err
    assert ("penstock up" in said.err) == (url == NOWHERE)
    assert "canary" not in said.err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("submit", "nothing to submit: give a PROMPT"),
        ("submit Hi --follow --wait", "--follow and --wait exclude each other. See: penstock subm"),
        ("submit Hi --delay soon", "'soon' is not a duration: write 90, 30s, 5m, 2h or 1d."),
        ("submit Hi --metadata a", "'a' is not KEY=VALUE."),
        ("submit Hi --priority 10", "10 is not in the range 0<=x<=9."),
        ("submit Hi --route nowhere", "there is no route 'nowhere'; known routes: default"),
        ("submit Hi --tenant a/b", "invalid request: tenant: is no name"),
        ("submit Hi --webhook ftp://x", "invalid request: webhook.url: is no webhook's URL"),
        ("submit Hi --deadline 0", "deadline: must be more than 0 seconds from now"),
        ("submit Hi --delay 367d", "invalid request: delay: must be 31622400 or less"),
        ("follow j --after x", "'x' is not a cursor; a cursor is an event's id, such as 1-17."),
        ("list --state lost", "'lost' is not one of"),
        ("list --limit 0", "0 is not in the range x>=1."),
        ("cancel", "Missing argument 'JOB...'"),
        ("drink", "No such command 'drink'."),
    ],
)
def test_a_mistake_in_the_call_is_status_2(
    cli: CommandLine, arguments: str, complaint: str
) -> None:
    """One line on stderr names it; nothing was submitted."""
    said = cli(*arguments.split())
    assert (said.status, said.out) == (2, "")
    assert complaint in said.err
    assert said.err.count("\n") == 1


def test_a_reader_who_leaves_is_no_error(cli: CommandLine, settings: Settings) -> None:
    """`penstock list | head -1` ends quietly, with the status of a closed pipe."""
    for _ in range(3):
        cli("submit", "Hi")
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [PENSTOCK, "list"],
        env={**os.environ, "PENSTOCK_REDIS_URL": settings.server_url},
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=30,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.fixture
def following(settings: Settings) -> Iterator[subprocess.Popen[str]]:
    """`penstock submit --follow` of a job that no worker takes, through pipes."""
    process = subprocess.Popen(
        [PENSTOCK, "submit", "Hi", "--follow"],
        env={**os.environ, "PENSTOCK_REDIS_URL": settings.server_url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def test_ctrl_c_leaves_the_job_alone(client: Client, following: subprocess.Popen[str]) -> None:
    """An interrupted reader is told how to go on and how to stop the job, which still waits."""
    assert following.stderr is not None
    job = following.stderr.readline().strip()
    following.send_signal(signal.SIGINT)
    out, err = following.communicate(timeout=30)
    assert (following.returncode, out) == (130, "")
    assert err.startswith(f"{job} goes on. Follow it: penstock follow {job} --after 0-")
    assert err.endswith(f"Stop it: penstock cancel {job}\n")
    assert client.get(job).state == JobState.QUEUED


def test_a_terminal_shows_where_the_job_waits(client: Client, settings: Settings) -> None:
    """On a terminal a line tells what one waits for, and is gone when something else is said."""
    url = settings.server_url
    with on_a_terminal("submit", "Hi", "--follow", "--delay", "1h", PENSTOCK_REDIS_URL=url) as it:
        it.until(lambda text: "scheduled, may run from " in text)
        job = it.text.split()[0]
        client.cancel(job)
        assert it.wait() == 1
        last = it.text.rpartition("\x1b[K")[2]
        assert last == f"penstock: {job} was cancelled: cancelled by request\r\n"


def test_the_answer_stays_in_one_piece_on_a_terminal(
    client: Client, settings: Settings, registered: None
) -> None:
    """Text that comes in pieces, with pauses in between, is one line, whatever was shown behind."""
    job = client.submit([{"role": "user", "content": "Hi"}]).id
    client.store.run(claim(job, "me"))
    with on_a_terminal("follow", job, PENSTOCK_REDIS_URL=settings.server_url) as it:
        say(client, job, 2, "Water")
        it.until(lambda text: "running for" in text.partition("Water")[2])
        say(client, job, 3, " falls.")
        it.until(lambda text: "running for" in text.partition(" falls.")[2])
        client.store.run(finish(job, "me", JobState.COMPLETED, 4, COMPLETION))
        assert it.wait() == 0
    shown = "".join(part.partition("\x1b8")[2] or part for part in it.text.split("\x1b7"))
    assert "Water falls.\r\n" in shown.replace("\x1b[K", "")


def say(client: Client, job: str, n: int, text: str) -> None:
    """Write a delta as a worker would."""
    data = encode({"choices": [{"index": 0, "delta": {"content": text}}]})
    assert client.store.run(append([job, "me", n, data])) == []
