"""Policy files: what is refused and where, and that compiled ranges say what the policy hop says."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from deadhop.agent import policyfile
from deadhop.agent.compile import compile_all, covers
from deadhop.agent.endpoints import Endpoint, parse
from deadhop.fqdn.options import LATEST
from deadhop.fqdn.policy import PortSpec
from deadhop.fqdn.selectors import FQDNSelector
from deadhop.hops.policy.decide import judge

GOOD = """apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: web
  namespace: shop
spec:
  endpointSelector:
    matchLabels:
      app: web
  egress:
    - toEndpoints:
        - matchLabels:
            k8s:io.kubernetes.pod.namespace: kube-system
            k8s-app: kube-dns
      toPorts:
        - ports:
            - port: "53"
              protocol: ANY
          rules:
            dns:
              - matchPattern: "*"
    - toFQDNs:
        - matchName: api.example.com
"""


def complaints(text: str) -> list[str]:
    return [str(c) for c in policyfile.parse(text, "p.yaml", LATEST)[1]]


def test_a_good_policy() -> None:
    policies, wrong = policyfile.parse(GOOD, "p.yaml", LATEST)
    assert wrong == []
    assert [p.ref for p in policies] == ["CiliumNetworkPolicy shop/web"]


@pytest.mark.parametrize(
    "old, new, said",
    [
        (
            "toFQDNs:",
            "toServices:",
            "p.yaml:22: spec.egress[1].toServices is not supported: select the endpoints",
        ),
        (
            "matchName: api",
            "matchname: api",
            "p.yaml:23: spec.egress[1].toFQDNs[0].matchname is an unknown field",
        ),
        ("api.example.com", "api.exa!mple.com", "p.yaml:22: spec.egress[1]: Invalid characters in MatchName"),
        ('port: "53"', 'port: "dns"', "p.yaml:17: spec.egress[0].toPorts[0].ports[0]: named ports"),
        ('port: "53"', 'port: "70000"', "unable to parse port"),
        ("protocol: ANY", "protocol: ICMP", "protocol ICMP is not supported"),
        ("apiVersion: cilium.io/v2", "apiVersion: v1", "p.yaml:1: CiliumNetworkPolicy has apiVersion"),
        ("  endpointSelector:\n    matchLabels:\n      app: web\n", "", "endpointSelector is missing"),
        ("egress:", "ingress:", "p.yaml:10: spec.ingress is not supported: the agent enforces egress"),
        ("egress:\n", "egress: yes\n  x:\n", "spec.egress is not a list"),
        ("    - toFQDNs:", "    - toCIDR: [10.0.0.0/33]\n    - toFQDNs:", "unable to parse CIDR"),
        (
            "    - toFQDNs:",
            "    - toEntities: [moon]\n    - toFQDNs:",
            'p.yaml:22: spec.egress[1].toEntities[0]: unknown entity "moon"',
        ),
        (
            "    - toFQDNs:",
            "    - toCIDR: [10.0.0.0/8]\n      toFQDNs:",
            "combining ToFQDNs and ToCIDR is not supported yet",
        ),
        ("dns:", "http:", "spec.egress[0].toPorts[0].rules.http is not supported: only DNS rules"),
        (
            "  egress:",
            "  egressDeny: [{toFQDNs: [{matchName: x.y}]}]\n  egress:",
            'unknown field "spec.egressDeny[].toFQDNs"',
        ),
        ("metadata:\n  name: web\n", "metadata:\n", "metadata.name is missing"),
        ("spec:", "spec: !!python/object:os.system {}\nx:", "a YAML tag is refused"),
        ("kind: CiliumNetworkPolicy", "kind: NetworkPolicy", "the agent enforces Cilium policies only"),
    ],
)
def test_what_is_refused(old: str, new: str, said: str) -> None:
    assert old in GOOD
    found = complaints(GOOD.replace(old, new, 1))
    assert any(said in line for line in found), found


def test_folders(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.yaml").write_text(GOOD + "---\nkind: Deployment\nmetadata: {name: x}\n")
    (tmp_path / "notes.txt").write_text("not a policy")
    assert len(policyfile.load([tmp_path], LATEST)) == 1
    (tmp_path / "b.yml").write_text(GOOD)
    with pytest.raises(policyfile.PolicyRefused, match=r"stands in .* already"):
        policyfile.load([tmp_path], LATEST)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(policyfile.PolicyRefused, match=r"no \.yaml"):
        policyfile.load([empty], LATEST)


@given(
    st.text(max_size=300) | st.binary(max_size=200).map(lambda b: GOOD[: len(b) * 3] + b.decode("latin-1"))
)
@settings(deadline=None)
def test_any_text_is_answered(text: str) -> None:
    policyfile.parse(text, "p.yaml", LATEST)


_LEAF = (
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.sampled_from(["53", "10.0.0.0/8", "*.x", "ANY", "all"])
)
_KEYS = st.sampled_from(
    [
        "toFQDNs",
        "toCIDR",
        "toCIDRSet",
        "toPorts",
        "ports",
        "port",
        "rules",
        "dns",
        "matchName",
        "matchLabels",
        "cidr",
        "except",
        "toEntities",
        "toEndpoints",
        "endPort",
    ]
)
_VALUE: Any = st.recursive(
    _LEAF,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=20,
)


@given(_VALUE, _VALUE)
@settings(deadline=None, max_examples=300)
def test_any_shape_is_answered_and_what_is_taken_compiles(selector: Any, rules: Any) -> None:
    value = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "x"},
        "spec": {"endpointSelector": selector, "egress": rules},
    }
    policies, _wrong = policyfile.parse(yaml.safe_dump(value), "p.yaml", LATEST)
    if policies:
        compile_all(ENDPOINTS, policies)


def endpoint(text: str, device: str = "") -> Endpoint:
    spec = parse(text)
    addresses = spec.addresses or ("10.0.0.5", "fd00::5")
    return Endpoint(spec=spec, addresses=addresses, device=device, id=1)


ENDPOINTS = [
    endpoint("default/web=netns:x,app=web", "lxc0"),
    endpoint("default/db=ip:10.0.0.9,app=db"),
    endpoint("shop/db=ip:10.1.0.9+fd00::9,app=db,tier=data"),
    endpoint("kube-system/dns=ip:10.0.0.2,k8s-app=kube-dns"),
    endpoint("node=ip:10.0.0.1,reserved:host"),
    endpoint("api=ip:192.0.2.10,reserved:kube-apiserver"),
]
_CIDRS = st.sampled_from(
    ["10.0.0.0/8", "10.0.0.0/24", "192.0.2.0/24", "192.0.2.10/32", "0.0.0.0/0", "fd00::/16", "::/0"]
)
_RULE = st.one_of(
    st.fixed_dictionaries({"toCIDR": st.lists(_CIDRS, min_size=1, max_size=3)}),
    st.just({"toCIDRSet": [{"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "10.0.0.8/30"]}]}),
    st.fixed_dictionaries(
        {
            "toEntities": st.lists(
                st.sampled_from(["world", "host", "cluster", "all", "kube-apiserver"]), min_size=1
            )
        }
    ),
    st.sampled_from(
        [
            {"toEndpoints": [{}]},
            {"toEndpoints": [{"matchLabels": {"app": "db"}}]},
            {"toEndpoints": [{"matchLabels": {"app": "db", "k8s:io.kubernetes.pod.namespace": "shop"}}]},
            {"toEndpoints": [{"matchExpressions": [{"key": "tier", "operator": "Exists"}]}]},
            {},
            {"toCIDR": []},
        ]
    ),
)
_PORTS = st.none() | st.lists(
    st.sampled_from(
        [
            {"ports": [{"port": "80", "protocol": "TCP"}]},
            {"ports": [{"port": "53"}]},
            {"ports": [{"port": "0", "protocol": "UDP"}]},
            {
                "ports": [
                    {"port": "8000", "endPort": 8010, "protocol": "TCP"},
                    {"port": "8005", "protocol": "UDP"},
                ]
            },
        ]
    ),
    min_size=1,
    max_size=2,
)
_FULL = st.tuples(_RULE, _PORTS).map(lambda pair: {**pair[0], **({"toPorts": pair[1]} if pair[1] else {})})


@given(st.lists(_FULL, max_size=3), st.lists(_FULL, max_size=2), st.data())
@settings(deadline=None, max_examples=200)
def test_ranges_say_what_the_hop_says(allows: list[Any], denies: list[Any], data: st.DataObject) -> None:
    """Every compiled range against the policy hop's own judgement of single connections."""
    value = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "x"},
        "spec": {"endpointSelector": {}, "egress": allows, "egressDeny": denies},
    }
    policies, wrong = policyfile.parse(yaml.safe_dump(value), "p.yaml", LATEST)
    assert wrong == []
    compiled = compile_all(ENDPOINTS, policies)[0]["default/web"]
    from deadhop.hops.policy.peers import Peer

    at = {ip: e.peer(ip) for e in ENDPOINTS for ip in e.addresses}
    edges = [
        "10.0.0.0",
        "10.0.0.8",
        "10.0.0.12",
        "10.0.1.0",
        "10.1.0.0",
        "10.2.0.0",
        "11.0.0.0",
        "192.0.2.9",
        "192.0.3.0",
        "fd00::1",
        "fe00::",
        "2001:db8::1",
    ]
    for _ in range(20):
        ip = str(ip_address(data.draw(st.sampled_from([*at, *edges]))))
        port = data.draw(st.sampled_from([1, 53, 79, 80, 81, 7999, 8000, 8005, 8010, 8011, 65535]))
        protocol = data.draw(st.sampled_from(["TCP", "UDP", "SCTP"]))
        other = at.get(ip) or Peer(ip=ip)
        answer = judge(policies, "egress", ENDPOINTS[0].peer("10.0.0.5"), other, port, protocol).allowed
        mine = any(covers(r, ip, protocol, port) for r in compiled.allows) and not any(
            covers(r, ip, protocol, port) for r in compiled.denies
        )
        assert mine == answer, (ip, port, protocol)


