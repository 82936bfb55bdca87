"""The reference behaviour, as data: every vector must come out, in every recorded Envoy release."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from deadhop.hops.mesh.api import AppFact, Mesh, MeshRequest, server_mtls_mode, walk
from deadhop.hops.mesh.decode import Meta
from deadhop.hops.mesh.hosts import listed_addresses, service_domains
from deadhop.hops.mesh.protocol import select
from deadhop.hops.mesh.vhost import choose
from deadhop.hops.mesh.workload import Capture, Workload

DEFAULT = Path(__file__).parents[2].parent / "shared/vectors/istio-envoy.json"
FILE = Path(os.environ.get("DEADHOP_VECTORS_ISTIO_ENVOY") or DEFAULT)
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Vector = dict[str, Any]


def _load() -> tuple[dict[str, Any], list[Vector]]:
    if not FILE.is_file():
        return {}, []
    data = json.loads(FILE.read_text())
    return data["meta"], data["vectors"]


META, VECTORS = _load()
pytestmark = pytest.mark.skipif(not VECTORS, reason=f"no vectors at {FILE} (DEADHOP_VECTORS_ISTIO_ENVOY)")


def _outcome(vector: Vector, version: str, wanted: dict[str, Any]) -> dict[str, Any]:
    """The model's outcome in the words of the vectors."""
    mesh = Mesh.from_objects(yaml.load_all(vector["objects"], Loader=Loader))
    r = vector["request"]
    request = MeshRequest(
        client=r["client"],
        host=r["host"],
        dst_ip=r["dst_ip"],
        dst_port=r["dst_port"],
        scheme=r["scheme"],
        http_version=r["http_version"] or "1.1",
        method=r["method"] or "GET",
        path=r["path"] or "/",
        headers=_headers(r.get("headers")),
    )
    behaviour = vector.get("app_behaviour") or {}
    facts = [AppFact(f["where"], f["what"], f.get("count", 0)) for f in behaviour.get("facts", [])]
    got = walk(mesh, request, facts, envoy=version)
    log, server = got.client_log, got.server_log
    said = {
        "client_status": got.status,
        "outcome": got.ending,
        "response_flags": sorted(log.flags) if log else None,
        "cluster": log.cluster if log else None,
        "route": log.route if log else None,
        "details": log.details if log else None,
        "mtls": got.mtls,
        "server_log_flags": sorted(server.flags) if server else None,
        "server_log_details": server.details if server else None,
    }
    text = wanted.get("body_contains")
    said["body_contains"] = text if text is None or text in (got.body or "") else got.body
    if wanted.get("body_empty"):
        said["body_empty"] = not got.body
    return said


def _headers(given: Any) -> tuple[tuple[str, str], ...]:
    if isinstance(given, dict):
        return tuple((k, v) for k, v in given.items())
    out = []
    for item in given or []:
        out.append((item["name"], item["value"]) if isinstance(item, dict) else (item[0], item[1]))
    return tuple(out)


def _scenario(vector: Vector) -> None:
    for version in META["recorded_versions"]:
        wanted = vector["expect"] | vector.get("by_version", {}).get(version, {})
        said = _outcome(vector, version, wanted)
        for field in ("response_flags", "server_log_flags"):
            wanted[field] = sorted(wanted[field]) if wanted.get(field) is not None else None
        assert {f: said.get(f) for f in wanted} == wanted, f"Envoy {version}"


def _vhost_match(vector: Vector) -> None:
    assert choose(vector["domains"], vector["host"], vector["ignore_port"]) == vector["expect_vhost"]


def _service_domains(vector: Vector) -> None:
    s = vector["service"]
    domain = s["cluster_domain"]
    named = [s, *vector.get("aliases", [])]
    families = vector.get("client_ip_families", ["IPv4"])
    got, _ = service_domains(
        [f"{n['name']}.{n['namespace']}.svc.{domain}" for n in named],
        vector["client_namespace"],
        cluster_domain=domain,
        headless=s["headless"],
        addresses=listed_addresses(s["vips"], families, vector.get("dual_stack", False)),
    )
    assert got == vector["expect_domains"]


def _mtls_mode(vector: Vector) -> None:
    mesh = Mesh.from_objects(yaml.load_all(vector["objects"], Loader=Loader))
    w = vector["workload"]
    pod = Workload(
        meta=Meta("Pod", w["namespace"], "workload", ""),
        ips=(),
        labels=w["labels"],
        annotations={},
        service_account="default",
        sidecar=True,
        host_network=False,
        ready=True,
        phase="Running",
        ports=(),
        uids=frozenset(),
        capture=Capture(),
        http10=False,
        proxy_version="",
    )
    assert server_mtls_mode(mesh, pod, vector["port"]).mode == vector["expect_mode"]


def _protocol_selection(vector: Vector) -> None:
    p = vector["port"]
    got = select(p["name"], p["app_protocol"], p["port"], p["protocol"])
    assert {"protocol": got.name, "family": got.family.value} == vector["expect"]


KINDS = {
    "scenario": _scenario,
    "vhost_match": _vhost_match,
    "service_domains": _service_domains,
    "mtls_mode": _mtls_mode,
    "protocol_selection": _protocol_selection,
}


@pytest.mark.parametrize("vector", VECTORS, ids=[v["id"] for v in VECTORS])
def test_vector(vector: Vector) -> None:
    assert vector["kind"] in KINDS, f"unknown kind {vector['kind']}"
    KINDS[vector["kind"]](vector)


def test_every_kind_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    counts = Counter(v["kind"] for v in VECTORS)
    with capsys.disabled():
        print("\n" + "\n".join(f"{kind:20} {count:4}" for kind, count in sorted(counts.items())))
    assert set(counts) <= set(KINDS)
    assert sum(counts.values()) == META.get("count", len(VECTORS))
