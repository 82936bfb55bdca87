"""The packet asked about, and what the model answers: the ``packet`` lines of ``deadhop path``."""

from __future__ import annotations

from typing import Any

import msgspec

from deadhop.model.trace import Disposition, Step


class PacketFlow(msgspec.Struct, frozen=True, kw_only=True):
    """One packet at the door of a namespace: received on ``in_dev``, or sent by a local socket where it is None.

    ``length`` is that of the IP packet in bytes, headers included. A local sender with ``df`` uses
    ``IP_PMTUDISC_DO``, without it ``IP_PMTUDISC_DONT``. ``tcp_flags`` are names (``["syn"]``, the default) or the
    flag byte. ``icmp_type`` defaults to an echo request. ``ct_state`` is what connection tracking knows of the
    packet's connection (``new``, ``established``, ``related``, ``invalid``, ``untracked``); by default the
    namespace's conntrack listing decides, else the packet opens a connection. ``gso`` is the length in bytes of the
    IP packets that a GSO packet of ``length`` leaves as, 0 where it is none. ``demuxed`` tells that a connected socket
    of the namespace waits for the packet: early demux then takes its route from the socket (ip_early_demux).

    ``pmtudisc`` is a local sender's IP_MTU_DISCOVER mode (``want``, ``dont``, ``do``, ``probe``, ``interface``, ``omit``);
    it then decides about DF instead of ``df``. ``pmtu`` is the path MTU in bytes that the sender has learned for the
    destination (``ip route show cache``), 0 for none.
    """

    src: str
    dst: str
    in_dev: str | None = None
    proto: str | int = "udp"
    sport: int = 0
    dport: int = 0
    length: int = 84
    df: bool = False
    mark: int = 0
    tos: int = 0
    ttl: int = 64
    tcp_flags: int | str | tuple[str, ...] | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None
    ct_state: str | None = None
    gso: int = 0
    demuxed: bool = False
    pmtudisc: str | None = None
    pmtu: int = 0
    id: str = ""
    node: str | None = None
    netns: str | None = None


class IcmpError(msgspec.Struct, frozen=True):
    """The ICMP error that told the sender. ``mtu`` in bytes with fragmentation needed and packet too big, else None."""

    type: int
    code: int
    mtu: int | None = None


class PacketAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """How the packet ends in this namespace.

    ``reason`` is the kernel's ``skb_drop_reason``; empty where no packet came to be (a local send that failed: then
    ``errno`` names the error) or where it arrives. ``out`` holds the possible ``(device, next hop)`` pairs, sorted;
    more than one where a multipath hash decides. ``unknown`` says what the evidence lacks. ``alternatives`` are the
    possible ends where they differ. ``assumed`` lists what was taken for granted.
    """

    disposition: Disposition
    reason: str = ""
    out: tuple[tuple[str, str], ...] = ()
    icmp: IcmpError | None = None
    tcp_reset: bool = False
    errno: str = ""
    unknown: str = ""
    steps: tuple[Step, ...] = ()
    alternatives: tuple[PacketAnswer, ...] = ()
    assumed: tuple[str, ...] = ()
    function: str = ""
    counters: tuple[str, ...] = ()

    def line(self, flow_id: str) -> dict[str, Any]:
        """The answer line of ``deadhop path -o jsonl``.

        ``out_dev`` and ``next_hop`` are one name each, or two lists of equal length where several pairs are possible.
        """
        devices: Any = None
        hops: Any = None
        if len(self.out) == 1:
            devices, hops = self.out[0]
        elif self.out:
            devices, hops = [d for d, _ in self.out], [h for _, h in self.out]
        return {
            "id": flow_id,
            "disposition": str(self.disposition),
            "hop": "linux",
            "reason": self.unknown if self.disposition is Disposition.UNKNOWN else self.reason,
            "out_dev": devices,
            "next_hop": hops,
            "icmp": msgspec.structs.asdict(self.icmp) if self.icmp else None,
            "answer": None,
            "steps": [msgspec.to_builtins(step) for step in self.steps],
        }
