"""The last flows, as Hubble would show them. The hot path keeps what is needed; a flow is made when somebody reads it."""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from deadhop.agent.core import Core
from deadhop.agent.endpoints import Endpoint
from deadhop.agent.packets import Packet
from deadhop.agent.sockets import Address
from deadhop.fqdn.answers import MessageDetails
from deadhop.fqdn.clock import protojson_time
from deadhop.fqdn.flow_words import EVENT_ACCESS_LOG, EVENT_DROP, EVENT_POLICY_VERDICT
from deadhop.fqdn.flows import (
    EventType,
    Flow,
    FlowEndpoint,
    FlowLine,
    IPPair,
    Layer4,
    Layer7,
    Ports,
    Workload,
    dns_summary,
    flow_dns,
)
from deadhop.fqdn.node import WORLD_IDENTITY

KEPT = 4095
"""As many as Hubble keeps (``hubble-event-buffer-capacity``)."""
FEW = 15
KEPT_ADDRESSES = 65_000
"""Addresses of answers with more than a few of them, together: giant answers must not fill the memory."""
POLICY_DENIED, DENY_LIST = 133, 181
L3_ONLY, L3_L4 = 1, 2


DNSEntry = tuple[float, Endpoint, Address, Address, str, MessageDetails, str]
"""A query or an answer: time, endpoint, client, server, protocol, what it says, verdict. Its flow is made when somebody
reads it."""
Entry = DNSEntry | list[Flow]


class FlowLog:
    """A ring of flows, and those who follow it."""

    def __init__(self, core: Core, node: str) -> None:
        self.core = core
        self.node = node
        self.ring: deque[Entry] = deque(maxlen=KEPT)
        self._addresses = 0
        self.followers: list[Callable[[Entry], None]] = []
        self.notes: deque[str] = deque(maxlen=100)

    def note(self, text: str) -> None:
        """Something that an operator should see in the log."""
        self.notes.append(text)

    def _add(self, entry: Entry) -> None:
        if self._addresses:
            self._make_room()
        self.ring.append(entry)
        for follower in tuple(self.followers):  # one that does not read leaves while it is told
            follower(entry)

    def _make_room(self) -> None:
        """Let the oldest go, with an account of addresses: there are answers with many."""
        ring = self.ring
        while ring and (len(ring) >= KEPT or self._addresses > KEPT_ADDRESSES):
            self._addresses -= _many(ring.popleft())

    def query(
        self,
        endpoint: Endpoint,
        client: Address,
        server: Address,
        protocol: str,
        details: MessageDetails,
        verdict: str,
    ) -> None:
        entry = (time.time(), endpoint, client, server, protocol, details, verdict)
        if self._addresses or self.followers:
            self._add(entry)
        else:
            self.ring.append(entry)

    def answer(
        self, endpoint: Endpoint, client: Address, server: Address, protocol: str, details: MessageDetails
    ) -> None:
        entry = (time.time(), endpoint, client, server, protocol, details, "FORWARDED")
        if len(details.ips) > FEW:
            self._addresses += _many(entry)
        if self._addresses or self.followers:
            self._add(entry)
        else:
            self.ring.append(entry)

    def packet(self, packet: Packet) -> None:
        """A packet that the kernel logged: the first of a connection to a learned address, or a dropped one.

        It is made a flow at once, with the names and identities of now.
        """
        endpoint = self.core.by_ip.get(packet.source)
        if endpoint is not None:
            known = self.core.node.endpoints.get(endpoint.id)
            names = known.history.lookup_ip(packet.destination) if known else []
            self._add(list(_of_packet(self, time.time(), endpoint, packet, names)))

    def lines(self, entry: Entry) -> Iterator[FlowLine]:
        """The flows of one entry: a dropped packet has a policy verdict and a drop, as Cilium's has."""
        flows = entry if isinstance(entry, list) else [self._of_dns(entry)]
        for flow in flows:
            yield FlowLine(flow=flow, node_name=self.node, time=flow.time)

    def _of_dns(self, entry: DNSEntry) -> Flow:
        at, endpoint, client, server, protocol, details, verdict = entry
        pod, other = self.end(endpoint, client[0]), self.end(self.core.by_ip.get(server[0]), server[0])
        reply = details.response
        source, destination = (server, client) if reply else (client, server)
        ports = Ports(source[1], destination[1])
        return Flow(
            time=protojson_time(at),
            uuid=str(uuid.uuid4()),
            verdict=verdict,
            ip=_pair(source[0], destination[0]),
            l4=Layer4(tcp=ports) if protocol == "TCP" else Layer4(udp=ports),
            source=other if reply else pod,
            destination=pod if reply else other,
            type="L7",
            node_name=self.node,
            l7=Layer7(type="RESPONSE" if reply else "REQUEST", dns=flow_dns(details)),
            event_type=EventType(type=EVENT_ACCESS_LOG),
            traffic_direction="EGRESS",
            is_reply=reply,
            summary=dns_summary(details),
        )

    def end(self, endpoint: Endpoint | None, ip: str) -> FlowEndpoint:
        """One end of a flow."""
        if endpoint is None:
            number = self.core.node.names.identity_of(ip)
            labels = self.core.node.names.labels_of(ip)
            return FlowEndpoint(
                identity=number or WORLD_IDENTITY,
                labels=tuple(sorted(labels)) if labels else ("reserved:world",),
            )
        if endpoint.spec.entity:
            return FlowEndpoint(identity=self.core.identity_of(endpoint), labels=endpoint.security_labels)
        return FlowEndpoint(
            id=endpoint.id,
            identity=self.core.identity_of(endpoint),
            namespace=endpoint.spec.namespace,
            labels=endpoint.security_labels,
            pod_name=endpoint.spec.pod,
            workloads=(Workload(name=endpoint.spec.pod, kind="Pod"),),
        )


