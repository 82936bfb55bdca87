"""Recordings as a world to replay: queries, answers and connections of Hubble flows, queries of CoreDNS logs.

A CoreDNS log has no addresses in it, so it says which names were asked for and nothing of what an answer taught; a
Hubble recording has both, and the connections. Pods and their labels come from the flows; for a log they are given
as endpoints with their addresses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, summarize_address_range
from pathlib import Path

import msgspec

from deadhop.agent.compile import Compiled, Reach, compile_all, covers
from deadhop.agent.endpoints import Endpoint, EndpointSpec
from deadhop.agent.ranges import LAST, Range
from deadhop.evidence.format import Context, Lines
from deadhop.evidence.formats import coredns_log
from deadhop.fqdn.admission import AnyPeer
from deadhop.fqdn.clock import from_rfc3339
from deadhop.fqdn.flows import Flow, FlowDNS, FlowEndpoint, Layer7, decode_line
from deadhop.fqdn.names import fqdn
from deadhop.fqdn.options import Options, Version
from deadhop.fqdn.policy import CIDRAllow, EgressPolicy, PortSpec
from deadhop.hops.fqdn import Connect, Query, World
from deadhop.model.dns import RR, Message, Question, type_number
from deadhop.model.observed.dns import DnsQuery
from deadhop.model.observed.kube import KubeObject
from deadhop.model.record import Source

_NAMESPACE = "k8s:io.kubernetes.pod.namespace="
_RESERVED = {
    "reserved:host": "host",
    "reserved:remote-node": "remote-node",
    "reserved:kube-apiserver": "kube-apiserver",
}


class Recording(msgspec.Struct, kw_only=True):
    """What the files hold. ``verdicts`` are the recorded ones, in the order of ``connects``."""

    endpoints: dict[str, Endpoint] = msgspec.field(default_factory=dict)
    queries: list[Query] = msgspec.field(default_factory=list)
    connects: list[Connect] = msgspec.field(default_factory=list)
    verdicts: list[str] = msgspec.field(default_factory=list)
    nodes: dict[str, str] = msgspec.field(default_factory=dict)
    problems: list[str] = msgspec.field(default_factory=list)
    complete: bool = True


def read(paths: Iterable[Path], given: Sequence[Endpoint] = ()) -> Recording:
    """Read recordings. Lines of neither kind are counted in ``problems``. Raises ``OSError``."""
    found = Recording(endpoints={e.name: e for e in given})
    by_ip = {ip: e.name for e in given for ip in e.addresses}
    connected: set[tuple[object, ...]] = set()
    for path in paths:
        text = path.read_bytes().decode(errors="replace").splitlines()
        skipped = [
            number
            for number, line in enumerate(text, 1)
            if line.strip() and not _take(found, line, Source(str(path), number), by_ip, connected)
        ]
        if skipped:
            found.problems.append(
                f"{path}:{skipped[0]}: {len(skipped)} lines are neither Hubble flows nor CoreDNS queries"
            )
    return found


def _take(
    found: Recording, line: str, source: Source, by_ip: dict[str, str], connected: set[tuple[object, ...]]
) -> bool:
    if line.lstrip().startswith("{"):
        try:
            flow = decode_line(line).flow
        except (msgspec.ValidationError, msgspec.DecodeError):
            return False
        _flow(found, flow, source, by_ip, connected)
        return True
    end, records = coredns_log.FORMAT.read(Lines(source.file, [line], source.line), 0, Context(source.file))
    queries = [record for record in records if isinstance(record, DnsQuery)]
    for query in queries:
        name = by_ip.get(query.client, query.client)
        found.complete = False  # a log without answers says what was asked, not what was learned
        found.queries.append(
            Query(
                at=query.time or 0.0,
                endpoint=name,
                name=fqdn(query.qname),
                type=query.qtype,
                protocol=query.transport.upper(),
                sources=(source,),
            )
        )
    return bool(end and records)


def _flow(
    found: Recording, flow: Flow, source: Source, by_ip: dict[str, str], connected: set[tuple[object, ...]]
) -> None:
    if flow.ip is None:
        return
    ends = [(flow.source, flow.ip.source), (flow.destination, flow.ip.destination)]
    for end, ip in ends:
        if end is not None:
            _endpoint(found, end, ip, by_ip)
    try:
        at = from_rfc3339(flow.time)
    except (ValueError, OverflowError):
        return
    pod_side = 1 if flow.is_reply else 0
    pod, server = by_ip.get(ends[pod_side][1], ""), ends[1 - pod_side][1]
    if not pod:
        return
    found.nodes.setdefault(pod, flow.node_name)
    layer = flow.l4
    protocol = "UDP" if layer and layer.udp else "TCP"
    ports = (layer.udp or layer.tcp or layer.sctp) if layer else None
    if flow.l7 is not None and flow.l7.dns is not None:
        if flow.l7.type != "RESPONSE" and flow.verdict != "DROPPED":
            return  # its answer, where one came, has a flow of its own
        port = (ports.source_port if flow.is_reply else ports.destination_port) if ports else 53
        asked = _query(flow.l7, flow.l7.dns)
        found.queries.append(
            msgspec.structs.replace(
                asked, at=at, endpoint=pod, server=server, port=port, protocol=protocol, sources=(source,)
            )
        )
        return
    if (
        flow.is_reply
        or ports is None
        or flow.traffic_direction == "INGRESS"
        or (layer and layer.tcp and "SYN" not in flow.summary)
    ):
        return
    key = (pod, server, ports.source_port, ports.destination_port, protocol)
    if key in connected or ports.destination_port == 53:
        return
    connected.add(key)
    names = flow.destination_names
    found.connects.append(
        Connect(
            at=at,
            endpoint=pod,
            ip=server,
            port=ports.destination_port,
            protocol=protocol,
            name=names[0] if names else "",
            sources=(source,),
        )
    )
    found.verdicts.append(flow.verdict)


def _query(layer: Layer7, dns: FlowDNS) -> Query:
    """What was asked and what came, without when, by whom and of whom."""
    answer = None
    if layer.type == "RESPONSE":
        answer = _answer(dns.query, dns.qtypes, dns.ips, dns.cnames, dns.ttl, dns.rcode)
    rtype = dns.qtypes[0] if dns.qtypes else "A"
    return Query(at=0.0, endpoint="", name=fqdn(dns.query), type=rtype, answer=answer)


def _endpoint(found: Recording, end: FlowEndpoint, ip: str, by_ip: dict[str, str]) -> None:
    entity = next((_RESERVED[label] for label in end.labels if label in _RESERVED), "")
    name = f"{end.namespace}/{end.pod_name}" if end.pod_name else (f"{entity}/{ip}" if entity else "")
    if not name or ip in by_ip:
        return
    by_ip[ip] = name
    labels = dict(
        label.removeprefix("k8s:").partition("=")[::2]
        for label in end.labels
        if label.startswith("k8s:") and not label.startswith(_NAMESPACE)
    )
    known = found.endpoints.get(name)
    addresses = (*known.addresses, ip) if known else (ip,)
    spec = EndpointSpec(
        namespace=end.namespace, pod=end.pod_name, labels=labels, entity=entity, addresses=addresses
    )
    found.endpoints[name] = Endpoint(spec=spec, addresses=addresses, device="" if entity else "recorded")


def _answer(
    name: str, types: Sequence[str], ips: Sequence[str], cnames: Sequence[str], ttl: int, rcode: int
) -> Message:
    owner = fqdn(name)
    answers: list[RR] = []
    for target in cnames:
        answers.append(RR(owner, ttl, "CNAME", target))
        owner = fqdn(target)
    answers += [RR(owner, ttl, "AAAA" if ":" in ip else "A", ip) for ip in ips]
    asked = next((t for t in types if _known(t)), "A")
    return Message(
        response=True, rcode=rcode, questions=(Question(fqdn(name), asked),), answers=tuple(answers)
    )


def _known(rtype: str) -> bool:
    try:
        type_number(rtype)
    except ValueError:
        return False
    return True


def world_of(
    recording: Recording, policies: Sequence[KubeObject], version: Version, options: Options
) -> tuple[World, dict[str, Compiled]]:
    """The world to replay, and what the policies say of each endpoint."""
    endpoints = list(recording.endpoints.values())
    compiled, servers = compile_all(endpoints, policies)
    # A server's own log does not say its address: it is taken for the one that the DNS rules mean.
    any_server = not any(query.server for query in recording.queries)
    return World(
        policies={name: _policy(one, any_server=any_server) for name, one in compiled.items()},
        queries=tuple(recording.queries),
        connects=tuple(recording.connects),
        version=version,
        options=options,
        nodes=recording.nodes,
        complete=recording.complete,
        cluster_addresses=tuple(ip for e in endpoints for ip in e.addresses),
        identities={q.server: servers.of(q.server) for q in recording.queries if q.server},
    ), compiled


def denied_by_rule(compiled: Compiled | None, connect: Connect) -> bool:
    """Whether an ``egressDeny`` rule names the destination; it wins over every name."""
    return compiled is not None and any(
        covers(reach, connect.ip, connect.protocol, connect.port) for reach in compiled.denies
    )


def _policy(compiled: Compiled, *, any_server: bool) -> EgressPolicy:
    """The core's policy with the static rules as CIDRs."""
    dns = compiled.policy.dns
    if any_server:
        dns = tuple(msgspec.structs.replace(allow, peer=AnyPeer()) for allow in dns)
    cidrs = tuple(
        CIDRAllow(cidr=cidr, ports=_specs(reach))
        for reach in compiled.allows
        for version in (4, 6)
        for span in reach.of(version)
        for cidr in _cidrs(span, version)
    )
    return msgspec.structs.replace(compiled.policy, enforced=compiled.enforced, dns=dns, cidrs=cidrs)


def _specs(reach: Reach) -> tuple[PortSpec, ...]:
    return tuple(
        PortSpec(low, protocol, high if high > low else 0) for protocol, (low, high) in reach.ports or ()
    )


def _cidrs(span: Range, version: int) -> list[str]:
    low, high = span
    if version == 4:
        return [str(n) for n in summarize_address_range(IPv4Address(low), IPv4Address(min(high, LAST[4])))]
    return [str(n) for n in summarize_address_range(IPv6Address(low), IPv6Address(min(high, LAST[6])))]
