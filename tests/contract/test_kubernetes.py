"""ops/kubernetes is valid for the newest Kubernetes, tight, and names what there is."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import jsonschema
import kubernetes_validate
import pytest
import yaml
from kubernetes_validate import utils
from packaging.version import Version

from ops.cli import COMMANDS, penstock
from ops.simulator.server import DEFAULT_PORT
from penstock.address import SENTINEL_PORT
from penstock.settings import SECRETS, Settings
from tests.kubernetes import OPERATIONS, PLACES, ROOT, RULES, Resource, build, pods, rules
from tests.tools import needs

pytestmark = [
    needs("kustomize", "kubectl"),
    pytest.mark.operations,
    pytest.mark.xdist_group("kubernetes"),
]

DRAIN = Settings.model_fields["drain_timeout"].default
VERSIONS = sorted(set(utils.all_versions()), key=Version)[-2:]
"""The two newest that kubernetes-validate knows."""

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
OURS = f"penstock:{tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['version']}"

SHAPES: dict[str, dict[str, Any]] = {
    "ScaledObject": {
        "scaleTargetRef": {"name"},
        "pollingInterval": int, "minReplicaCount": int, "maxReplicaCount": int,
        "fallback": {"failureThreshold", "replicas", "behavior"},
        "advanced": {"horizontalPodAutoscalerConfig"},
        "triggers": [{"type", "metricType", "metadata"}],
    },
    "ServiceMonitor": {
        "selector": {"matchLabels"},
        "endpoints": [{"port", "interval", "relabelings"}],
    },
    "PrometheusRule": {"groups": [{"name", "rules"}]},
}  # fmt: skip
"""The fields used here of the operators' resources, which kubernetes-validate does not know: see
keda.sh_scaledobjects.yaml of KEDA, and monitoring.coreos.com_servicemonitors.yaml and
monitoring.coreos.com_prometheusrules.yaml of the Prometheus operator."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Resource]]:
    """What kustomize makes of each place."""
    return build(tmp_path_factory.mktemp("kubernetes"))


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, built: dict[str, list[Resource]]) -> list[Resource]:
    """The resources of each place in turn."""
    return built[request.param]


def containers(resources: list[Resource]) -> Iterator[Resource]:
    """Every container."""
    for pod in pods(resources).values():
        yield from pod["spec"]["containers"]


