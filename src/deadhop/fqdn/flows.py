"""Hubble flows: the summary of a DNS exchange, the compact line, the JSON line, and the monitor's line.

The JSON is protojson with the proto's field names in the order of ``flow.proto``; values that are the proto3
default are left out, except in wrapper types (``is_reply: false`` is said, an unknown direction is absent).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import msgspec

from deadhop.fqdn.answers import MessageDetails
from deadhop.fqdn.clock import from_rfc3339, stamp_milli
from deadhop.fqdn.flow_words import (
    DROP_REASONS,
    EVENT_DROP,
    EVENT_POLICY_VERDICT,
    EVENT_TRACE,
    POLICY_MATCHES,
    RCODE_TEXTS,
    RESERVED_IDENTITIES,
    TRACE_POINTS,
    TYPE_TEXTS,
)
from deadhop.fqdn.gotext import quote

_POLICY_VERDICTS = {
    "FORWARDED": "ALLOWED",
    "REDIRECTED": "ALLOWED",
    "DROPPED": "DENIED",
    "ERROR": "DENIED",
    "AUDIT": "AUDITED",
}


class IPPair(msgspec.Struct, frozen=True, omit_defaults=True, rename={"ip_version": "ipVersion"}):
    source: str = ""
    destination: str = ""
    ip_version: str = ""


class Ports(msgspec.Struct, frozen=True, omit_defaults=True):
    source_port: int = 0
    destination_port: int = 0


class Layer4(msgspec.Struct, frozen=True, omit_defaults=True, rename="upper"):
    tcp: Ports | None = None
    udp: Ports | None = None
    sctp: Ports | None = None


class Workload(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str = ""
    kind: str = ""


class FlowEndpoint(msgspec.Struct, frozen=True, omit_defaults=True, rename={"id": "ID"}):
    id: int = 0
    identity: int = 0
    cluster_name: str = ""
    namespace: str = ""
    labels: tuple[str, ...] = ()
    pod_name: str = ""
    workloads: tuple[Workload, ...] = ()


class Service(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str = ""
    namespace: str = ""


class FlowDNS(msgspec.Struct, frozen=True, omit_defaults=True):
    query: str = ""
    ips: tuple[str, ...] = ()
    ttl: int = 0
    cnames: tuple[str, ...] = ()
    observation_source: str = ""
    rcode: int = 0
    qtypes: tuple[str, ...] = ()
    rrtypes: tuple[str, ...] = ()


class Layer7(msgspec.Struct, frozen=True, omit_defaults=True):
    type: str = ""
    dns: FlowDNS | None = None


class EventType(msgspec.Struct, frozen=True, omit_defaults=True):
    type: int = 0
    sub_type: int = 0


class Flow(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    kw_only=True,
    rename={"ip": "IP", "type": "Type", "summary": "Summary"},
):
    """One flow. ``time`` is RFC 3339 as printed; ``is_reply`` None where the direction is not known."""

    time: str = ""
    uuid: str = ""
    verdict: str = ""
    drop_reason: int = 0
    ip: IPPair | None = None
    l4: Layer4 | None = None
    source: FlowEndpoint | None = None
    destination: FlowEndpoint | None = None
    type: str = ""
    node_name: str = ""
    source_names: tuple[str, ...] = ()
    destination_names: tuple[str, ...] = ()
    l7: Layer7 | None = None
    event_type: EventType | None = None
    source_service: Service | None = None
    destination_service: Service | None = None
    traffic_direction: str = ""
    policy_match_type: int = 0
    trace_observation_point: str = ""
    drop_reason_desc: str = ""
    is_reply: bool | None = None
    summary: str = ""


class FlowLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of ``hubble observe -o jsonpb``."""

    flow: Flow
    node_name: str = ""
    time: str = ""


_HTML = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


def encode_line(line: FlowLine) -> str:
    """A line of ``-o jsonpb``, with Go's escapes for HTML."""
    return msgspec.json.encode(line).decode().translate(_HTML)


def decode_line(text: str | bytes) -> FlowLine:
    """Read a line of ``-o jsonpb``. Raises ``msgspec.ValidationError`` or ``DecodeError``; unknown fields pass."""
    return msgspec.json.decode(text, type=FlowLine)


def type_texts(numbers: Sequence[int]) -> tuple[str, ...]:
    return tuple(TYPE_TEXTS.get(number, "Unknown") for number in numbers)


def flow_dns(details: MessageDetails, source: str = "proxy") -> FlowDNS:
    """The ``dns`` object of a flow. A request carries the question only."""
    if not details.response:
        return FlowDNS(query=details.qname, observation_source=source, qtypes=type_texts(details.qtypes))
    return FlowDNS(
        query=details.qname,
        ips=details.ips,
        ttl=details.ttl,
        cnames=details.cnames,
        observation_source=source,
        rcode=details.rcode,
        qtypes=type_texts(details.qtypes),
        rrtypes=type_texts(details.answer_types),
    )