def test_dns_rules_and_identities_of_servers() -> None:
    policies, _ = policyfile.parse(GOOD.replace("namespace: shop", "namespace: default"), "p.yaml", LATEST)
    compiled, servers = compile_all(ENDPOINTS, policies)
    web = compiled["default/web"]
    (dns,) = web.policy.dns
    assert dns.ports == (PortSpec(53, "ANY", 0),)
    assert dns.rules == (FQDNSelector(match_pattern="*"),)
    assert dns.peer.selects(servers.of("10.0.0.2"))
    assert not dns.peer.selects(servers.of("10.0.0.9"))
    assert not dns.peer.selects(servers.of("8.8.8.8"))
    assert web.fqdn_ports == ((None, frozenset({"fqdn:api.example.com"})),)


@pytest.mark.parametrize(
    "text, said",
    [
        ("web", "NAME=netns:PATH"),
        ("a/b/c=netns:x", "not a pod's name"),
        ("web=docker:x", "neither netns:PATH nor ip:ADDRESS"),
        ("web=ip:1.2.3.400", "1.2.3.400"),
        ("web=netns:x,=y", "a label is empty"),
        ("web=ip:1.2.3.4,reserved:moon", "no reserved identity"),
    ],
)
def test_endpoints_that_are_not(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse(text)
