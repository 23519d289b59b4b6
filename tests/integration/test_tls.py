"""Redis with TLS, as ops/redis/tls.conf and make-certificates.sh set it up."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis

from ops.doctor.examination import Examination
from ops.simulator import SimulatorThread
from penstock import AsyncClient, Client, ConfigurationError, Settings, StoreUnavailable
from penstock.store import Store
from tests.gateways import GatewayProcess, http
from tests.guarded import OPERATIONS, Guarded
from tests.processes import WorkerProcess, run_cli
from tests.waiting import until

pytestmark = pytest.mark.xdist_group("users")

MESSAGES = [{"role": "user", "content": "hello"}]


class Encrypted(Guarded):
    """A server that wants a certificate too."""

    def url(self, role: str) -> str:
        """With the client's certificate."""
        certificate = f"ssl_certfile={self.directory}/tls/client.crt"
        return f"{super().url(role)}&{certificate}&ssl_keyfile={self.directory}/tls/client.key"


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encrypted]:
    """A server that speaks nothing but TLS."""
    directory = tmp_path_factory.mktemp("tls")
    server = Encrypted(directory, tls=True)
    try:
        until(lambda: _answers(server))
        yield server
    finally:
        server.process.terminate()
        server.process.wait(20)
        shutil.rmtree(directory, ignore_errors=True)


def _answers(server: Encrypted) -> bool:
    with closing(Store(server.url("operator"))) as store:
        try:
            return bool(store.redis.ping())
        except redis.ConnectionError:
            return False


async def test_every_part_speaks_tls(
    encrypted: Encrypted, simulator: SimulatorThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients, a worker with its broker, a gateway, the command line and the doctor."""
    environment = {"PENSTOCK_UPSTREAM_URL": simulator.url, "PENSTOCK_LOG": "json"}
    url = encrypted.url("worker")
    worker = WorkerProcess(encrypted.url("operator"), environment={**environment,
                           "PENSTOCK_REDIS_URL": url})  # fmt: skip
    gateway = GatewayProcess(encrypted.url("gateway"))
    try:
        worker.until_ready()
        settings = Settings.load(redis_url=encrypted.url("producer"))
        with Client(settings) as client:
            assert client.submit(MESSAGES).result(timeout=20).choices
        async with AsyncClient(settings) as awaiting, AsyncClient(settings, shared=True) as shared:
            job = await awaiting.submit(MESSAGES)
            assert (await job.result(timeout=20)).choices
            assert [event.type async for event in shared.job(job.id).events()][-1] == "completed"
        with http(gateway.until_ready().url) as api:
            answer = api.post("/v1/jobs", params={"wait": 20}, json={"messages": MESSAGES})
            assert answer.json()["state"] == "completed"
        assert run_cli(encrypted.url("producer"), "submit", "x", "--wait").returncode == 0
        monkeypatch.setenv("PENSTOCK_REDIS_URL", encrypted.url("operator"))
        monkeypatch.setenv("PENSTOCK_UPSTREAM_URL", simulator.url)
        examination = Examination()
        assert {finding.verdict for finding in examination._redis(Settings.load())} == {"ok"}
        worker.terminate()
        assert worker.wait() == 0
    finally:
        worker.kill()
        gateway.kill()


def test_who_is_not_trusted_is_refused(encrypted: Encrypted) -> None:
    """Without TLS, without a certificate, by another name or authority nobody gets anywhere."""
    url, plain = encrypted.url("producer"), f"redis://127.0.0.1:{encrypted.port}"
    refused = {
        plain: "cannot reach",
        Guarded.url(encrypted, "producer"): "cannot reach",
        url.replace("127.0.0.1", "localhost"): "is not trusted: .*Check ssl_ca_certs",
        url.replace("/ca.crt", "/client.crt"): "is not trusted",
    }
    for wrong, told in refused.items():
        with (
            Client(Settings.load(redis_url=wrong)) as client,
            pytest.raises(StoreUnavailable, match=told),
        ):
            client.get("job_x")
    with pytest.raises(ConfigurationError, match="ssl_ca_certs that cannot be read"):
        Store(url.replace("/ca.crt", "/none.crt"))


def test_certificates_are_renewed_under_the_same_authority(encrypted: Encrypted) -> None:
    """Made again, for other names too, they are trusted by whoever trusted the old ones."""
    tls = encrypted.directory / "tls"
    before = (tls / "ca.crt").read_text(), (tls / "server.crt").read_text()
    names = ["127.0.0.1", "redis-1.internal", "::1"]
    subprocess.run([OPERATIONS / "make-certificates.sh", encrypted.directory, *names], check=True)
    assert (tls / "ca.crt").read_text() == before[0]
    assert (tls / "server.crt").read_text() != before[1]
    told = subprocess.run(
        ["openssl", "verify", "-CAfile", tls / "ca.crt", "-verify_hostname", "redis-1.internal",
         tls / "server.crt"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "OK" in told.stdout
    with encrypted.connect("operator") as operator:
        operator.config_set("tls-cert-file", str(tls / "server.crt"))
    assert Path(tls / "ca.key").stat().st_mode & 0o077 == 0
    with closing(Store(encrypted.url("producer"))) as store:
        assert store.redis.ping()
