"""What the kernel says while a step runs: counters of each namespace, and the reasons for which it frees packets."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable

from deadhop.collect import procfs
from deadhop.lab.topology.made import Lab
from deadhop.lab.verify.drops import DropProbe, NoProbe

#: Counters that move with every packet and say nothing about a loss.
_TRAFFIC = (
    "InReceives", "InDelivers", "OutRequests", "OutTransmits", "InOctets", "OutOctets", "InNoECTPkts", "InSegs", "OutSegs", "InDatagrams", "OutDatagrams",
    "ForwDatagrams", "ActiveOpens", "PassiveOpens", "CurrEstab", "InMcast", "OutMcast", "InBcast", "OutBcast", "TCPHPHits", "TCPPureAcks", "TCPHPAcks", "TCPDelivered",
    "TCPOrigDataSent", "DelayedACKs", "TW", "TCPAutoCorking", "TCPHystart", "TCPKeepAlive", "TCPRcvCoalesce", "TCPBacklogCoalesce", "TCPWantZeroWindowAdv",
    "Icmp6OutMLDv2Reports", "Icmp6OutType143", "Icmp6OutMsgs", "Icmp6OutRouterSolicits", "Icmp6OutType133", "PAWSEstab", "TCPAbortOnData", "MemErrors", "InMcastPkts", "OutMcastPkts", "InMcastOctets", "OutMcastOctets",
)  # fmt: skip


def counters(lab: Lab, name: str) -> dict[str, int]:
    """The namespace's counters by the names that ``nstat`` gives them."""
    with lab.inside(name):
        rows = procfs.counters().splitlines()[1:]
    return {key: int(value) for key, value, _rate in map(str.split, rows)}


def moved(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """What changed, without what every packet moves."""
    return {
        name: after[name] - before.get(name, 0)
        for name in after
        if after[name] != before.get(name, 0) and not name.endswith(_TRAFFIC)
    }


class Drops:
    """The kernel's drop reasons, by namespace, where BPF may be loaded; ``why_not`` says where it may not."""

    def __init__(self, why_not: str = "") -> None:
        self.why_not = why_not
        self._probe: DropProbe | None = None
        if why_not:
            return
        try:
            self._probe = DropProbe()
        except NoProbe as error:
            self.why_not = str(error)

    def take(self, names: dict[int, str]) -> dict[str, Counter[tuple[str, str]]]:
        """The drops since the last call: namespace to how often (reason, packet) came. ``names`` is by inode."""
        found: dict[str, Counter[tuple[str, str]]] = {}
        for drop in self._probe.drain() if self._probe else ():
            name = names.get(drop.netns)
            shown = packet(drop.packet)
            if name is not None and shown and drop.reason not in _NORMAL:
                found.setdefault(name, Counter())[(drop.reason, shown)] += 1
        return found

    def close(self) -> None:
        if self._probe:
            self._probe.close()


#: Packets that end where they should.
_NORMAL = ("NOT_SPECIFIED_CONSUMED", "SKB_CONSUMED", "TCP_OLD_ACK", "UNHANDLED_PROTO", "QUEUE_PURGE")
_PROTOS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}


def packet(data: bytes) -> str:
    """One line of a packet that begins with its network header; empty for what is neither IPv4 nor IPv6."""
    if len(data) < 40:
        return ""
    if data[0] >> 4 == 4:
        at, proto, length = (data[0] & 15) * 4, data[9], int.from_bytes(data[2:4])
        ends: Iterable[bytes] = (data[12:16], data[16:20])
        flags = " DF" if data[6] & 0x40 else ""
    elif data[0] >> 4 == 6:
        at, proto, length, flags = 40, data[6], int.from_bytes(data[4:6]) + 40, ""
        ends = (data[8:24], data[24:40])
        if data[24] == 0xFF:  # neighbour discovery and multicast reports that nobody asked for
            return ""
    else:
        return ""
    src, dst = (str(ipaddress.ip_address(end)) for end in ends)
    if proto in (6, 17) and len(data) >= at + 4:
        src += f":{int.from_bytes(data[at : at + 2])}"
        dst += f":{int.from_bytes(data[at + 2 : at + 4])}"
    return f"{_PROTOS.get(proto, proto)} {src} > {dst}, {length} bytes{flags}"


def show(found: dict[str, Counter[tuple[str, str]]]) -> list[str]:
    """Lines of :meth:`Drops.take`, like packets of changing ports together."""
    lines = []
    for name, drops in found.items():
        by_reason: dict[str, tuple[str, int]] = {}
        for (reason, shown), times in drops.items():
            first, count = by_reason.get(reason, (shown, 0))
            by_reason[reason] = (first, count + times)
        lines += [
            f"{name}: drops {shown}: {reason}" + (f" ({times} times)" if times > 1 else "")
            for reason, (shown, times) in by_reason.items()
        ]
    return lines
