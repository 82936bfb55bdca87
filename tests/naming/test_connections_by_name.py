"""Connections to names: the pod's library, policy on its questions, CoreDNS, what the proxy learns from the answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from deadhop.cli import group

CLUSTER = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: coredns, namespace: kube-system}
data:
  Corefile: |
    .:53 {
        errors
        kubernetes cluster.local in-addr.arpa ip6.arpa {
            pods insecure
            fallthrough in-addr.arpa ip6.arpa
        }
        hosts {
            198.51.100.7 echo.k8s.intra
            fallthrough
        }
        file /etc/coredns/db.corp corp.example k8s.intra
        forward . /etc/resolv.conf
    }
  db.corp: |
    @    300 SOA ns hostmaster 1 3600 600 86400 30
    ldap 300 A 198.51.100.9
    auth 300 CNAME echo.k8s.intra.
---
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system}
spec: {clusterIP: 10.96.0.10, selector: {k8s-app: kube-dns}, ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]}
---
apiVersion: v1
kind: Pod
metadata: {name: coredns-1, namespace: kube-system, labels: {k8s-app: kube-dns}}
spec: {containers: [{name: coredns}]}
status: {phase: Running, podIP: 10.244.0.2, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {clusterIP: 10.96.3.3, selector: {app: cart}, ports: [{name: http, port: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: cart-1, namespace: shop, labels: {app: cart}}
spec: {containers: [{name: cart, ports: [{containerPort: 8080}]}]}
status: {phase: Running, podIP: 10.244.1.3, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {SPEC}
status: {phase: Running, podIP: 10.244.1.9, conditions: [{type: Ready, status: "True"}]}
---
"""
NETWORK_POLICY = """\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Egress]
  egress: [{to: [{podSelector: {matchLabels: {app: cart}}}]}]
"""
CILIUM = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: web}}
  egress:
    - toEndpoints: [{matchLabels: {k8s:io.kubernetes.pod.namespace: kube-system, k8s-app: kube-dns}}]
      toPorts: [{ports: [{port: "53", protocol: ANY}], rules: {dns: [DNS]}}]
    - toFQDNs: [{matchPattern: "*.k8s.intra"}]
      toPorts: [{ports: [{port: "443", protocol: TCP}]}]
