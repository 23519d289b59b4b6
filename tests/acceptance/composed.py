"""docker-compose.yml without containers: its services as processes, as it says they run.

The folders of its volumes are in one directory, its names of hosts are 127.0.0.1, and each port is
one that is free. Redis speaks TLS here and nothing else, with a certificate made for the run.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.acceptance.fleet import ROOT, Program
from tests.processes import free_port

FILE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
DOCKER = ROOT / "ops" / "docker"
ENTRYPOINT = str(DOCKER / "entrypoint.sh")
"""What our image runs where a service does not say."""

EVERYWHERE = "0.0.0.0"  # noqa: S104 - what containers listen on; here it is loopback


class Composition:
    """All that the file runs for jobs: users, Redis, first key, simulator, workers, gateways.

    Args:
        directory: for its volumes; the path should be short.
        config: what the file's config `penstock.toml` holds.

    Attributes:
        gateways: where they listen.
        programs: all that runs, by the name of the service and a number.
    """

    def __init__(self, directory: Path, config: str = "") -> None:
        self.directory = directory
        self.gateways: list[str] = []
        self.programs: dict[str, Program] = {}
        self._redis = free_port()
        self._upstream = free_port()
        self._metrics: dict[str, list[str]] = {"worker": [], "gateway": []}
        (directory / "deepinfra-token").touch()
        (directory / "penstock.toml").write_text(config)

    def url(self, role: str) -> str:
        """How a role reaches Redis."""
        text = (self.directory / "run" / role / "redis-url").read_text().strip()
        return f"{text}?ssl_ca_certs={self.directory}/redis.crt"

    def start_redis(self) -> None:
        """Make the users, then start the server."""
        self._run("users", "rediss")
        self._certify()
        text = (ROOT / "ops" / "redis" / "redis.conf").read_text()
        (self.directory / "data").mkdir()
        for there, here in {
            "\ndir /data\n": f"\ndir {self.directory}/data\n",
            "\naclfile /etc/penstock/": f"\naclfile {self.directory}/run/",
            "\nbind * -::*\n": "\nbind 127.0.0.1\n",
            "\nport 6379\n": f"\nport 0\ntls-port {self._redis}\ntls-auth-clients no\n"
            f"tls-cert-file {self.directory}/redis.crt\ntls-key-file {self.directory}/redis.key\n",
        }.items():
            assert there in text, there
            text = text.replace(there, here)
        (self.directory / "redis.conf").write_text(text)
        program, _ = SERVICES["redis"]["command"]
        self._start("redis", [program, str(self.directory / "redis.conf")], {})

    def make_key(self, tenant: str) -> str:
        """An API key, as an operator makes one."""
        return self._run("operator", "keys", "create", "--tenant", tenant).strip()

    def start_all(self, gateways: int, workers: int) -> None:
        """The first key, the simulator, and as many of the others as `--scale` would say."""
        self._run("first-key")
        self._serve("simulator", {"8090": self._upstream})
        for _ in range(workers):
            self._serve("worker", {"9100": free_port()})
        for _ in range(gateways):
            ports = {"8000": free_port(), "9100": free_port()}
            self._serve("gateway", ports)
            self.gateways.append(f"http://127.0.0.1:{ports['8000']}")

    async def stop(self) -> dict[str, int]:
        """SIGTERM to workers and gateways, as `docker compose stop`; their exit statuses."""
        ours = {n: p for n, p in self.programs.items() if n.startswith(tuple(self._metrics))}
        for program in ours.values():
            program.signal(signal.SIGTERM)
        graces = [SERVICES[name.split("-")[0]]["stop_grace_period"] for name in ours]
        ends = [p.ended(float(g[:-1])) for p, g in zip(ours.values(), graces, strict=True)]
        return dict(zip(ours, await asyncio.gather(*ends), strict=True))

    def kill(self) -> None:
        """End everything."""
        for program in self.programs.values():
            program.kill()

    def _here(self, word: object, ports: Mapping[str, int]) -> str:
        """A word of the file as it must be on this machine."""
        text = str(word)
        for there, here in {
            "/usr/share/penstock/redis": f"{ROOT}/ops/redis",
            "/usr/share/penstock": str(DOCKER),
            "/run/penstock": f"{self.directory}/run",
            "/run/secrets": str(self.directory),
        }.items():
            text = text.replace(there, here)
        if text == "redis:6379":
            return f"127.0.0.1:{self._redis}"
        return "127.0.0.1" if text == EVERYWHERE else str(ports.get(text, text))

    def _command(self, name: str, ports: Mapping[str, int]) -> list[str]:
        service = SERVICES[name]
        words = [*service.get("entrypoint", [ENTRYPOINT]), *service.get("command", ())]
        return [self._here(word, ports) for word in words]

    def _environment(self, name: str, ports: Mapping[str, int]) -> dict[str, str]:
        """The service's variables over the image's; and what containers have by themselves."""
        image = re.findall(r"\b(PENSTOCK_LOG)=(\w+)", (DOCKER / "Dockerfile").read_text())
        given = {**dict(image), **SERVICES[name].get("environment", {})}
        return {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "SSL_CERT_FILE": f"{self.directory}/redis.crt",
            "PENSTOCK_CONFIG": f"{self.directory}/penstock.toml",
            **{variable: self._here(value, ports) for variable, value in given.items()},
        }

    def _run(self, name: str, *arguments: str) -> str:
        """Run a service to its end, with further arguments or other ones; what it prints."""
        command = self._command(name, {})
        if name == "operator":
            command = command[:1]
        done = subprocess.run(
            [*command, *arguments],
            env={**os.environ, **self._environment(name, {})},
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def watch(self, data: Path) -> None:
        """Start Prometheus on workers and gateways; its data stays when it is ended."""
        text = yaml.safe_load((ROOT / "ops" / "prometheus" / "prometheus.yml").read_text())
        text["global"] = {"scrape_interval": "3s", "evaluation_interval": "3s"}
        text["rule_files"] = [f"{ROOT}/ops/prometheus/recording.yml"]
        text["scrape_configs"] = [
            {"job_name": f"penstock-{name}", "static_configs": [{"targets": targets}]}
            for name, targets in self._metrics.items()
        ]
        file = self.directory / "prometheus.yml"
        file.write_text(yaml.safe_dump(text))
        address = f"--web.listen-address=127.0.0.1:{free_port()}"
        options = [f"--config.file={file}", f"--storage.tsdb.path={data}", address]
        self._start("prometheus", ["prometheus", *options], {})

    def _serve(self, name: str, ports: Mapping[str, int]) -> None:
        if "9100" in ports:
            self._metrics[name].append(f"127.0.0.1:{ports['9100']}")
        environment = self._environment(name, ports)
        if name == "worker":  # the entry point would ask for the simulator's name in the network
            environment["PENSTOCK_UPSTREAM_URL"] = f"http://127.0.0.1:{self._upstream}/v1/openai"
        self._start(name, self._command(name, ports), environment)

    def _start(self, name: str, command: list[str], environment: Mapping[str, str]) -> None:
        number = sum(each.startswith(f"{name}-") for each in self.programs)
        log = self.directory / f"{name}-{number}.log"
        self.programs[f"{name}-{number}"] = Program(command, log, environment)

    def _certify(self) -> None:
        """A certificate for 127.0.0.1 that is trusted because everybody is given it."""
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-days", "1", "-subj", "/CN=redis", "-addext", "subjectAltName=IP:127.0.0.1",
             "-keyout", "redis.key", "-out", "redis.crt"],
            cwd=self.directory, check=True, capture_output=True,
        )  # fmt: skip
