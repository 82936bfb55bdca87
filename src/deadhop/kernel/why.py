"""Joins a drop with the model: the dropped packet is walked through its namespace, and the object that decided is
named. Where the model says something else than the kernel did, that is a contradiction and is said.

The packet is taken as it was when it died, so what earlier hooks changed (an address, the TTL, a mark) is not undone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from deadhop.hops.linux.walk import walk_packet
from deadhop.kernel.describe import header, transport
from deadhop.kernel.event import Event
from deadhop.model.drop_reasons import REASONS
from deadhop.model.netns import NetNamespace
from deadhop.model.packet import PacketAnswer, PacketFlow
from deadhop.model.trace import Disposition

#: Gives the state of the namespace with that inode, None where there is none.
States = Callable[[int], NetNamespace | None]

#: What may still kill a packet that the model delivers (handing it to the transport) or forwards (to the device).
_AFTER_DELIVERY = frozenset({"tcp", "socket", "udp", "ndisc"})
_AFTER_FORWARDING = frozenset({"link", "neighbour", "qdisc", "tunnel", "netfilter"})


class Why(msgspec.Struct, frozen=True):
    """``text`` names what decided. ``contradiction`` tells that the model and the kernel disagree."""

    text: str
    contradiction: bool = False
    sources: tuple[str, ...] = ()


def explain(event: Event, reason: str, state: NetNamespace | None) -> Why:
    """Why ``event`` was dropped, by the state of its namespace."""
    if state is None:
        return Why("no evidence of this namespace")
    if not event.version:
        return Why("the model walks IP packets")
    answer = walk_packet(state, flow_of(event, state))
    return judge(answer, reason)


def flow_of(event: Event, state: NetNamespace) -> PacketFlow:
    """The packet at the door of its namespace: received on the device of ``skb_iif``, else sent locally. What loops
    back through ``lo`` was sent locally and brings its route along."""
    facts: dict[str, Any] = header(event)
    ends = transport(event)
    icmp = ends.get("icmp", {})
    return PacketFlow(
        src=str(event.src),
        dst=str(event.dst),
        in_dev=_received_on(event, state),
        proto=event.proto,
        sport=ends.get("sport", 0),
        dport=ends.get("dport", 0),
        length=facts["length"],
        df=facts["df"] if event.version == 4 else False,
        ttl=facts["ttl"],
        tos=facts["tos"],
        mark=event.mark,
        tcp_flags=tuple(ends["tcp_flags"]) if ends.get("tcp_flags") else None,
        icmp_type=icmp.get("type"),
        icmp_code=icmp.get("code"),
    )


def _received_on(event: Event, state: NetNamespace) -> str | None:
    if not event.iif:
        return None
    name = event.dev if event.iif == event.ifindex else ""
    name = name or next((link.ifname for link in state.links or () if link.ifindex == event.iif), "")
    return None if name in ("", "lo") else name


def judge(answer: PacketAnswer, reason: str) -> Why:
    """The model's answer beside the kernel's ``reason`` (empty where this kernel gives none)."""
    broken = next((step for step in reversed(answer.steps) if step.ok is False), None)
    sources = tuple(str(source) for source in broken.sources) if broken else ()
    if answer.disposition is Disposition.UNKNOWN:
        return Why(f"the model cannot say: {answer.unknown}")
    if answer.disposition.arrives:
        return _arrives(answer, reason)
    said = f"{broken.decided_by}: {broken.text}" if broken else answer.reason or answer.errno
    if answer.icmp:
        mtu = f" mtu {answer.icmp.mtu}" if answer.icmp.mtu else ""
        said += f" (the sender is told: ICMP {answer.icmp.type}/{answer.icmp.code}{mtu})"
    if reason and answer.reason and answer.reason != reason:
        return Why(f"the model says {answer.reason}: {said}; the kernel says {reason}", True, sources)
    return Why(said, False, sources)


def _arrives(answer: PacketAnswer, reason: str) -> Why:
    known = REASONS.get(reason)
    layer = known.layer if known else ""
    delivered = answer.disposition is Disposition.DELIVERED
    way = (
        "delivered to this namespace"
        if delivered
        else "forwarded out of " + ", ".join(d for d, _ in answer.out)
    )
    if layer in (_AFTER_DELIVERY if delivered else _AFTER_FORWARDING) and known:
        return Why(f"{way}, then: {known.means}")
    return Why(f"the model says {way}; the kernel dropped it ({reason or 'no reason given'})", True)
