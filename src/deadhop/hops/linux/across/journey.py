"""A packet from its sender to its end over all namespaces that the evidence shows: :func:`walk_across`.

Within a namespace the packet is walked as ever; what is forwarded is carried to the device that receives it and walked
on there. An ICMP error is carried back the same way: the sender is told only if the error arrives.
"""

from __future__ import annotations

from typing import Any

import msgspec

from deadhop.hops.cni import datapaths, redirect
from deadhop.hops.linux.across import frames, tunnels
from deadhop.hops.linux.across.wiring import Port, Wiring
from deadhop.hops.linux.choices import LIMIT, Choices, enumerate_choices
from deadhop.hops.linux.context import Walk
from deadhop.hops.linux.errors import Ended, Unknown
from deadhop.hops.linux.packet import Packet, from_flow
from deadhop.hops.linux.walk import run
from deadhop.model.packet import PacketAnswer, PacketFlow
from deadhop.model.trace import Disposition, Step

#: Namespaces that one packet may pass, tunnels inside tunnels counted: more is a loop that TTL would end as well.
FAR = 64


class Stage(msgspec.Struct, frozen=True):
    """What one namespace did: the device the packet came in by (None: a local sender), and the steps."""

    netns: str
    in_dev: str | None
    steps: tuple[Step, ...]


class Journey(msgspec.Struct, frozen=True, kw_only=True):
    """How the packet ends and where. ``answer`` is that of the namespace it ended in; its ``icmp`` is what the sender
    is told, None where the error dies on its way back. ``looped`` marks a packet that came round again."""

    netns: str
    answer: PacketAnswer
    stages: tuple[Stage, ...] = ()
    looped: bool = False

    def line(self, flow_id: str) -> dict[str, Any]:
        """The answer line of ``deadhop path``: that of a packet with ``netns``, where it ended."""
        line = self.answer.line(flow_id)
        line["netns"] = self.netns
        if self.looped:
            line["disposition"] = str(Disposition.LOOPED)
        line["steps"] = [
            {**msgspec.to_builtins(step), "netns": stage.netns}
            for stage in self.stages
            for step in stage.steps
        ]
        return line


def walk_across(wiring: Wiring, netns: str, flow: PacketFlow) -> Journey:
    """The journey of ``flow``'s packet from ``netns``: received there on ``in_dev``, or sent by a local socket.

    Raises :class:`KeyError` where the evidence has no namespace of that name.
    """
    wiring.worlds[netns]  # before anything is walked
    questions: list[str] = []
    journeys = list(enumerate_choices(lambda choices: _Trip(wiring, choices, questions).of(netns, flow)))
    first = journeys[0]
    ends = {
        (j.netns, j.answer.disposition, j.answer.reason, j.answer.icmp, j.answer.errno, j.looped)
        for j in journeys
    }
    if len(ends) == 1 and len(journeys) < LIMIT:
        return first
    said = sorted(
        {f"{j.answer.disposition} {j.answer.reason} in {j.netns}".replace("  ", " ") for j in journeys}
    )
    by = ", ".join(dict.fromkeys(questions)) or "the multipath hash"
    answer = PacketAnswer(
        disposition=Disposition.UNKNOWN,
        unknown=f"decided by {by}: {' or '.join(said)}",
        alternatives=tuple(j.answer for j in journeys),
        assumed=first.answer.assumed,
    )
    return Journey(netns=first.netns, answer=answer, stages=first.stages)


