"""The code blocks of README and docs run as they are printed.

docs/getting-started.md is walked whole by tests/acceptance/test_chaos_newcomer.py.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from ops.local.server import EmbeddedServer
from ops.simulator import SimulatorThread
from penstock import Client, Settings, keys
from producers.hooks import hook
from tests.examples import PAGES, Block, Session, blocks, clone, parses
from tests.gateways import GatewayThread
from tests.processes import WorkerProcess, free_port

LANGUAGES = {"sh", "python", "json", "toml", "js", "text"}
"""`text` is a picture or what a program says, and the only one that nothing reads."""

BY_THE_WALK = "the walk of getting-started.md does it in a fresh clone"

NOT_RUN = {
    ("README.md", "make demo"): BY_THE_WALK,
    ("README.md", "make up"): BY_THE_WALK,
    ("operations.md", "ops/redis/make-users.sh ops/kubernetes"): (
        "needs a cluster; test_kubernetes.py builds what is applied"
    ),
    ("operations.md", "ops/redis/make-users.sh /etc/penstock redis.example"): "needs a cluster",
    ("operations.md", "docker compose"): "needs a container engine; test_compose.py reads the file",
    ("operations.md", "python3 -m venv"): "installs a system's units; test_systemd.py checks them",
}
"""Shell blocks that are only checked for their syntax, by page and how they begin, and why."""

EXAMPLE_JOB = "job_01K9ZV2M8Q3W5E7R9T1Y3V5B7N"
"""The job that the pages speak of; a reader puts in one of their own."""


class Stand(NamedTuple):
    """What the pages' blocks talk to, with a job for those that follow one."""

    client: Client
    gateway: GatewayThread
    port: int
    job: str

    def fill_in(self, text: str) -> str:
        """Put our addresses where the pages have the usual ones."""
        text = text.replace("127.0.0.1:6379", f"127.0.0.1:{self.port}")
        text = text.replace("/etc/penstock", "etc/penstock")  # below the page's directory
        text = text.replace("redis.Redis()", f"redis.Redis(port={self.port})")
        text = re.sub(r"(127\.0\.0\.1|localhost):8000", self.gateway.url[len("http://") :], text)
        return text.replace(EXAMPLE_JOB, self.job)

    def jobs(self) -> set[str]:
        """All there are, of every tenant."""
        tenants = self.client.store.redis.smembers(keys.TENANTS)
        return {job.id for name in tenants for job in self.client.list(name.decode(), limit=1000)}

    def tidy(self) -> None:
        """Forget API keys: while there is one, each request needs one."""
        self.client.store.redis.delete(keys.APIKEYS)


@pytest.fixture(scope="module")
def stand(session_dir: Path) -> Iterator[Stand]:
    """One for all pages: server, simulator, worker and gateway; webhooks stay in the outbox."""
    port = free_port()
    with (
        EmbeddedServer(session_dir / "examples", port=port),
        SimulatorThread() as simulator,
    ):
        url = f"redis://127.0.0.1:{port}/0"
        settings = Settings.load(redis_url=url, upstream_url=simulator.url)
        environment = {
            "PENSTOCK_UPSTREAM_URL": simulator.url,
            "PENSTOCK_WEBHOOK_CONCURRENCY": "0",
        }
        worker = WorkerProcess(url, (), environment)
        try:
            worker.until_ready()
            with GatewayThread(settings) as gateway, Client(settings) as client:
                job = client.submit([{"role": "user", "content": "Hello!"}])
                yield Stand(client, gateway, port, job.id)
        finally:
            worker.kill()


def excuse(block: Block) -> str | None:
    """Why a block is not run here; None where it is."""
    if block.language not in ("sh", "python"):
        return "it is no program"
    if block.page.name == "getting-started.md":
        return BY_THE_WALK
    reasons = [
        reason
        for (page, start), reason in NOT_RUN.items()
        if block.page.name == page and block.text.startswith(start)
    ]
    return reasons[0] if reasons else None


EVERY = [block for page in PAGES for block in blocks(page)]
RUN = [page for page in PAGES if any(excuse(block) is None for block in blocks(page))]


def test_the_list_of_what_is_not_run_is_true() -> None:
    """Each entry is about a block that is there, and there are more blocks that are run."""
    for page, start in NOT_RUN:
        assert any(b.page.name == page and b.text.startswith(start) for b in EVERY), start
    assert sum(excuse(block) is None for block in EVERY) > 10


@pytest.mark.parametrize("block", EVERY, ids=lambda block: block.place)
def test_a_block_is_what_it_says(block: Block) -> None:
    """It names its language, and is correct by the rules of that."""
    assert block.language in LANGUAGES
    parses(block)


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("sh", "false\ntrue"),
        ("sh", "false | true"),
        ("sh", "exit 0"),
        ("python", "1 / 0"),
        ("python", "raise SystemExit"),
    ],
)
def test_a_block_that_fails_is_noticed(language: str, text: str, tmp_path: Path) -> None:
    """A command that fails, whatever follows it; a program that ends; an error of Python."""
    session = Session(tmp_path, {}, str)
    try:
        with pytest.raises(AssertionError):
            session.run(Block(PAGES[0], 1, language, text, []))
    finally:
        session.close()


@pytest.mark.skipif(not shutil.which("node"), reason="needs node")
@pytest.mark.parametrize(
    "block", [b for b in EVERY if b.language == "js"], ids=lambda block: block.place
)
def test_javascript_is_what_it_says(block: Block, tmp_path: Path) -> None:
    """It is a module without mistakes in its syntax."""
    (tmp_path / "example.mjs").write_text(block.text)
    subprocess.run(["node", "--check", tmp_path / "example.mjs"], check=True)


@pytest.mark.parametrize(
    "block", [b for b in EVERY if b.language == "toml"], ids=lambda block: block.place
)
def test_a_configuration_is_taken(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A penstock.toml of the pages is right by itself, its hooks and their templates too."""
    path = tmp_path / "penstock.toml"
    path.write_text(block.text)
    for name in re.findall(r'(?:secret|token)_env = "(\w+)"', block.text):
        monkeypatch.setenv(name, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    monkeypatch.setenv("PENSTOCK_CONFIG", str(path))
    settings = Settings.load()
    hook.compiled(settings)
    given = tomllib.loads(block.text)
    assert settings.model_fields_set >= given.keys()


@pytest.mark.xdist_group("examples")
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_the_examples_of_a_page_run(page: Path, stand: Stand, tmp_path: Path) -> None:
    """One after the other, as a reader would type them; every job they make is answered."""
    before = stand.jobs()
    clone(tmp_path)
    (tmp_path / ".curlrc").write_text("fail\nsilent\nshow-error\n")
    environment = {
        "PENSTOCK_REDIS_URL": f"redis://127.0.0.1:{stand.port}/0",
        "CURL_HOME": str(tmp_path),
    }
    session = Session(tmp_path, environment, stand.fill_in)
    try:
        for block in blocks(page):
            if excuse(block) is None:
                session.run(block)
    finally:
        session.close()
        stand.tidy()
    for job in stand.jobs() - before:
        assert stand.client.job(job).result(timeout=30).choices
