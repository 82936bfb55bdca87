"""Packet fields (nft_payload): ``(getter, type)`` by protocol and field name, with nft's implied dependencies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deadhop.hops.linux.netfilter.values import BREAK, CHECKSUM, Unsupported, Vague
from deadhop.hops.linux.packet import Packet
from deadhop.model.protocols import DCCP, ICMP, ICMPV6, SCTP, TCP, UDP, UDPLITE

Getter = Callable[[Packet], Any]

_PORTS = {"udp": UDP, "tcp": TCP, "dccp": DCCP, "sctp": SCTP, "udplite": UDPLITE}
_CHECKSUM = Vague(CHECKSUM)


def _v4(read: Getter) -> Getter:
    return lambda p: read(p) if p.version == 4 else BREAK


def _v6(read: Getter) -> Getter:
    return lambda p: read(p) if p.version == 6 else BREAK


def _fixed(what: str) -> Getter:
    value = Vague(what)
    return lambda _p: value


IP: dict[str, tuple[Getter, str]] = {
    "version": (lambda _p: 4, "integer"),
    "hdrlength": (lambda _p: 5, "integer"),
    "dscp": (lambda p: p.tos >> 2, "dscp"),
    "ecn": (lambda p: p.tos & 3, "ecn"),
    "length": (lambda p: p.length, "integer"),
    "id": (_fixed("the IP id"), "integer"),
    "frag-off": (lambda p: 0x4000 if p.df else 0x2000 if p.more else 1 if p.frag else 0, "integer"),
    "ttl": (lambda p: p.ttl, "integer"),
    "protocol": (lambda p: p.proto, "inet_proto"),
    "checksum": (lambda _p: _CHECKSUM, "integer"),
    "saddr": (lambda p: p.src, "ipv4_addr"),
    "daddr": (lambda p: p.dst, "ipv4_addr"),
}
IP6: dict[str, tuple[Getter, str]] = {
    "version": (lambda _p: 6, "integer"),
    "dscp": (lambda p: p.tos >> 2, "dscp"),
    "ecn": (lambda p: p.tos & 3, "ecn"),
    "flowlabel": (_fixed("the flow label"), "integer"),
    "length": (lambda p: p.length - 40, "integer"),
    "nexthdr": (lambda p: p.proto, "inet_proto"),
    "hoplimit": (lambda p: p.ttl, "integer"),
    "saddr": (lambda p: p.src, "ipv6_addr"),
    "daddr": (lambda p: p.dst, "ipv6_addr"),
}


def _first_word(p: Packet) -> Any:
    """Bytes 0-1 of the transport header: the source port, or ICMP's type and code."""
    if p.has_ports:
        return p.sport
    if p.proto in (ICMP, ICMPV6):
        return p.icmp_type << 8 | p.icmp_code
    return Vague("bytes of a transport header")


def _second_word(p: Packet) -> Any:
    """Bytes 2-3 of the transport header: the destination port, or ICMP's checksum."""
    if p.has_ports:
        return p.dport
    return _CHECKSUM


def _of(proto: int, read: Getter) -> Getter:
    return lambda p: read(p) if p.proto == proto else BREAK


def payload(body: dict[str, Any], family: str) -> tuple[Getter, str]:
    """The getter and type of ``{"payload": {"protocol", "field"}}``; raises :class:`Unsupported`."""
    if "base" in body:
        return _raw(body)
    protocol, field = str(body.get("protocol")), str(body.get("field"))
    if protocol == "ip" and field in IP:
        read, kind = IP[field]
        return _v4(read), kind
    if protocol == "ip6" and field in IP6:
        read, kind = IP6[field]
        return _v6(read), kind
    if protocol == "th" and field in ("sport", "dport"):
        return (_first_word if field == "sport" else _second_word), "inet_service"
    if protocol in _PORTS:
        proto = _PORTS[protocol]
        if field == "sport":
            return (lambda p: p.sport if p.proto == proto else BREAK), "inet_service"
        if field == "dport":
            return (lambda p: p.dport if p.proto == proto else BREAK), "inet_service"
        if protocol == "tcp" and field == "flags":
            return _of(TCP, lambda p: p.tcp_flags), "tcp_flag"
        if protocol == "udp" and field == "length":
            return _of(UDP, lambda p: p.length - (20 if p.version == 4 else 40)), "integer"
        return _of(proto, _fixed(f"{protocol} {field}")), "integer"
    if protocol in ("icmp", "icmpv6"):
        proto = ICMP if protocol == "icmp" else ICMPV6
        if field == "type":
            return _of(proto, lambda p: p.icmp_type), f"{protocol}_type"
        if field == "code":
            return _of(proto, lambda p: p.icmp_code), f"{protocol}_code"
        what = CHECKSUM if field == "checksum" else f"{protocol} {field}"
        return _of(proto, _fixed(what)), "integer"
    if protocol == "ether" and family not in ("bridge", "netdev"):
        kind = "ether_type" if field == "type" else "ether_addr"
        return (lambda p: Vague(f"ether {field}") if p.iif else BREAK), kind
    raise Unsupported(f"payload {protocol} {field}")


def _raw(body: dict[str, Any]) -> tuple[Getter, str]:
    """``@nh,offset,len`` and ``@th,offset,len`` (bits), where the header's bytes follow from the flow."""
    base, offset, length = body.get("base"), int(body["offset"]), int(body["len"])
    words = {("th", 0, 16): _first_word, ("th", 16, 16): _second_word}
    if (base, offset, length) in words:
        return words[base, offset, length], "integer"  # type: ignore[index]
    if base != "nh":
        raise Unsupported(f"payload @{base},{offset},{length}")

    def read(p: Packet) -> Any:
        header, bits = _network_header(p)
        if offset + length > bits or (p.version == 4 and offset < 96 and offset + length > 80):
            return Vague(f"payload @nh,{offset},{length}")
        if p.version == 4 and offset < 48 and offset + length > 32:
            return Vague(f"payload @nh,{offset},{length}")
        return header >> (bits - offset - length) & ((1 << length) - 1)

    return read, "integer"


def _network_header(p: Packet) -> tuple[int, int]:
    """The header as one integer, and its width; IPv4's id and checksum are zero in it."""
    if p.version == 4:
        words = 0x45 << 24 | p.tos << 16 | p.length & 0xFFFF
        second = 0x4000 if p.df else 0
        third = p.ttl << 24 | p.proto << 16
        return words << 128 | second << 96 | third << 64 | p.src << 32 | p.dst, 160
    first = 6 << 28 | p.tos << 20
    second = (p.length - 40 & 0xFFFF) << 16 | p.proto << 8 | p.ttl
    return first << 288 | second << 256 | p.src << 128 | p.dst, 320