def of_kind(resources: list[Resource], kind: str) -> dict[str, Resource]:
    """The resources of a kind, by name."""
    return {r["metadata"]["name"]: r for r in resources if r["kind"] == kind}


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_it(
    place: list[Resource], version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each resource fits the schema of the version, with no field that it does not know."""
    monkeypatch.setattr(utils, "schema_contents", cache(utils.schema_contents))
    native = [resource for resource in place if resource["kind"] not in SHAPES]
    for resource in native:
        kubernetes_validate.validate(resource, version, strict=True)
    wrong = {**native[-1], "spec": {**native[-1]["spec"], "imago": "x"}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, version, strict=True)


def test_the_operators_take_it(built: dict[str, list[Resource]]) -> None:
    """Each resource of KEDA and of the Prometheus operator has the fields that those define."""
    found = [r for r in built["overlays/production"] if r["kind"] in SHAPES]
    assert {resource["kind"] for resource in found} == set(SHAPES)
    for resource in found:
        jsonschema.validate(resource["spec"], _schema(SHAPES[resource["kind"]]))
    assert not [r for r in built["overlays/simulate"] if r["kind"] in SHAPES]


def _schema(shape: Any) -> dict[str, Any]:
    """A closed JSON schema for a shape of names and types."""
    if isinstance(shape, list):
        return {"type": "array", "minItems": 1, "items": _schema(shape[0])}
    if isinstance(shape, set):
        return _closed({name: {} for name in shape})
    if isinstance(shape, dict):
        return _closed({name: _schema(inner) for name, inner in shape.items()})
    return {"type": {int: "integer", str: "string"}[shape]}


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object", "properties": properties, "required": sorted(properties),
        "additionalProperties": False,
    }  # fmt: skip


def test_images_are_ours_or_those_of_compose(place: list[Resource]) -> None:
    """Ours has the project's version, and no other image differs from docker-compose.yml's."""
    known = {service["image"] for service in COMPOSE.values()}
    assert OURS in known
    for container in containers(place):
        image = container["image"].removeprefix("registry.example.com/")
        assert image in known, image


def test_our_containers_run_commands_that_there_are(place: list[Resource]) -> None:
    """Each command and option is one of `penstock`, and the entry point of the image is kept."""
    for container in containers(place):
        if not container["image"].endswith(OURS):
            continue
        assert container.get("command", ["sleep"])[0] == "sleep", "the operator's, for people"
        if "command" in container:
            continue
        name, *rest = container["args"]
        assert name in COMMANDS
        command = penstock.get_command(click.Context(penstock), name)
        if isinstance(command, click.Group):
            command = command.commands[rest[0]]
        assert command is not None
        options = {o for p in command.params if isinstance(p, click.Option) for o in p.opts}
        assert {a for a in rest if a.startswith("--")} <= options


def test_our_variables_are_settings(place: list[Resource]) -> None:
    """Each variable is one that the settings read, with a value they take."""
    known = {f"PENSTOCK_{name.upper()}" for name in Settings.model_fields}
    known |= {f"{name}_FILE" for name in SECRETS}
    for container in containers(place):
        if container["image"].endswith(OURS):
            given = {each["name"]: each["value"] for each in container.get("env", ())}
            assert set(given) <= known
            plain = {n: v for n, v in given.items() if not n.endswith("_FILE")}
            Settings.load(**{n.removeprefix("PENSTOCK_").lower(): v for n, v in plain.items()})
        else:
            theirs = {name for s in COMPOSE.values() for name in s.get("environment", ())}
            theirs.add("SSL_CERT_DIR")  # Go's own, see crypto/x509
            assert {each["name"] for each in container.get("env", ())} <= theirs


def test_no_services_name_becomes_a_setting(place: list[Resource]) -> None:
    """Kubernetes would set PENSTOCK_GATEWAY_PORT to tcp://… for the Service penstock-gateway."""
    for name, pod in pods(place).items():
        assert pod["spec"]["enableServiceLinks"] is False, name
        assert pod["spec"]["automountServiceAccountToken"] is False, name


def test_a_stop_fits_the_drain(place: list[Resource]) -> None:
    """A Pod has its preStop, its drain and 10 s until it is killed, and a bit."""
    for name, pod in pods(place).items():
        (container,) = pod["spec"]["containers"]
        given = {each["name"]: each.get("value") for each in container.get("env", ())}
        if "PENSTOCK_DRAIN_TIMEOUT" in given:
            before = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {})
            needed = before.get("seconds", 0) + float(given["PENSTOCK_DRAIN_TIMEOUT"]) + 10
            assert pod["spec"]["terminationGracePeriodSeconds"] >= needed, name
    for name in {"penstock-gateway", "penstock-worker"} & set(pods(place)):
        given = {
            e["name"]: e.get("value") for e in pods(place)[name]["spec"]["containers"][0]["env"]
        }
        default = Settings.model_fields["drain_timeout"].default
        assert float(given["PENSTOCK_DRAIN_TIMEOUT"]) == default


def test_nobody_is_more_than_he_must_be(place: list[Resource]) -> None:
    """No root, no capability, no file to write but in volumes, no system call out of the way."""
    for name, pod in pods(place).items():
        context = pod["spec"]["securityContext"]
        assert context["runAsNonRoot"] is True, name
        assert context["runAsUser"] == (999 if name == "penstock-redis" else 10001), name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
    for container in containers(place):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert set(container["resources"]) == {"requests", "limits"}


