"""What tests share: a real server, settings for it, the simulator, worker processes."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import certifi
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from ops.local.server import EmbeddedServer
from ops.simulator import SimulatorThread
from penstock import Client, Settings
from penstock.commands import register
from penstock.store import Store
from tests.gateways import GatewayThread
from tests.processes import WorkerProcess
from tests.terminal import CommandLine
from worker.dispatch import CELERY_VERSION, render_template

# No test fails because the machine is slow: hypothesis would time examples, and the making of them.
hypothesis_settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("untimed")

IGNORED = "ignore::pytest.PytestUnraisableExceptionWarning"

# jsonschema would build 38 grammars of IRIs, for seconds in each process; no schema here has one.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]


@pytest.fixture(autouse=True, scope="session")
def clean_environment() -> Iterator[None]:
    """No test sees the settings of whoever runs it, nor a penstock.toml that lies around."""
    patch = pytest.MonkeyPatch()
    for name in [n for n in os.environ if n.startswith("PENSTOCK_") or n == "DEEPINFRA_TOKEN"]:
        patch.delenv(name)
    yield
    patch.undo()


@pytest.fixture(autouse=True, scope="session")
def one_authority(session_dir: Path) -> Iterator[None]:
    """Each HTTP client reads all authorities it trusts, for 30 ms; nobody here needs any."""
    end = "-----END CERTIFICATE-----\n"
    first = Path(certifi.where()).read_text().partition(end)[0] + end
    (session_dir / "authority.pem").write_text(first)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(session_dir / "authority.pem"))
        yield


@pytest.fixture(autouse=True, scope="session")
def interruptible() -> None:
    """What runs in the background is deaf to some signals; what the tests start must hear all."""
    usuals = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    for number, usual in usuals.items():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests marked `chaos` out, unless a marker expression asks for tests by name."""
    for item in items:
        if "test_chaos" in item.nodeid:  # readers are cancelled in mid-connect: redis-py leaks some
            item.add_marker(pytest.mark.filterwarnings(IGNORED))
    if config.option.markexpr:
        return
    long = [item for item in items if item.get_closest_marker("chaos")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


def pytest_collection_finish() -> None:
    """All that has been imported and collected stays: looking for garbage there takes seconds."""
    gc.freeze()


@pytest.fixture(scope="session")
def session_dir() -> Iterator[Path]:
    """A short path: a Unix socket's may have 107 bytes, and pytest's own directories are longer."""
    path = Path(tempfile.mkdtemp(dir="/tmp", prefix="ps-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def state_dir() -> Iterator[Path]:
    """As session_dir, for one test."""
    path = Path(tempfile.mkdtemp(dir="/tmp", prefix="ps-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def server(session_dir: Path) -> Iterator[EmbeddedServer]:
    """One server for all tests of this process; `settings` empties it for each."""
    with EmbeddedServer(session_dir / "server", directives={"enable-debug-command": "yes"}) as it:
        yield it


@pytest.fixture
def settings(server: EmbeddedServer, session_dir: Path) -> Settings:
    """Settings for the server, which is empty."""
    settings = Settings.load(redis_url=server.url, state_dir=session_dir / "state")
    store = Store(server.url)
    store.redis.flushall()
    store.close()
    return settings


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    """A store on the empty server."""
    store = Store(settings.server_url)
    yield store
    store.close()


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    """A client on the empty server."""
    with Client(settings) as client:
        yield client


@pytest.fixture
def cli(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    """Commands on the empty server."""
    monkeypatch.setenv("PENSTOCK_REDIS_URL", settings.server_url)
    return CommandLine(monkeypatch, capsys)


@pytest.fixture
def registered(store: Store, settings: Settings) -> None:
    """As if a worker had started: the gate is open, though nobody claims."""
    store.run(register(render_template(), CELERY_VERSION, settings.resolved_routes, {}))


@pytest.fixture
def simulator() -> Iterator[SimulatorThread]:
    """A simulated upstream in a thread."""
    with SimulatorThread() as simulator:
        yield simulator


@pytest.fixture
def start_worker(
    settings: Settings, simulator: SimulatorThread
) -> Iterator[Callable[..., WorkerProcess]]:
    """Start worker processes on the server and the simulator; all end with the test."""
    started: list[WorkerProcess] = []

    def start(*arguments: str, **environment: str) -> WorkerProcess:
        environment.setdefault("PENSTOCK_UPSTREAM_URL", simulator.url)
        worker = WorkerProcess(settings.server_url, arguments, environment)
        started.append(worker)
        worker.until_ready()
        return worker

    yield start
    for worker in started:
        worker.kill()


@pytest.fixture
def gateway(settings: Settings) -> Iterator[GatewayThread]:
    """A gateway on the empty server, in a thread; whoever needs answers starts a worker too."""
    with GatewayThread(settings) as gateway:
        yield gateway