def _many(entry: Entry) -> int:
    """The addresses of an answer that has many, else 0."""
    count = 0 if isinstance(entry, list) else len(entry[5].ips)
    return count if count > FEW else 0


def _pair(source: str, destination: str) -> IPPair:
    return IPPair(source, destination, "IPv6" if ":" in source else "IPv4")


def _of_packet(
    log: FlowLog, at: float, endpoint: Endpoint, packet: Packet, names: Sequence[str]
) -> Iterator[Flow]:
    ports = Ports(packet.source_port, packet.destination_port)
    layer = {
        "TCP": Layer4(tcp=ports),
        "UDP": Layer4(udp=ports),
        "SCTP": Layer4(sctp=ports),
    }.get(packet.protocol)
    allowed = packet.kind.startswith("allowed")
    reason = DENY_LIST if packet.kind == "deny-rule" else POLICY_DENIED
    match = 0
    if allowed:
        match = L3_L4 if packet.kind.endswith("L4") else L3_ONLY
    events = [EventType(type=EVENT_POLICY_VERDICT)]
    if not allowed:
        events.append(EventType(type=EVENT_DROP, sub_type=reason))
    for event in events:
        verdict_only = event.type == EVENT_POLICY_VERDICT
        yield Flow(
            time=protojson_time(at),
            uuid=str(uuid.uuid4()),
            verdict="FORWARDED" if allowed else "DROPPED",
            drop_reason=0 if allowed else reason,
            ip=_pair(packet.source, packet.destination),
            l4=layer,
            source=log.end(endpoint, packet.source),
            destination=log.end(log.core.by_ip.get(packet.destination), packet.destination),
            type="L3_L4",
            node_name=log.node,
            destination_names=tuple(name.removesuffix(".") for name in names),
            event_type=event,
            traffic_direction="EGRESS",
            policy_match_type=match if verdict_only else 0,
            drop_reason_desc="" if allowed else "POLICY_DENY" if reason == DENY_LIST else "POLICY_DENIED",
            is_reply=False,
            summary=packet.summary,
        )