def test_limits_are_those_of_compose(built: dict[str, list[Resource]]) -> None:
    """A worker or gateway has the memory that docker-compose.yml gives it."""
    units = {"m": "Mi", "g": "Gi"}
    for name in ("worker", "gateway"):
        (container,) = pods(built["overlays/production"])[f"penstock-{name}"]["spec"]["containers"]
        memory = COMPOSE[name]["deploy"]["resources"]["limits"]["memory"]
        assert container["resources"]["limits"]["memory"] == memory[:-1] + units[memory[-1]]
    assert str(DEFAULT_PORT) in COMPOSE["simulator"]["command"]


def test_selectors_find_pods(place: list[Resource]) -> None:
    """What selects Pods finds some that are made here, and each Pod is within a closed network."""
    labels = [pod["metadata"]["labels"] for pod in pods(place).values()]
    for resource in place:
        for where in ("podSelector", "selector"):
            selector = resource.get("spec", {}).get(where)
            if selector is not None:
                assert any(_selects(selector, each) for each in labels), resource["metadata"]
    closed = of_kind(place, "NetworkPolicy").get("penstock-nothing")
    if closed:
        assert closed["spec"]["policyTypes"] == ["Ingress", "Egress"]
        assert set(closed["spec"]) == {"podSelector", "policyTypes"}
        part = closed["spec"]["podSelector"]["matchLabels"]
        assert all(part.items() <= each.items() for each in labels)


def _selects(selector: Resource, labels: dict[str, str]) -> bool:
    expressions = selector.get("matchExpressions", ())
    assert all(each["operator"] == "In" for each in expressions)
    wanted = selector.get("matchLabels", {} if expressions else selector)
    return wanted.items() <= labels.items() and all(
        labels.get(each["key"]) in each["values"] for each in expressions
    )


def test_ports_are_there(place: list[Resource]) -> None:
    """Services, probes and policies name ports that containers have, and where they listen."""
    named = {port["name"] for c in containers(place) for port in c.get("ports", ())}
    for container in containers(place):
        own = {port["name"]: port["containerPort"] for port in container.get("ports", ())}
        for probe in ("livenessProbe", "readinessProbe"):
            for how in ("httpGet", "tcpSocket"):
                asked = container.get(probe, {}).get(how, {}).get("port")
                assert asked is None or asked in own, container["name"]
        given = {each["name"]: each.get("value") for each in container.get("env", ())}
        for variable, port in {"GATEWAY_PORT": "http", "METRICS_PORT": "metrics"}.items():
            if f"PENSTOCK_{variable}" in given:
                assert int(given[f"PENSTOCK_{variable}"]) == own[port]
                host = variable.replace("PORT", "HOST")
                assert given[f"PENSTOCK_{host}"] == "0.0.0.0", "who asks is another Pod"  # noqa: S104
        if container["name"] == "simulator":
            assert own["http"] == DEFAULT_PORT
    for service in of_kind(place, "Service").values():
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= named
    for policy in of_kind(place, "NetworkPolicy").values():
        for rule in policy["spec"].get("ingress", ()):
            assert {port["port"] for port in rule["ports"]} <= named


def test_what_leaves_is_let_out(built: dict[str, list[Resource]]) -> None:
    """Every Pod reaches Redis, Sentinels and a collector, at the ports that the settings name."""
    policies = of_kind(built["overlays/production"], "NetworkPolicy")
    out = {name: _ports_out(policies[f"penstock-{name}"]) for name in ("redis", "traces", "worker")}
    collector = urlsplit(Settings.model_fields["otlp_endpoint"].default).port
    assert out == {"redis": {6379, SENTINEL_PORT}, "traces": {collector}, "worker": {443}}
    for name in ("redis", "traces"):
        assert policies[f"penstock-{name}"]["spec"]["podSelector"]["matchLabels"] == {
            "app.kubernetes.io/part-of": "penstock"
        }
    (operator,) = pods(built["operator"]).values()
    asking = policies["penstock-worker"]["spec"]["podSelector"]
    assert _selects(asking, operator["metadata"]["labels"]), "doctor asks upstreams"


