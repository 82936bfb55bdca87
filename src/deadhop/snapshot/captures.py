"""What captured packets show together: handshakes that never finish, captures that could show one direction only."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

from deadhop.model.observed.packets import CapturedPacket
from deadhop.model.observed.shell import CommandRun

_ONE_SIDE = re.compile(
    r"\b(?:src|dst)\s+(?:host|net|port|portrange)?\s*[\w.:/]+|tcp\[(?:13|tcpflags)\]\s*(?:&\s*[\w-]+\s*)?[!=]=?|icmp\[(?:0|icmptype)\]\s*="
)


def pair(packet: CapturedPacket) -> frozenset[tuple[str, int | None]]:
    """The two ends of a packet's connection, whatever its direction."""
    return frozenset({(packet.src, packet.sport), (packet.dst, packet.dport)})


def never_established(packets: Iterable[CapturedPacket]) -> list[CapturedPacket]:
    """SYNs (with or without ACK) that were sent again on one device, of connections that show nothing but SYNs."""
    tcp = [p for p in packets if p.tcp_flags]
    beyond = {pair(p) for p in tcp if "S" not in p.tcp_flags}
    sent = Counter((p.dev, p.src, p.sport, p.dst, p.dport, p.tcp_flags) for p in tcp)
    return [
        p
        for p in tcp
        if pair(p) not in beyond and sent[p.dev, p.src, p.sport, p.dst, p.dport, p.tcp_flags] > 1
    ]


def sent_again(packets: Iterable[CapturedPacket], room: int) -> list[CapturedPacket]:
    """Segments with more than ``room`` bytes that were sent three times or more, each time after a longer wait: they are
    never acknowledged (the retransmission timer doubles, RFC 6298 §5.5)."""
    runs: dict[tuple[str, str, int | None, str, int | None, int], list[CapturedPacket]] = {}
    for packet in packets:
        if packet.proto == "tcp" and (packet.payload or 0) > room and packet.time is not None:
            ends = (packet.where, packet.src, packet.sport, packet.dst, packet.dport, packet.payload or 0)
            runs.setdefault(ends, []).append(packet)
    found = []
    for run in runs.values():
        times = [p.time or 0.0 for p in run][-4:]
        waits = [b - a for a, b in pairwise(times)]
        if len(waits) > 1 and all(0 < a < b for a, b in pairwise(waits)):
            found += run
    return found


def cut_when_idle(packets: Iterable[CapturedPacket]) -> list[list[CapturedPacket]]:
    """Connections that had answered, lay idle for a second or more, and were closed by the side that answers as the next
    request came: the last answer before, the FIN, the request, the reset (tcp_rcv_state_process: data after close)."""
    runs: dict[frozenset[tuple[str, int | None]], list[CapturedPacket]] = {}
    for packet in packets:
        if packet.tcp_flags and packet.time is not None and packet.sport and packet.dport:
            runs.setdefault(pair(packet), []).append(packet)
    found = []
    for run in runs.values():
        run.sort(key=lambda p: p.time or 0.0)
        reset = next((p for p in run if "R" in p.tcp_flags), None)
        close = next((p for p in run if "F" in p.tcp_flags), None)
        if reset is None or close is None or reset.src != close.src or (reset.time or 0) < (close.time or 0):
            continue
        # Less than this is no request: TLS says goodbye in as many bytes (close_notify).
        asked = [p for p in run if (p.payload or 0) > 64 and p.src != close.src]
        answers = [p for p in run if p.payload and p.src == close.src and (p.time or 0) < (close.time or 0)]
        if not answers or not asked:
            continue
        last, request = answers[-1], asked[-1]
        idle = min(close.time or 0, request.time or 0) - (last.time or 0)
        if idle >= 1 and abs((request.time or 0) - (close.time or 0)) < 1:
            found.append([last, close, request, reset])
    return found