"""
ANY_NAME, INTRA = '{matchPattern: "*"}', '{matchPattern: "*.k8s.intra"}'


def path(
    tmp_path: Path, to: str, *, policy: str = "", spec: str = "{containers: [{name: web}]}", **flow: Any
) -> Any:
    (tmp_path / "cluster.yaml").write_text(CLUSTER.replace("{SPEC}", spec) + policy)
    line = json.dumps({"id": "1", "kind": "connection", "from": "shop/web", "to": to, **flow})
    result = CliRunner().invoke(
        group, ["path", str(tmp_path / "cluster.yaml"), "--flows", "-"], input=line, standalone_mode=False
    )
    assert result.exception is None, result.exception
    return json.loads(result.output)


def texts(answer: Any) -> str:
    return "\n".join(step["text"] for step in answer["steps"])


def test_a_service_by_its_short_name(tmp_path: Path) -> None:
    answer = path(tmp_path, "http://cart:8080/")
    assert (answer["disposition"], answer["answer"]["status"]) == ("delivered", 200)
    assert "cart.shop.svc.cluster.local. (A/udp, AAAA/udp): NOERROR" in texts(answer)


def test_a_name_that_does_not_exist(tmp_path: Path) -> None:
    answer = path(tmp_path, "http://basket.k8s.intra/")
    assert (answer["disposition"], answer["hop"], answer["reason"]) == ("answered", "resolver", "EAI_NONAME")
    assert answer["answer"]["rcode"] == "NXDOMAIN"
    asked = [line.partition(" ")[0] for line in texts(answer).splitlines() if "NXDOMAIN" in line]
    assert asked == [f"basket.k8s.intra.{s}" for s in ("shop.svc.cluster.local.", "svc.cluster.local.", "cluster.local.", "")]  # fmt: skip


def test_each_library_searches_in_its_own_way(tmp_path: Path) -> None:
    spec = "{containers: [{name: web}], dnsConfig: {searches: [k8s.intra]}}"
    for resolver, told in (("glibc", True), ("musl", True), ("go", True), ("kong", False)):
        answer = path(tmp_path, "http://echo:80/", spec=spec, resolver=resolver)
        assert ("198.51.100.7" in texts(answer)) is told, (resolver, texts(answer))
    assert path(tmp_path, "http://echo/", resolver="bind")["reason"].startswith("no resolver 'bind'")


def test_policy_without_dns(tmp_path: Path) -> None:
    answer = path(tmp_path, "http://cart:8080/", policy=NETWORK_POLICY)
    assert (answer["disposition"], answer["hop"], answer["reason"]) == ("dropped", "policy", "POLICY_DENIED")
    assert answer["answer"] == {
        "status": None, "body": None, "flags": None, "rcode": "TIMEOUT", "outcome": "EAI_AGAIN",
    }  # fmt: skip
    assert path(tmp_path, "http://10.96.3.3:8080/", policy=NETWORK_POLICY)["disposition"] == "delivered"


def test_the_proxy_refuses_names_that_no_rule_has(tmp_path: Path) -> None:
    """Search expansions are refused first: glibc goes on to the next one, musl gives up (Cilium's documentation has
    ``tofqdns-dns-reject-response-code`` for that)."""
    policy = CILIUM.replace("DNS", INTRA)
    assert path(tmp_path, "https://echo.k8s.intra/", policy=policy)["disposition"] == "delivered"
    answer = path(tmp_path, "https://echo.k8s.intra/", policy=policy, resolver="musl")
    assert (answer["disposition"], answer["hop"]) == ("answered", "fqdn")
    assert answer["answer"]["rcode"] == "REFUSED"


def test_names_open_their_addresses(tmp_path: Path) -> None:
    policy = CILIUM.replace("DNS", ANY_NAME)
    answer = path(tmp_path, "https://echo.k8s.intra/", policy=policy)
    assert answer["disposition"] == "delivered", texts(answer)
    assert "*.k8s.intra matches echo.k8s.intra." in texts(answer)
    assert path(tmp_path, "https://ldap.corp.example/", policy=policy)["reason"] == "POLICY_DENIED"
    alias = path(tmp_path, "https://auth.corp.example/", policy=policy)
    assert alias["reason"] == "POLICY_DENIED", "the proxy files addresses under the name that was asked"
    assert "auth.corp.example." in texts(alias)
    bare = path(tmp_path, "https://198.51.100.7/", policy=policy)
    assert bare["disposition"] == "unknown", (
        "whether the proxy has learned the address is not in the evidence"
    )


def test_a_client_that_asks_for_aliases_first(tmp_path: Path) -> None:
    """The gateway of a policy that has the alias's name: asking CNAME first, it never asks that name for addresses."""
    policy = CILIUM.replace("DNS", ANY_NAME).replace(
        'matchPattern: "*.k8s.intra"', "matchName: auth.corp.example"
    )
    spec = "{containers: [{name: web, env: [{name: KONG_DNS_ORDER, value: 'WORDS'}]}]}"
    for order, allowed in (("LAST,A,CNAME", True), ("LAST,CNAME,A", False)):
        answer = path(
            tmp_path,
            "https://auth.corp.example/",
            policy=policy,
            spec=spec.replace("WORDS", order),
            resolver="kong",
        )
        assert (answer["disposition"] == "delivered") is allowed, (order, texts(answer))
    assert answer["reason"] == "POLICY_DENIED"
    assert "(echo.k8s.intra.)" in texts(answer)


@pytest.mark.parametrize(
    ("spec", "because"),
    [
        ("{hostNetwork: true, containers: [{name: web}]}", "node's resolv.conf"),
        ("{dnsPolicy: Default, containers: [{name: web}]}", "node's resolv.conf"),
        (
            "{dnsPolicy: None, dnsConfig: {nameservers: [192.0.2.53]}, containers: [{name: web}]}",
            "192.0.2.53",
        ),
        ("{containers: [{name: web}]}", "what the upstream answers"),
    ],
)
def test_what_is_not_in_the_evidence(tmp_path: Path, spec: str, because: str) -> None:
    answer = path(tmp_path, "http://api.example.com/", spec=spec)
    assert answer["disposition"] == "unknown"
    assert because in texts(answer)


def test_a_namespace_of_which_nothing_was_collected(tmp_path: Path) -> None:
    spec = "{dnsPolicy: None, dnsConfig: {nameservers: [10.96.0.10], searches: [svc.cluster.local], options: [{name: ndots, value: '2'}]}, containers: [{name: web}]}"
    answer = path(tmp_path, "http://db.other.svc.cluster.local:5432/", spec=spec)
    assert answer["disposition"] == "unknown"
    assert "no object of the namespace other" in texts(answer)