def _ports_out(policy: Resource) -> set[int]:
    return {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}


def test_secrets_are_files_that_are_there(built: dict[str, list[Resource]]) -> None:
    """What a container reads lies in a Secret or ConfigMap that is mounted there, and has it."""
    resources = built["overlays/simulate"]
    kept = {
        name: set(r.get("data", {})) | set(r.get("stringData", {}))
        for kind in ("Secret", "ConfigMap")
        for name, r in of_kind(resources, kind).items()
    }
    read = 0
    for name, pod in pods(resources).items():
        (container,) = pod["spec"]["containers"]
        sources = {v["name"]: _source(v) for v in pod["spec"].get("volumes", ())}
        mounts = {m["mountPath"]: sources.get(m["name"]) for m in container.get("volumeMounts", ())}
        assert {source for source in sources.values() if source} <= set(kept), name
        for each in container.get("env", ()):
            if each["name"].endswith("_FILE"):
                path = Path(each["value"])
                assert path.name in kept[str(mounts[str(path.parent)])], each
                read += 1
    assert read >= 4
    (redis,) = pods(resources)["penstock-redis"]["spec"]["containers"]
    mounted = {mount["mountPath"] for mount in redis["volumeMounts"]}
    assert {redis["args"][1], "/etc/penstock/redis", "/data"} <= mounted
    assert {"redis.conf"} in kept.values()
    assert {"users.acl"} in kept.values()


def _source(volume: Resource) -> str | None:
    if volume.get("secret", {}).get("optional"):
        return None
    return volume.get("secret", {}).get("secretName") or volume.get("configMap", {}).get("name")


def test_an_authority_of_ones_own_is_where_the_urls_say(built: dict[str, list[Resource]]) -> None:
    """Who reaches Redis has ca.crt where the URLs of make-users.sh name it, if there is one."""
    docs = (ROOT / "docs" / "operations.md").read_text()
    (path,) = set(re.findall(r"ssl_ca_certs=(\S+)`", docs))
    assert "create secret generic penstock-ca --from-file=tls/ca.crt" in docs
    found = {**pods(built["overlays/production"]), **pods(built["operator"])}
    assert len(found) == 4
    for pod in found.values():
        (container,) = pod["spec"]["containers"]
        volumes = {volume["name"]: volume.get("secret") for volume in pod["spec"]["volumes"]}
        mounts = {m["mountPath"]: volumes[m["name"]] for m in container["volumeMounts"]}
        assert mounts[str(Path(path).parent)] == {"secretName": "penstock-ca", "optional": True}
    exporter = {e["name"]: e.get("value") for e in container_of(found, "redis-exporter")["env"]}
    assert exporter["SSL_CERT_DIR"] == str(Path(path).parent)


def container_of(found: dict[str, Resource], name: str) -> Resource:
    """The container of this name, which stands in one of the Pods."""
    (container,) = (
        c for pod in found.values() for c in pod["spec"]["containers"] if c["name"] == name
    )
    return container


def test_the_configuration_is_one(built: dict[str, list[Resource]]) -> None:
    """Each penstock.toml that is mounted is one that Penstock takes."""
    for place in ("overlays/simulate", "overlays/production"):
        (config,) = [
            r
            for n, r in of_kind(built[place], "ConfigMap").items()
            if n.startswith("penstock-config")
        ]
        Settings.load(**tomllib.loads(config["data"]["penstock.toml"]))