def dns_summary(details: MessageDetails, source: str = "proxy") -> str:
    """The summary of a DNS flow (``seven.dnsSummary``). Its packet library keeps the lowest eight bits of an rcode."""
    types = ",".join(type_texts(details.qtypes))
    if not details.response:
        return f"DNS Query {details.qname} {types}"
    rcode = details.rcode & 0xFF
    if rcode:
        answer = f"RCode: {RCODE_TEXTS.get(rcode, 'Unknown')}"
    else:
        parts = []
        if details.ips:
            parts.append(quote(",".join(details.ips)))
        if details.cnames:
            parts.append(f"CNAMEs: {quote(','.join(details.cnames))}")
        answer = " ".join(parts)
    word = "Proxy" if source == "proxy" else "Query"
    return f"DNS Answer {answer} TTL: {details.ttl} ({word} {details.qname} {types})"


def flow_type(flow: Flow) -> str:
    """The TYPE column (``printer.GetFlowType``)."""
    if flow.l7 is not None:
        kind = flow.l7.type.lower()
        return f"dns-{kind} {flow.l7.dns.observation_source}" if flow.l7.dns else f"l7-{kind}"
    event = flow.event_type or EventType()
    if event.type == EVENT_TRACE:
        return TRACE_POINTS.get(event.sub_type, str(event.sub_type))
    if event.type == EVENT_DROP:
        return DROP_REASONS.get(event.sub_type, f"{event.sub_type}, 0")
    if event.type == EVENT_POLICY_VERDICT:
        match = POLICY_MATCHES.get(flow.policy_match_type, "unknown")
        return f"policy-verdict:{match} {flow.traffic_direction or 'TRAFFIC_DIRECTION_UNKNOWN'}"
    return "UNKNOWN"


def verdict_text(flow: Flow) -> str:
    """The VERDICT column: a policy verdict says ALLOWED, DENIED or AUDITED."""
    if flow.event_type is not None and flow.event_type.type == EVENT_POLICY_VERDICT:
        return _POLICY_VERDICTS.get(flow.verdict, flow.verdict) or "VERDICT_UNKNOWN"
    return flow.verdict or "VERDICT_UNKNOWN"


def _host(ip: str, port: int, namespace: str, pod: str, service: str, names: Sequence[str]) -> str:
    host = ip
    if pod:
        host = f"{namespace}/{pod}" if namespace else pod
    elif service:
        host = f"{namespace}/{service}" if namespace else service
    elif names:
        host = ",".join(names)
    if not port:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def host_names(flow: Flow) -> tuple[str, str]:
    """(source, destination) as Hubble names them: pod, else service, else DNS names, else address."""
    if flow.ip is None:
        return "", ""
    l4 = flow.l4 or Layer4()
    ports = l4.tcp or l4.udp or l4.sctp or Ports()
    source, destination = flow.source or FlowEndpoint(), flow.destination or FlowEndpoint()
    from_service, to_service = flow.source_service, flow.destination_service
    return (
        _host(
            flow.ip.source,
            ports.source_port,
            from_service.namespace if from_service else source.namespace,
            source.pod_name,
            from_service.name if from_service else "",
            flow.source_names,
        ),
        _host(
            flow.ip.destination,
            ports.destination_port,
            to_service.namespace if to_service else destination.namespace,
            destination.pod_name,
            to_service.name if to_service else "",
            flow.destination_names,
        ),
    )


def identity_text(identity: int) -> str:
    name = RESERVED_IDENTITIES.get(identity)
    return f"({name})" if name else f"(ID:{identity})"


def compact_line(flow: Flow, *, node: bool = False, offset: timedelta | None = None) -> str:
    """One line of ``hubble observe -o compact``; the initiator stands left, whatever the packet's direction."""
    source, destination = host_names(flow)
    from_id = identity_text((flow.source or FlowEndpoint()).identity)
    to_id = identity_text((flow.destination or FlowEndpoint()).identity)
    arrow = "<>" if flow.is_reply is None else "->"
    if flow.is_reply:
        source, destination, from_id, to_id, arrow = destination, source, to_id, from_id, "<-"
    try:
        stamp = stamp_milli(from_rfc3339(flow.time), offset)
    except (ValueError, OverflowError):
        stamp = "N/A"
    where = f" [{flow.node_name}]" if node else ""
    return (
        f"{stamp}{where}: {source} {from_id} {arrow} {destination} {to_id} "
        f"{flow_type(flow)} {verdict_text(flow)} ({flow.summary})"
    )


def monitor_line(
    details: MessageDetails,
    *,
    source: str,
    destination: str,
    source_identity: int,
    destination_identity: int,
    verdict: str,
) -> str:
    """One line of ``cilium-dbg monitor -t l7``; ``source`` and ``destination`` read ``ID ([labels])``."""
    types = ",".join(type_texts(details.qtypes))
    head = "<- Response" if details.response else "-> Request"
    line = (
        f"{head} dns from {source} to {destination}, identity {source_identity}->{destination_identity}, "
        f"verdict {verdict} DNS proxy: {details.qname} {types}"
    )
    if not details.response:
        return line
    line += f" TTL: {details.ttl} Answer: '{','.join(details.ips)}'"
    return f"{line} CNAMEs: {','.join(details.cnames)}" if details.cnames else line