class _Trip:
    """One packet with one set of choices, and what it makes on the way: outer packets and ICMP errors."""

    def __init__(self, wiring: Wiring, choices: Choices, questions: list[str]) -> None:
        self.wiring = wiring
        self.choices = choices
        self.questions = questions
        self.stages: list[Stage] = []
        self.assumed: list[str] = []
        self.left = FAR
        self.lost = ""
        #: Later fragments, each at the namespace that receives it: a datagram arrives only with all of them.
        self.later: list[tuple[str, Packet]] = []

    def of(self, netns: str, flow: PacketFlow) -> Journey:
        try:
            packet = from_flow(flow)
        except Unknown as unknown:
            return Journey(netns=netns, answer=_unknown(str(unknown)))
        return self.go(netns, packet, flow)

    def go(self, netns: str, packet: Packet, flow: PacketFlow | None = None) -> Journey:
        """From a namespace's door, or a local sender of it, to the end."""
        origin, seen = netns, set()
        while True:
            came = packet.iif
            key = (netns, came, packet.src, packet.dst, packet.sport, packet.dport, packet.ttl > 1)
            walk = self._walk(netns, packet, flow)
            flow = None
            answer = self._within(walk, packet)
            station: Port | None = None
            if answer.disposition is Disposition.FORWARDED and self.left > 0:
                self.left -= 1
                answer, station = self._carry(walk, netns, packet, answer)
            self._note(netns, came, walk)
            if station is None:
                end = self._end(origin, self.lost or netns, walk, answer)
                return self._rest(end) if answer.disposition is Disposition.DELIVERED else end
            if key in seen or self.left <= 0:
                return Journey(netns=netns, answer=answer, stages=tuple(self.stages), looped=True)
            seen.add(key)
            netns = station.netns

    def _rest(self, end: Journey) -> Journey:
        """The end of the datagram whose first fragment arrived: that of the first fragment that does not."""
        for netns, packet in self.later:
            rest = _Trip(self.wiring, self.choices, self.questions)
            rest.left = self.left
            far = rest.go(netns, packet)
            if far.answer.disposition is not Disposition.DELIVERED:
                return msgspec.structs.replace(far, stages=(*end.stages, *far.stages))
        return end

    def _walk(self, netns: str, packet: Packet, flow: PacketFlow | None) -> Walk:
        walk = Walk(self.wiring.worlds[netns], self.choices, run)
        walk.open_questions = self.questions
        for row in datapaths(walk.world.ns):
            if row.assumes:
                walk.assume(row.assumes)
        walk.start(packet, flow or PacketFlow(src=packet.src_text, dst=packet.dst_text, in_dev=packet.iif))
        return walk

    @staticmethod
    def _within(walk: Walk, packet: Packet) -> PacketAnswer:
        try:
            run(walk, packet)
        except Ended as ended:
            return ended.answer
        except Unknown as unknown:
            return _unknown(str(unknown))

    def _carry(
        self, walk: Walk, netns: str, packet: Packet, answer: PacketAnswer
    ) -> tuple[PacketAnswer, Port | None]:
        """The namespace and device where the packet comes in next; None with how it ended where it does not."""
        (dev, hop), port = answer.out[0], Port(netns, answer.out[0][0])
        device = walk.world.devices[dev]
        try:
            if device.kind in tunnels.OPAQUE:
                raise Unknown(f"{tunnels.OPAQUE[device.kind]} {dev}")
            later = (
                packet.fragment(device.mtu)
                if device.mtu and packet.wire_length > device.mtu and not packet.df
                else None
            )
            if tunnels.is_tunnel(device):
                outer = tunnels.wrap(self.wiring, walk, port, hop, packet)
                self._note(netns, packet.iif, walk)
                inside = _Trip(self.wiring, self.choices, self.questions)
                inside.left = self.left
                far = inside.go(netns, outer)
                self.stages += inside.stages
                self.left = inside.left
                if far.answer.disposition is not Disposition.DELIVERED:
                    return msgspec.structs.replace(far.answer, icmp=None), None
                name = tunnels.unwrap(self.wiring, far.netns, outer, device)
                if name is None:
                    return msgspec.structs.replace(far.answer, disposition=Disposition.DROPPED, reason="NO_SOCKET", function="__udp4_lib_rcv"), None  # fmt: skip
                return answer, self._enter(Port(far.netns, name), packet)
            port, hop = self._redirected(walk, port, hop, packet)
            station = frames.receiver(self.wiring, walk, port, hop, packet)
            if later is not None:
                self._enter(station.port, later)
                self.later.append((station.port.netns, later))
            return answer, self._enter(station.port, packet)
        except frames.Outside:
            return answer, None
        except frames.Lost as lost:
            self.lost = lost.netns
            return lost.answer, None
        except Ended as ended:
            return ended.answer, None
        except Unknown as unknown:
            return _unknown(str(unknown)), None

    def _redirected(self, walk: Walk, port: Port, hop: str, packet: Packet) -> tuple[Port, str]:
        """The device that a plugin's program sends the packet out of instead, and the next hop there."""

        def holds(dev: str) -> bool:
            peer = self.wiring.peers.get(Port(port.netns, dev))
            world = self.wiring.worlds[peer.netns] if peer is not None and peer.netns != port.netns else None
            return world is not None and packet.dst in (world.local4 if packet.version == 4 else world.local6)

        taken = redirect(port.dev, list(walk.world.devices), holds)
        if taken is None:
            return port, hop
        row, dev = taken
        walk.step(
            f"{row.cni}'s program on {port.dev}",
            f"hands the packet to {dev}, which no route shows",
            row.function,
        )
        return Port(port.netns, dev), packet.dst_text

    @staticmethod
    def _enter(port: Port, packet: Packet) -> Port:
        """What skb_scrub_packet leaves of a packet that changes its namespace: no mark, no connection, no route."""
        packet.iif, packet.oif, packet.mark = port.dev, None, 0
        packet.route, packet.conn, packet.ct, packet.ct_mark, packet.reply = None, None, None, 0, False
        packet.error = packet.demuxed = False
        return port

    def _note(self, netns: str, came: str | None, walk: Walk) -> None:
        if walk.steps:
            self.stages.append(Stage(netns, came, tuple(walk.steps)))
            walk.steps = []
        self.assumed += [a for a in walk.assumptions() if a not in self.assumed]

    def _end(self, origin: str, netns: str, walk: Walk, answer: PacketAnswer) -> Journey:
        if answer.icmp is not None and walk.errors:
            error, way = walk.errors[-1]
            told = self._told(origin, netns, walk, error, way)
            if told is False:
                answer = msgspec.structs.replace(answer, disposition=Disposition.DROPPED, icmp=None)
        answer = msgspec.structs.replace(
            answer, assumed=tuple(dict.fromkeys((*answer.assumed, *self.assumed)))
        )
        return Journey(netns=netns, answer=answer, stages=tuple(self.stages))

    def _told(self, origin: str, netns: str, walk: Walk, error: Packet, way: PacketAnswer) -> bool | None:
        """Whether the ICMP error arrives where the packet came from; None where the evidence does not reach so far."""
        if way.disposition is Disposition.DELIVERED:
            return True
        back = _Trip(self.wiring, self.choices, self.questions)
        back.left = self.left
        carried, station = back._carry(walk, netns, error, way)
        self._note(netns, None, walk)
        if station is None:
            return None if carried.disposition is Disposition.FORWARDED else False
        far = back.go(station.netns, error)
        self.stages += back.stages
        if far.answer.disposition in (Disposition.FORWARDED, Disposition.UNKNOWN):
            return None
        return far.answer.disposition is Disposition.DELIVERED and far.netns == origin


def _unknown(text: str) -> PacketAnswer:
    return PacketAnswer(disposition=Disposition.UNKNOWN, unknown=text)