def test_workers_are_scaled_by_what_is_recorded(built: dict[str, list[Resource]]) -> None:
    """KEDA asks for what Prometheus records, and nobody else says how many workers there are."""
    resources = built["overlays/production"]
    spec = of_kind(resources, "ScaledObject")["penstock-worker"]["spec"]
    deployment = of_kind(resources, "Deployment")[spec["scaleTargetRef"]["name"]]
    assert "replicas" not in deployment["spec"]
    recorded = {
        rule["record"]
        for group in of_kind(resources, "PrometheusRule")["penstock-recording"]["spec"]["groups"]
        for rule in group["rules"]
    }
    (trigger,) = spec["triggers"]
    assert trigger["metadata"]["query"] in recorded
    assert int(trigger["metadata"]["threshold"]) < Settings.model_fields["concurrency"].default
    assert 1 <= spec["minReplicaCount"] <= spec["fallback"]["replicas"] <= spec["maxReplicaCount"]
    assert (
        "replicas" in of_kind(built["overlays/simulate"], "Deployment")["penstock-worker"]["spec"]
    )


def test_prometheus_knows_the_jobs_by_the_names_of_the_alerts(
    built: dict[str, list[Resource]],
) -> None:
    """Its jobs are named by a label of the Pods, and the alerts ask for those."""
    resources = built["overlays/production"]
    (endpoint,) = of_kind(resources, "ServiceMonitor")["penstock"]["spec"]["endpoints"]
    assert endpoint["relabelings"] == [
        {
            "sourceLabels": ["__meta_kubernetes_pod_label_app_kubernetes_io_name"],
            "targetLabel": "job",
        }
    ]
    metas = [pod["metadata"] for pod in pods(resources).values()]
    jobs = {meta["labels"]["app.kubernetes.io/name"] for meta in metas}
    assert {"penstock-worker", "penstock-gateway"} <= jobs
    alerts = (OPERATIONS / "prometheus" / "alerts.yml").read_text()
    assert all(f'job="{job}"' in alerts for job in ("penstock-worker", "penstock-gateway"))


def test_everybody_who_serves_metrics_is_asked(built: dict[str, list[Resource]]) -> None:
    """The ServiceMonitor's Service has the port by its name, and selects each of those Pods."""
    resources = built["overlays/production"]
    monitor = of_kind(resources, "ServiceMonitor")["penstock"]["spec"]
    service = of_kind(resources, "Service")["penstock-metrics"]
    wanted = monitor["selector"]["matchLabels"].items()
    assert wanted <= service["metadata"]["labels"].items()
    (port,) = service["spec"]["ports"]
    assert port["name"] == monitor["endpoints"][0]["port"]
    serving = [
        pod
        for pod in pods(resources).values()
        if any(
            p["name"] == port["targetPort"] for c in pod["spec"]["containers"] for p in c["ports"]
        )
    ]
    assert len(serving) == 3
    for pod in serving:
        assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()


def test_the_rules_are_those_of_prometheus() -> None:
    """monitoring/rules.yaml has what ops/prometheus has; `python -m tests.kubernetes` writes it."""
    assert RULES.read_text() == rules()


def test_replicas_are_spread_and_not_all_evicted(built: dict[str, list[Resource]]) -> None:
    """Gateways and workers stand on several machines and zones, and leave one after the other."""
    resources = built["overlays/production"]
    for name in ("penstock-gateway", "penstock-worker"):
        spread = pods(resources)[name]["spec"]["topologySpreadConstraints"]
        assert {each["topologyKey"] for each in spread} == {
            "kubernetes.io/hostname",
            "topology.kubernetes.io/zone",
        }
        own = pods(resources)[name]["metadata"]["labels"]
        assert all(each["labelSelector"]["matchLabels"].items() <= own.items() for each in spread)
        assert name in of_kind(resources, "PodDisruptionBudget")
        strategy = of_kind(resources, "Deployment")[name]["spec"]["strategy"]["rollingUpdate"]
        assert strategy == {"maxSurge": 1, "maxUnavailable": 0}
