"""An event in words: as a line for people and as a JSON object for programs.

The tuple, the IP header's facts and, for an ICMP error, the packet that it quotes are read from the event's first
bytes. Field names of the JSON are stable.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import Any

from deadhop.kernel.event import Event
from deadhop.model.protocols import ICMP, ICMPV6, PROTOCOLS, TCP, TCP_FLAGS

_NAMES = {number: name for name, number in reversed(PROTOCOLS.items())} | {ICMPV6: "icmp6"}
#: ICMP types that quote the packet that they are about (RFC 792, RFC 4443).
_ERRORS = {ICMP: frozenset({3, 4, 5, 11, 12}), ICMPV6: frozenset({1, 2, 3, 4})}
_ETHERTYPES = {0x0806: "arp", 0x8100: "vlan", 0x88CC: "lldp", 0x8847: "mpls"}


def protocol(event: Event) -> str:
    """``udp``, a protocol's number, an EtherType, or ``?`` where the skb is at no header."""
    if event.version:
        return _NAMES.get(event.proto, str(event.proto))
    return _ETHERTYPES.get(event.ethertype, f"{event.ethertype:#06x}" if event.ethertype else "?")


def header(event: Event) -> dict[str, Any]:
    """What the IP header says: ``length`` in bytes, ``ttl``, ``df``, ``tos``, and ``fragment`` where it is one."""
    packet = event.packet
    if event.version == 4:
        tos, length, _ident, fragment, ttl = struct.unpack_from(">xBHHHB", packet)
        found = {"length": length or event.len, "ttl": ttl, "df": bool(fragment & 0x4000), "tos": tos}
        if fragment & 0x3FFF:
            found["fragment"] = {"offset": (fragment & 0x1FFF) * 8, "more": bool(fragment & 0x2000)}
        return found
    if event.version == 6:
        first, length, _next, limit = struct.unpack_from(">IHBB", packet)
        return {
            "length": length + 40 if length else event.len,
            "ttl": limit,
            "df": True,
            "tos": first >> 20 & 0xFF,
        }
    return {}


def transport(event: Event) -> dict[str, Any]:
    """Ports, TCP flags, ICMP type and code, and the quoted packet of an ICMP error."""
    if event.has_ports:
        found: dict[str, Any] = {"sport": event.sport, "dport": event.dport}
        at = event.l4_offset
        if event.proto == TCP and at + 14 <= len(event.packet):
            bits = event.packet[at + 13]
            found["tcp_flags"] = [name for name, bit in TCP_FLAGS.items() if bits & bit and name != "ecn"]
        return found
    if event.version and event.proto in _ERRORS and 0 < event.l4_offset <= len(event.packet) - 8:
        kind, code = event.packet[event.l4_offset : event.l4_offset + 2]
        found = {"icmp": {"type": kind, "code": code}}
        if kind in _ERRORS[event.proto]:
            quoted = inner(event.packet[event.l4_offset + 8 :])
            if quoted:
                found["inner"] = quoted
        return found
    return {}


def inner(quoted: bytes) -> dict[str, Any]:
    """The tuple of the packet that an ICMP error quotes; empty where too little is there."""
    if len(quoted) >= 20 and quoted[0] >> 4 == 4:
        proto, at = quoted[9], (quoted[0] & 15) * 4
        src, dst = (str(ipaddress.IPv4Address(quoted[i : i + 4])) for i in (12, 16))
    elif len(quoted) >= 40 and quoted[0] >> 4 == 6:
        proto, at = quoted[6], 40
        src, dst = (str(ipaddress.IPv6Address(quoted[i : i + 16])) for i in (8, 24))
    else:
        return {}
    found: dict[str, Any] = {"proto": _NAMES.get(proto, str(proto)), "src": src, "dst": dst}
    if proto in (6, 17, 33, 132, 136) and len(quoted) >= at + 4:
        found["sport"], found["dport"] = struct.unpack_from(">HH", quoted, at)
    return found


def tuple_of(event: Event) -> dict[str, Any]:
    """Everything of the packet: what :func:`header` and :func:`transport` give, with addresses and protocol."""
    found: dict[str, Any] = {"proto": protocol(event)}
    if event.version:
        found |= {"src": str(event.src), "dst": str(event.dst)}
        found |= transport(event) | header(event)
    else:
        found["length"] = event.len
    return found


def packet_line(event: Event) -> str:
    """``udp 10.53.0.10:9053 > 10.0.0.63:33333, 2379 bytes, DF, ttl 63``."""
    return line_of(tuple_of(event), event.mark)


def line_of(packet: dict[str, Any], mark: int = 0) -> str:
    said = str(packet["proto"])
    if "src" in packet:
        said += f" {_end(packet, 'src', 'sport')} > {_end(packet, 'dst', 'dport')}"
    if "icmp" in packet:
        said += f" type {packet['icmp']['type']} code {packet['icmp']['code']}"
    if "inner" in packet:
        quoted = packet["inner"]
        said += f" about {quoted['proto']} {_end(quoted, 'src', 'sport')} > {_end(quoted, 'dst', 'dport')}"
    if packet.get("tcp_flags"):
        said += " " + ",".join(packet["tcp_flags"])
    said += f", {packet['length']} bytes"
    if packet.get("df") and ":" not in packet.get("src", ""):
        said += ", DF"
    if "fragment" in packet:
        said += f", fragment at {packet['fragment']['offset']}"
    if "ttl" in packet:
        said += f", ttl {packet['ttl']}"
    return said + (f", mark {mark:#x}" if mark else "")


def _end(packet: dict[str, Any], address: str, port: str) -> str:
    if port not in packet:
        return str(packet[address])
    host = f"[{packet[address]}]" if ":" in packet[address] else packet[address]
    return f"{host}:{packet[port]}"
