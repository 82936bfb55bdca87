"""What policy denied and what it let pass, of flows and monitor events alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from deadhop.evidence.fields import host_port, integer
from deadhop.model.observed.message import Message
from deadhop.model.observed.policy import CiliumEvent, Flow
from deadhop.model.record import Record
from deadhop.snapshot.entities import LOCAL, NODE, RESERVED, number


class End(NamedTuple):
    """One end: an address, ``namespace/pod`` or a DNS name, an identity by name where it is a reserved one."""

    ip: str
    name: str
    identity: str
    port: int | None

    @property
    def outside(self) -> bool:
        """World, or an address of a CIDR that a rule or a name made local."""
        return self.identity.startswith("world") or self.cidr

    @property
    def cidr(self) -> bool:
        return self.identity.startswith("cidr") or LOCAL <= number(self.identity) < 2 * LOCAL

    @property
    def node(self) -> bool:
        return self.identity in NODE

    @property
    def pod(self) -> bool:
        return "/" in self.name or 100 <= number(self.identity) < LOCAL


class Judged(NamedTuple):
    """One connection and what policy said."""

    src: End
    dst: End
    denied: bool
    proto: str
    direction: str
    record: Record
    audit: bool = False


def _end(ip: str, name: str, identity: str, port: int | None) -> End:
    return End(ip, name, RESERVED.get(identity, identity), port)


def judged_flows(
    flows: Iterable[Flow], events: Iterable[CiliumEvent] = (), messages: Iterable[Message] = ()
) -> list[Judged]:
    """Every connection that policy judged; DNS answers and replies are left out."""
    found = []
    for flow in flows:
        if flow.reply or flow.verdict in ("TRACED", "TRANSLATED"):
            continue
        if (
            flow.denied
            and flow.drop_reason
            and "olicy" not in flow.drop_reason
            and "POLICY" not in flow.drop_reason
            and flow.verdict != "DENIED"
            and not flow.drop_reason.isdigit()
        ):
            continue
        found.append(
            Judged(_end(flow.src.ip, flow.src.name, flow.src.identity, flow.src.port), _end(flow.dst.ip, flow.dst.name, flow.dst.identity, flow.dst.port), flow.denied,
                   flow.proto.lower(), flow.direction, flow, flow.verdict.startswith("AUDIT"))
        )  # fmt: skip
    for event in events:
        if event.verdict == "DROPPED" and "olicy" not in event.reason:
            continue
        audit = event.verdict.startswith("AUDIT")
        found.append(
            Judged(_end(event.src, "", event.src_identity, event.sport), _end(event.dst, "", event.dst_identity, event.dport), event.verdict in ("DROPPED", "DENIED"), event.proto, "", event, audit)
        )  # fmt: skip
    for message in messages:
        if message.kind == "netpol-verdict" and message.field("dst"):
            verdict = message.field("verdict").lower()
            port = integer(message.field("dport"))
            found.append(
                Judged(_end(host_port(message.field("src"))[0], "", "", integer(message.field("sport"))), _end(host_port(message.field("dst"))[0], "", "", port),
                       verdict in ("deny", "drop", "reject", ""), message.field("proto").lower(), "", message)
            )  # fmt: skip
    return found
