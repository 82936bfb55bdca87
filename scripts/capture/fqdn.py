"""Captures two FQDN-policy cases against a real CoreDNS: a gateway that asks CNAME first, and a healthy lookup."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from namespaces import Lab, Session, lab

SERVER, GATEWAY, WEB = "10.96.0.10", "10.60.1.9", "203.0.113.80"
COREFILE = """.:53 {{
    log
    errors
    cache 30
    file {cluster} cluster.local
    file {zone} partner.example
    file {cdn} cdn.example
    file {intra} k8s.intra
}}
"""
ZONE = "$ORIGIN partner.example.\n@ 30 IN SOA ns h 1 60 60 60 60\n@ 30 IN NS ns\nns 30 IN A 203.0.113.53\napi 30 IN CNAME edge.cdn.example.\n"
CDN = "$ORIGIN cdn.example.\n@ 30 IN SOA ns h 1 60 60 60 60\n@ 30 IN NS ns\nns 30 IN A 203.0.113.53\nedge 30 IN CNAME pop7.cdn.example.\npop7 30 IN A 203.0.113.80\n"
INTRA = "$ORIGIN k8s.intra.\n@ 30 IN SOA ns h 1 60 60 60 60\n@ 30 IN NS ns\nns 30 IN A 203.0.113.53\necho 30 IN A 203.0.113.80\n"
CLUSTER = "$ORIGIN cluster.local.\n@ 30 IN SOA ns h 1 60 60 60 60\n@ 30 IN NS ns\nns 30 IN A 10.96.0.10\nkubernetes.default.svc 5 IN A 10.96.0.1\n"
SEARCH = ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local"]


def build(made: Lab, coredns: str, scratch: Path) -> Path:
    made.add("dns", "pod", "web")
    made.veth(("pod", "eth0", 1500), ("dns", "d0", 1500))
    made.veth(("pod", "eth1", 1500), ("web", "w0", 1500))
    made.run(
        "pod",
        f"ip addr add {GATEWAY}/24 dev eth0; ip route add {SERVER} dev eth0; ip addr add 203.0.113.1/24 dev eth1",
    )
    made.run("dns", f"ip addr add {SERVER}/32 dev d0; ip route add 10.60.1.0/24 dev d0")
    made.run("web", f"ip addr add {WEB}/24 dev w0")
    files = {"zone": ZONE, "cdn": CDN, "intra": INTRA, "cluster": CLUSTER}
    for name, text in files.items():
        (scratch / name).write_text(text)
    (scratch / "Corefile").write_text(COREFILE.format(**{name: scratch / name for name in files}))
    log = scratch / "coredns.log"
    with log.open("wb") as output:
        made.start("dns", coredns, "-conf", str(scratch / "Corefile"), stdout=output.fileno())
    for port in ("443", "80"):
        made.start("web", sys.executable, str(Path(__file__).with_name("ready_server.py")), WEB, port)
    time.sleep(1.5)
    return log


def client(made: Lab, scratch: Path, setting: dict[str, Any]) -> dict[str, Any]:
    path = scratch / "setting.json"
    path.write_text(json.dumps({"ip": GATEWAY, "server": SERVER, "search": SEARCH, **setting}))
    found: dict[str, Any] = json.loads(
        made.run("pod", f"{sys.executable} {Path(__file__).with_name('fqdn_client.py')} {path}")
    )
    return found


def log_since(log: Path, offset: int) -> str:
    return "\n".join(row for row in log.read_bytes()[offset:].decode().split("\n") if " - " in row) + "\n"


def main(coredns: str, folder: Path) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name, lab() as made:
        scratch = Path(name)
        log = build(made, coredns, scratch)
        cname = folder / "cname-first-gateway"
        cname.mkdir(parents=True, exist_ok=True)
        gateway = {
            "namespace": "shop",
            "pod": "kong-7d9c",
            "node": "worker-1",
            "selectors": [{"match_name": "api.partner.example"}],
        }
        offset = log.stat().st_size
        run = client(
            made,
            scratch,
            {
                **gateway,
                "steps": [
                    {
                        "lookup": "api.partner.example",
                        "profile": "kong",
                        "order": ["LAST", "CNAME", "A", "SRV"],
                        "port": 443,
                    }
                ],
            },
        )
        (cname / "coredns-gateway.log").write_text(log_since(log, offset))
        (cname / "hubble.txt").write_text("\n".join(run["hubble"]) + "\n")
        (cname / "fqdn-names.json").write_text(run["names"] + "\n")
        (cname / "fqdn-cache.txt").write_text(
            "root@worker-1:/home/cilium# cilium-dbg fqdn cache list\n" + "\n".join(run["cache"]) + "\n"
        )
        offset = log.stat().st_size
        shell = Session(made, "pod", "root@kong-7d9c:/# ")
        shell(f"dig @{SERVER} api.partner.example")
        fixed = client(
            made,
            scratch,
            {
                **gateway,
                "steps": [
                    {
                        "lookup": "api.partner.example",
                        "profile": "kong",
                        "order": ["A", "CNAME", "LAST", "SRV"],
                        "port": 443,
                    }
                ],
            },
        )
        (cname / "shell.txt").write_text(shell.text)
        (cname / "deployment.yaml").write_text(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: kong, namespace: shop}\nspec:\n  template:\n    spec:\n      containers:\n      - name: proxy\n        image: kong:3.4\n        env:\n        - {name: KONG_DNS_ORDER, value: 'LAST,CNAME,A,SRV'}\n"
        )
        print("gateway", run["outcome"], "A first", fixed["outcome"])
        healthy = folder / "healthy-fqdn-policy"
        healthy.mkdir(parents=True, exist_ok=True)
        good = client(
            made,
            scratch,
            {
                "namespace": "default",
                "pod": "tool-1",
                "node": "worker-1",
                "selectors": [{"match_pattern": "*.k8s.intra"}],
                "steps": [{"lookup": "echo.k8s.intra", "profile": "glibc", "port": 80}],
            },
        )
        (healthy / "hubble.txt").write_text("\n".join(good["hubble"]) + "\n")
        (healthy / "fqdn-cache.txt").write_text(
            "root@worker-1:/home/cilium# cilium-dbg fqdn cache list\n" + "\n".join(good["cache"]) + "\n"
        )
        (healthy / "policy.yaml").write_text(
            'apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: intra, namespace: default}\nspec:\n  endpointSelector: {matchLabels: {app: tool}}\n  egress:\n  - toFQDNs: [{matchPattern: "*.k8s.intra"}]\n'
            '  - toEndpoints: [{matchLabels: {"k8s:io.kubernetes.pod.namespace": kube-system, "k8s:k8s-app": kube-dns}}]\n    toPorts:\n    - ports: [{port: "53", protocol: ANY}]\n      rules: {dns: [{matchPattern: "*"}]}\n'
        )
        rows = "\n".join(
            f"{pod}   1/1     Running   0          87m   10.60.{node}.{9 + k}   worker-{node}   <none>           <none>"
            for k, (pod, node) in enumerate((("tool-1", 1), ("tool-2", 1), ("tool-3", 2)))
        )
        (healthy / "pods.txt").write_text(
            f"$ kubectl get pods -o wide\nNAME     READY   STATUS    RESTARTS   AGE   IP           NODE       NOMINATED NODE   READINESS GATES\n{rows}\n"
        )
        print("healthy", good["outcome"])


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
