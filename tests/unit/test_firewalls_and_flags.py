"""Listings of firewalls, flags of services, exit statuses, Calico's words: what each line says."""

from __future__ import annotations

from typing import Any

import pytest

from deadhop.evidence import calico
from deadhop.evidence.prompt import machine
from deadhop.evidence.read import read_bytes
from deadhop.model.observed.node import CloudFlow
from deadhop.model.observed.packets import CapturedPacket
from deadhop.model.observed.policy import CiliumOption
from deadhop.model.observed.shell import Attempt, CommandRun
from deadhop.model.record import Record


def records(text: str, kind: type[Record]) -> list[Any]:
    return [r for r in read_bytes("session", text.encode()).records if isinstance(r, kind)]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("3.119204 port1 in 10.1.2.3.40112 -> 192.0.2.9.443: syn 3090118431", ("10.1.2.3", 443, "S")),
        ("3.119204 192.0.2.9.443 -> 10.1.2.3.40112: syn 1 ack 2", ("192.0.2.9", 40112, "S.")),
        (
            "   1: 10:00:00.123456       10.1.2.3.4000 > 192.0.2.9.443: S 1:1(0) win 64240",
            ("10.1.2.3", 443, "S"),
        ),
    ],
)
def test_packets_of_firewalls(line: str, said: tuple[str, int, str]) -> None:
    (packet,) = records(line + "\n", CapturedPacket)
    assert (packet.src, packet.dport, packet.tcp_flags) == said


def test_flags_of_a_unit_and_of_a_process() -> None:
    unit = "ExecStart=/usr/local/bin/k3s \\\n    server \\\n\t'--disable-network-policy' \\\n\t'--flannel-backend=none' \\\n"
    assert [(o.key, o.value) for o in records(unit, CiliumOption)] == [
        ("disable-network-policy", "true"),
        ("flannel-backend", "none"),
    ]
    process = "root  811  2.1  /usr/local/bin/k3s server --disable-network-policy\n"
    assert [o.key for o in records(process, CiliumOption)] == ["disable-network-policy"]


def test_the_exit_status_behind_a_lookup() -> None:
    (attempt,) = records("$ getent hosts db.shop; echo $?\n2\n", Attempt)
    assert (attempt.ok, attempt.target) == (False, "db.shop")
    assert records("$ wc -l notes.txt; echo $?\n2\n", Attempt) == []


def test_a_heading_that_names_a_machine_places_the_commands_below() -> None:
    runs = records("# node-4\n$ ip rule\n# worker2\n$ ip rule\n# before\n$ ip rule\n", CommandRun)
    assert [r.where for r in runs] == ["host node-4", "host worker2", ""]
    assert [machine(w) for w in ("v1.2", "after 3 tries", "step 2", "gw-1.example")] == [
        "",
        "",
        "",
        "gw-1.example",
    ]


def test_calico_selectors() -> None:
    assert calico.selector("app == 'web' && has(tier)") == {
        "matchLabels": {"app": "web"},
        "matchExpressions": [{"key": "tier", "operator": "Exists"}],
    }
    assert calico.selector("all()") == {}
    with pytest.raises(calico.NotSaid):
        calico.selector("app == 'a' || app == 'b'")
    denies = {
        "kind": "NetworkPolicy",
        "apiVersion": "projectcalico.org/v3",
        "spec": {"ingress": [{"action": "Deny"}]},
    }
    assert calico.translated(denies) is None


def test_flow_logs_of_three_clouds() -> None:
    texts = {
        "interface-id,srcaddr,dstaddr,srcport,dstport,protocol,action\n"
        "eni-0a,192.0.2.7,10.9.1.20,0,0,1,REJECT\n": (1, False),
        '{"jsonPayload":{"connection":{"src_ip":"192.0.2.7","dest_ip":"10.9.1.20","protocol":1},'
        '"disposition":"DENIED","rule_details":{"reference":"network:n/firewall:f"}}}\n': (1, False),
        "1700000000,192.0.2.7,10.9.1.20,40000,443,T,I,A\n": (6, True),
    }
    for text, (protocol, accepted) in texts.items():
        flows = [r for r in read_bytes("log", text.encode()).records if isinstance(r, CloudFlow)]
        assert [(f.src, f.dst, f.protocol, f.accepted) for f in flows] == [
            ("192.0.2.7", "10.9.1.20", protocol, accepted)
        ], text
