"""DNS and policy flows as Hubble writes them."""

from __future__ import annotations

import json
import re
from typing import Any

from deadhop.fqdn import answers, flow_words, flows
from deadhop.fqdn.options import Version

from .common import Area, UnknownOperation, Vector, same

TYPES_BY_TEXT = {text: code for code, text in flow_words.TYPE_TEXTS.items()}
SUMMARY_KEYS = {"q", "qt", "ips", "cn", "ttl", "rc", "src"}


def hubble_summary(v: Vector, _version: Version, _: Any) -> None:
    item = v["dns"]
    if unknown := set(item) - SUMMARY_KEYS:
        raise UnknownOperation(f"dns fields {unknown}")
    types = item.get("qt", "A")
    listed = types.split(",") if isinstance(types, str) else types
    details = answers.MessageDetails(
        qname=item["q"],
        qtypes=tuple(t if isinstance(t, int) else TYPES_BY_TEXT.get(t, 65280) for t in listed),
        response=v["flow_type"] == "response",
        ttl=item.get("ttl", 0),
        ips=tuple(item.get("ips") or ()),
        cnames=tuple(item.get("cn") or ()),
        rcode=item.get("rc", 0),
    )
    same(flows.dns_summary(details, item.get("src", "proxy")), v["expected_summary"])


def hubble_l7_dns(v: Vector, _version: Version, _: Any) -> None:
    record = v["log_record"]
    details = answers.MessageDetails(
        qname=record["query"],
        qtypes=tuple(record.get("qtypes") or ()),
        response=record["type"] == "response",
        ttl=record.get("ttl", 0),
        ips=tuple(record.get("ips") or ()),
        cnames=tuple(record.get("cnames") or ()),
        rcode=record.get("rcode", 0),
        answer_types=tuple(record.get("answer_types") or ()),
    )
    line = flows.encode_line(
        flows.FlowLine(flows.Flow(l7=flows.Layer7(dns=flows.flow_dns(details, record["source"]))))
    )
    same(json.loads(line)["flow"]["l7"]["dns"], v["expected_dns"])


def hubble_jsonpb(v: Vector, _version: Version, _: Any) -> None:
    same(flows.encode_line(flows.decode_line(v["expected_line"])), v["expected_line"])


SAMPLE_FLOW = {
    "time": "1970-01-01T00:20:34.567800Z",
    "node_name": "k8s1",
    "src": "1.1.1.1:31793",
    "src_identity": 4,
    "dst": "2.2.2.2:8080",
    "dst_identity": 12345,
    "verdict": "DROPPED",
    "is_reply": False,
    "summary": "TCP Flags: SYN",
}


def flow_end(text: str, number_: int) -> tuple[str, int, flows.FlowEndpoint]:
    host, _colon, port = text.rpartition(":")
    namespace, slash, pod = host.rpartition("/")
    end = flows.FlowEndpoint(identity=number_, namespace=namespace, pod_name=pod if slash else "")
    return ("" if slash else host.strip("[]")), int(port), end


def hubble_compact(v: Vector, _version: Version, _: Any) -> None:
    """The flow of a vector is laid over Hubble's own test flow; the summary is not part of it."""
    item = {**SAMPLE_FLOW, **v["flow"]}
    wanted = v.get("expected_line") or v["expected_line_without_timestamp"]
    src_ip, sport, source = flow_end(item["src"], item["src_identity"])
    dst_ip, dport, destination = flow_end(item["dst"], item["dst_identity"])
    dns = re.fullmatch(r"dns-(request|response) (\w+)", item.get("type", ""))
    event = {"Policy denied": (flow_words.EVENT_DROP, 133)}.get(item.get("type", "Policy denied"))
    for point, text in flow_words.TRACE_POINTS.items():
        if item.get("type") == text:
            event = (flow_words.EVENT_TRACE, point)
    if item.get("policy_verdict"):
        event = (flow_words.EVENT_POLICY_VERDICT, 0)
    if not dns and event is None:
        raise UnknownOperation(f"flow type {item.get('type')}")
    summary = item["summary"]
    if dns and "summary" not in v["flow"]:
        summary = wanted.partition(f" {item['verdict']} (")[2].removesuffix(")")
    l7 = flows.Layer7(dns[1].upper(), flows.FlowDNS(observation_source=dns[2])) if dns else None
    flow = flows.Flow(
        time=item["time"],
        node_name=item["node_name"],
        verdict=item["verdict"],
        ip=flows.IPPair(src_ip, dst_ip),
        l4=flows.Layer4(tcp=flows.Ports(sport, dport)),
        source=source,
        destination=destination,
        l7=l7,
        event_type=flows.EventType(*event) if event else None,
        traffic_direction=item.get("direction", ""),
        policy_match_type=item.get("policy_match_type", 0),
        is_reply=item["is_reply"],
        summary=summary,
    )
    line = flows.compact_line(flow, node="[" in wanted.split(": ")[0])
    same(line if "expected_line" in v else line.split(": ", 1)[1], wanted)


AREAS: dict[str, Area] = {
    "hubble_compact": hubble_compact,
    "hubble_jsonpb": hubble_jsonpb,
    "hubble_l7_dns": hubble_l7_dns,
    "hubble_summary": hubble_summary,
}
