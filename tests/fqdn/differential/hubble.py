"""Hubble's summaries and lines, and tables."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from deadhop.fqdn import answers, flows
from deadhop.fqdn.formats import tabwriter
from deadhop.fqdn.options import V1_18, Version

from ..real_cilium import Oracle, call
from .cache import IPS, some
from .cases import Area, Case, Outcomes, Random, text

# Hubble's words for a DNS exchange.


def make_flows(rng: Random) -> Case:
    """Any type but NAPTR (35): whether it has a name hangs on the age of the packet library."""
    return [
        [
            rng.choice(("Request", "Response")),
            text(rng, stars=False, odd=0.05),
            some(rng, IPS),
            rng.choice((0, 5, 0xFFFFFFFF)),
            [text(rng, stars=False, odd=0.1) for _ in range(rng.randrange(3))],
            rng.choice(("proxy", "proxy", "", "other")),
            rng.choice((0, 0, 0, *range(24), 4095)),
            [rng.choice((1, 28, 255, rng.randrange(35), 65280)) for _ in range(rng.randrange(3))],
            [rng.choice((1, 28, 5, rng.randrange(36, 300))) for _ in range(rng.randrange(4))],
        ]
        for _ in range(20)
    ]


def real_flows(oracle: Oracle, _: Version, case: Case) -> Outcomes:
    return [
        [summary, json.loads(made)] for summary, made in oracle.ask([call("seven.summary", *i) for i in case])
    ]


def our_flows(_: Version, case: Case) -> Outcomes:
    outcomes: Outcomes = []
    for kind, query, ips, ttl, cnames, source, rcode, qtypes, answer_types in case:
        details = answers.MessageDetails(
            qname=query,
            qtypes=tuple(qtypes),
            response=kind == "Response",
            ttl=ttl,
            ips=tuple(ips),
            cnames=tuple(cnames),
            rcode=rcode,
            answer_types=tuple(answer_types),
        )
        made = json.loads(msgspec.json.encode(flows.flow_dns(details, source)))
        outcomes.append([flows.dns_summary(details, source), made])
    return outcomes


# Hubble's compact line.


def any_end(rng: Random) -> dict[str, Any]:
    made: dict[str, Any] = {"identity": rng.choice((rng.randrange(11), 15, 100, 26450, 16777217))}
    if rng.random() < 0.6:
        made["namespace"] = rng.choice(("default", "kube-system", ""))
    if rng.random() < 0.5:
        made["pod_name"] = "web-1"
    return made


def any_flow(rng: Random) -> dict[str, Any]:
    """A flow as protojson has it: DNS, drops, traces, policy verdicts."""
    made: dict[str, Any] = {
        "time": f"2024-0{rng.randrange(1, 9)}-0{rng.randrange(1, 9)}T15:35:25.{rng.choice(('091', '091500', '999999'))}Z",
        "node_name": "k8s1",
        "Summary": rng.choice(("", "TCP Flags: SYN", "DNS Query a. A")),
    }
    if rng.random() < 0.95:
        made["verdict"] = rng.choice(
            (
                "FORWARDED",
                "DROPPED",
                "ERROR",
                "AUDIT",
                "REDIRECTED",
                "TRACED",
                "TRANSLATED",
                "VERDICT_UNKNOWN",
            )
        )
    if rng.random() < 0.95:
        made["IP"] = {"source": rng.choice(IPS), "destination": rng.choice(IPS)}
    if rng.random() < 0.9:
        made["l4"] = {
            rng.choice(("TCP", "UDP", "SCTP")): {
                "source_port": rng.choice((0, 45240)),
                "destination_port": 53,
            }
        }
    for side in ("source", "destination"):
        if rng.random() < 0.9:
            made[side] = any_end(rng)
        if rng.random() < 0.2:
            made[f"{side}_service"] = {"name": "api", "namespace": rng.choice(("", "default"))}
        if rng.random() < 0.3:
            made[f"{side}_names"] = rng.choice((["a.io"], ["a.io", "b.io"]))
    kind = rng.choice(("dns", "drop", "trace", "verdict", "none"))
    if kind == "dns":
        made["l7"] = {
            "type": rng.choice(("REQUEST", "RESPONSE", "SAMPLE")),
            "dns": {"observation_source": "proxy"},
        }
        made["event_type"] = {"type": 129}
    elif kind != "none":
        number = {"drop": 1, "trace": 4, "verdict": 5}[kind]
        # Drop reasons that every version has, and numbers that none has.
        reasons = {"drop": (*range(130, 204), 1, 20, 129, 250), "trace": range(13), "verdict": (0,)}
        made["event_type"] = {"type": number, "sub_type": rng.choice(reasons[kind])}
    if kind == "verdict":
        made["policy_match_type"] = rng.randrange(8)
    if rng.random() < 0.8:
        made["traffic_direction"] = rng.choice(("EGRESS", "INGRESS", "TRAFFIC_DIRECTION_UNKNOWN"))
    if rng.random() < 0.8:
        made["is_reply"] = rng.random() < 0.5
    return made


def make_lines(rng: Random) -> Case:
    return [[any_flow(rng), rng.random() < 0.3] for _ in range(10)]


def real_lines(oracle: Oracle, _: Version, case: Case) -> Outcomes:
    asked = [call("printer.compact", json.dumps(flow), node) for flow, node in case]
    return [line.removesuffix("\n") for line in oracle.ask(asked)]


def our_lines(_: Version, case: Case) -> Outcomes:
    outcomes: Outcomes = []
    for flow, node in case:
        line = flows.decode_line(json.dumps({"flow": flow}))
        outcomes.append(flows.compact_line(line.flow, node=node))
    return outcomes


# Tables.


def make_tables(rng: Random) -> Case:
    cells = ("", "a", "IDENTITY", "fqdn:*.cilium.io", "ü", "1.1.1.1,2.2.2.2", "x" * 20, "a b")
    return [
        [[rng.choice(cells) for _ in range(rng.randrange(1, 6))] for _ in range(rng.randrange(1, 7))]
        for _ in range(10)
    ]


def real_tables(oracle: Oracle, _: Version, case: Case) -> Outcomes:
    answers_ = oracle.ask([call("tabwriter", ["\t".join(line) for line in lines]) for lines in case])
    return [text_.removesuffix("\n").split("\n") for text_ in answers_]


def our_tables(_: Version, case: Case) -> Outcomes:
    return [tabwriter(lines) for lines in case]


AREAS = (
    Area("hubble", make_flows, real_flows, our_flows, V1_18),
    Area("tables", make_tables, real_tables, our_tables),
    Area("compact lines", make_lines, real_lines, our_lines, V1_18),
)