def refusals(packets: Iterable[CapturedPacket]) -> list[CapturedPacket]:
    """Resets that answer a SYN from its own destination: nothing listens there (tcp_v4_send_reset)."""
    asked: set[tuple[str, int | None, str, int | None]] = set()
    found = []
    for packet in packets:
        ends = (packet.src, packet.sport, packet.dst, packet.dport)
        if packet.tcp_flags == "S":
            asked.add(ends)
        elif "R" in packet.tcp_flags and (packet.dst, packet.dport, packet.src, packet.sport) in asked:
            found.append(packet)
        elif packet.tcp_flags == "S.":
            asked.discard((packet.dst, packet.dport, packet.src, packet.sport))
    return found


def one_sided(packet: CapturedPacket, runs: Iterable[CommandRun]) -> bool:
    """Whether the filter of the capture that shows ``packet`` keeps one direction only: then a missing answer proves nothing."""
    captures = [
        r
        for r in runs
        if r.program in ("tcpdump", "tshark", "dumpcap")
        and r.source.file == packet.source.file
        and r.source.line < packet.source.line
    ]
    last = max(captures, key=lambda r: r.source.line, default=None)
    return last is not None and _ONE_SIDE.search(last.line) is not None


def unheard_acks(packets: Iterable[CapturedPacket]) -> list[CapturedPacket]:
    """SYN-ACKs sent again although the other end had acknowledged: the client is connected, the server is not, since the
    ACK was lost on its way (RFC 9293 §3.5)."""
    answered: set[frozenset[tuple[str, int | None]]] = set()
    acked: set[frozenset[tuple[str, int | None]]] = set()
    found = []
    for packet in packets:
        ends = pair(packet)
        if packet.tcp_flags == "S.":
            if ends in acked:
                found.append(packet)
            answered.add(ends)
        elif packet.tcp_flags in (".", "P.") and ends in answered:
            acked.add(ends)
    return found


#: Prefixes of addresses that stand for a pair of routers, which send from their own (RFC 9568 §7.3; Cisco HSRP).
_VIRTUAL = ("00:00:5e:00:", "00:00:0c:07:ac", "00:00:0c:9f:f")


def other_gateway(packets: Iterable[CapturedPacket]) -> list[CapturedPacket]:
    """TCP segments that came back from another link-layer address than the one that their connection's request went to."""
    asked: dict[tuple[str, frozenset[tuple[str, int | None]], str], str] = {}
    found = []
    for p in packets:
        if p.proto != "tcp" or not (p.eth_src and p.eth_dst):
            continue
        asked.setdefault((p.dev, pair(p), p.src), p.eth_dst)
        to = asked.get((p.dev, pair(p), p.dst), p.eth_src)
        if p.eth_src != to and p.eth_dst != to and not to.startswith(_VIRTUAL):
            found.append(p)
    return found


def answered_echoes(packets: Iterable[CapturedPacket]) -> list[CapturedPacket]:
    """ICMP echo replies to requests of the same capture."""
    asked: set[tuple[str, str]] = set()
    found = []
    for p in packets:
        if p.icmp is not None and p.icmp.type in (8, 128):
            asked.add((p.src, p.dst))
        elif p.icmp is not None and p.icmp.type in (0, 129) and (p.dst, p.src) in asked:
            found.append(p)
    return found


def untranslated(packets: Iterable[CapturedPacket]) -> list[CapturedPacket]:
    """SYN-ACKs that come to a client's port from another address than it asked, and the client's resets of them: a backend's
    reply that nobody translated back."""
    asked: dict[tuple[str, int | None], set[str]] = {}
    strange: set[frozenset[tuple[str, int | None]]] = set()
    found = []
    for p in packets:
        if p.tcp_flags == "S":
            asked.setdefault((p.src, p.sport), set()).add(p.dst)
        elif p.tcp_flags == "S." and (to := asked.get((p.dst, p.dport))) and p.src not in to:
            strange.add(pair(p))
            found.append(p)
        elif "R" in p.tcp_flags and pair(p) in strange:
            found.append(p)
    return found
