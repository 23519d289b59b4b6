"""A job that speaks: the worker's side of a feed, by hand."""

from __future__ import annotations

from penstock import Client, Job, commands
from penstock.events import encode
from penstock.state import JobState

MESSAGES = [{"role": "user", "content": "Hello!"}]


def delta(text: str) -> bytes:
    return encode({"choices": [{"index": 0, "delta": {"content": text}}]})


class Speaker:
    """Claims a job and says things in its feed."""

    def __init__(self, client: Client, job: Job, *, holder: str = "speaker") -> None:
        self.store, self.id = client.store, job.id
        self.store.run(commands.admit("default"))
        claim = self.store.run(commands.claim(job.id, holder))
        assert isinstance(claim, commands.Claim), claim
        self.holder, self.n = holder, 1

    def say(self, *texts: str) -> None:
        events: list[commands.Argument] = []
        for text in texts:
            self.n += 1
            events += [self.id, self.holder, self.n, delta(text)]
        assert self.store.run(commands.append(events)) == []

    def finish(self, state: JobState = JobState.COMPLETED) -> None:
        data = {"id": "c", "choices": []} if state is JobState.COMPLETED else FAILURE
        command = commands.finish(self.id, self.holder, state, self.n + 1, data)
        assert self.store.run(command).accepted

    def fail(self) -> None:
        self.finish(JobState.FAILED)

    def give_back(self) -> None:
        command = commands.requeue(self.id, self.holder, "connection_broken", 0, "retry")
        assert self.store.run(command).accepted


FAILURE = {
    "error": {"type": "status_error", "code": None, "message": "no", "status": 400},
    "attempts": 1,
}
