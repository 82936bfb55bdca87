"""Runs inside the client's namespace: lookups as real resolvers order them, through a Cilium DNS proxy's decisions.

Every question goes to the CoreDNS of the next namespace and its answer comes back over the wire. What the proxy learns,
which connection it would allow, and how ``hubble observe``, ``fqdn cache list`` and ``fqdn names`` print it, is Cilium's
machinery as ``deadhop.fqdn`` holds it; an allowed connection is then really made.
"""

from __future__ import annotations

import json
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.query
import dns.rdatatype

from deadhop.fqdn.answers import extract_response
from deadhop.fqdn.dns_rules import PortRuleDNS
from deadhop.fqdn.flows import (
    EventType,
    Flow,
    FlowDNS,
    FlowEndpoint,
    IPPair,
    Layer4,
    Layer7,
    Ports,
    compact_line,
    dns_summary,
    flow_dns,
)
from deadhop.fqdn.formats import cache_list, fqdn_names
from deadhop.fqdn.node import Node
from deadhop.fqdn.options import V1_16, options_for
from deadhop.fqdn.policy import DNSAllow, EgressPolicy, FQDNAllow
from deadhop.fqdn.selectors import FQDNSelector
from deadhop.hops.resolver import PROFILES, Ask, Reply, resolve
from deadhop.model.dns import RR, ResolvConf
from deadhop.wire.dns import read_message

ENDPOINT = 811
WORLD = 2


class Pod:
    """One pod on one node, its proxy and what hubble saw."""

    def __init__(self, setting: dict[str, Any]) -> None:
        self.setting = setting
        self.node = Node(V1_16, options_for(V1_16)[0])
        selectors = tuple(FQDNSelector(**s) for s in setting["selectors"])
        self.selectors = selectors
        self.node.apply(
            ENDPOINT,
            EgressPolicy(
                dns=(DNSAllow(rules=(PortRuleDNS(match_pattern="*"),)),),
                fqdns=(FQDNAllow(selectors=selectors),),
            ),
        )
        self.lines: list[str] = []
        self.port = 41000
        self.pod = FlowEndpoint(
            id=ENDPOINT, identity=26450, namespace=setting["namespace"], pod_name=setting["pod"]
        )
        self.server = FlowEndpoint(
            id=12, identity=9313, namespace="kube-system", pod_name="coredns-6f6b679f8f-4x2lq"
        )

    def _flow(self, **fields: Any) -> None:
        flow = Flow(
            time=datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            node_name=self.setting["node"],
            **fields,
        )
        self.lines.append(compact_line(flow))

    def ask(self, ask: Ask) -> Reply:
        """One question through the proxy to the real server."""
        query = dns.message.make_query(ask.name, ask.type, use_edns=False)
        query.flags |= dns.flags.RD
        outcome = self.node.query(ENDPOINT, ask.name, server=ask.server)
        self.port += 1
        ports = Layer4(udp=Ports(self.port, 53))
        ends = IPPair(self.setting["ip"], ask.server, "IPv4")
        request = Flow(
            verdict="FORWARDED" if outcome.answered else "DROPPED",
            ip=ends,
            l4=ports,
            source=self.pod,
            destination=self.server,
            type="L7",
            event_type=EventType(129),
            is_reply=False,
            summary=f"DNS Query {ask.name} {ask.type}",
            l7=Layer7("REQUEST", FlowDNS(query=ask.name, qtypes=(ask.type,), observation_source="proxy")),
        )
        self.lines.append(compact_line(_at(request)))
        if not outcome.answered:
            return Reply("REFUSED")
        try:
            wire = dns.query.udp(query, ask.server, timeout=2, source=self.setting["ip"]).to_wire()
        except dns.exception.Timeout:
            return Reply("TIMEOUT")
        message = read_message(wire)
        details = extract_response(message, V1_16)
        self.node.response(ENDPOINT, details, datetime.now(UTC).timestamp())
        back = IPPair(ask.server, self.setting["ip"], "IPv4")
        reply = Flow(
            verdict="FORWARDED",
            ip=back,
            l4=Layer4(udp=Ports(53, self.port)),
            source=self.server,
            destination=self.pod,
            type="L7",
            event_type=EventType(129),
            is_reply=True,
            summary=dns_summary(details),
            l7=Layer7("RESPONSE", flow_dns(details)),
        )
        self.lines.append(compact_line(_at(reply)))
        return Reply(
            dns.rcode.to_text(message.rcode),
            tuple(RR(r.name, r.ttl, r.type, r.data) for r in message.answers),
            message.truncated,
        )

    def connect(self, ip: str, port: int) -> bool:
        """A connection as policy decides it; an allowed one is made for real."""
        allowed = bool(self.node.connect(ENDPOINT, ip, port=port))
        self.port += 1
        world = FlowEndpoint(identity=16777217 if allowed else WORLD)
        common: dict[str, Any] = {
            "ip": IPPair(self.setting["ip"], ip, "IPv4"),
            "l4": Layer4(tcp=Ports(self.port, port)),
            "source": self.pod,
            "destination": world,
            "type": "L3_L4",
            "traffic_direction": "EGRESS",
            "summary": "TCP Flags: SYN",
        }
        if allowed:
            with socket.create_connection((ip, port), timeout=2):
                pass
            self.lines.append(
                compact_line(
                    _at(
                        Flow(
                            verdict="FORWARDED",
                            is_reply=False,
                            event_type=EventType(4, 3),
                            trace_observation_point="TO_STACK",
                            **common,
                        )
                    )
                )
            )
        else:
            self.lines.append(
                compact_line(
                    _at(
                        Flow(
                            verdict="DROPPED",
                            drop_reason=133,
                            drop_reason_desc="POLICY_DENIED",
                            event_type=EventType(1, 133),
                            **common,
                        )
                    )
                )
            )
        return allowed


def _at(flow: Flow) -> Flow:
    import msgspec

    return msgspec.structs.replace(flow, time=datetime.now(UTC).isoformat().replace("+00:00", "Z"))


def main() -> None:
    setting = json.loads(Path(sys.argv[1]).read_text())
    pod = Pod(setting)
    conf = ResolvConf(nameservers=(setting["server"],), search=tuple(setting["search"]), ndots=5)
    outcome = []
    for step in setting["steps"]:
        if "lookup" in step:
            profile = PROFILES[step["profile"]]
            if step.get("order"):
                import msgspec

                profile = msgspec.structs.replace(profile, dns_order=tuple(step["order"]))
            lookup, _state = resolve(profile, conf, step["lookup"], pod.ask)
            address = lookup.told.addresses[0] if lookup.told.addresses else ""
            outcome.append(
                {
                    "lookup": step["lookup"],
                    "profile": step["profile"],
                    "address": address,
                    "error": lookup.told.error,
                }
            )
            if address and step.get("port"):
                outcome[-1]["connected"] = pod.connect(address, step["port"])
        elif "connect" in step:
            outcome.append(
                {"connect": step["connect"], "connected": pod.connect(step["connect"], step["port"])}
            )
    print(
        json.dumps(
            {
                "outcome": outcome,
                "hubble": pod.lines,
                "cache": list(cache_list(pod.node.cache_rows())),
                "names": fqdn_names(pod.selectors, V1_16),
            }
        )
    )


if __name__ == "__main__":
    main()
