"""retis events as JSON lines: what ``retis collect -o`` writes and ``retis print --format json`` prints.

An event is an object of sections: ``common``, ``kernel`` (the probe's symbol), ``skb`` (up to 1.5 with the packet's
headers, device and namespace inside), ``skb-tracking`` (which packet), ``skb-drop``; later releases keep ``packet``,
``dev`` and ``ns`` beside ``skb``. ``retis sort`` puts the events of one packet into an array a line.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import struct
from typing import Any

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.evidence.skb_traces import number, read_lines, tuple_text
from deadhop.model.observed.packets import SkbStep
from deadhop.model.record import Record

_START = re.compile(r'^\s*\[?\{.*"(?:skb-tracking|tracking|kernel|startup|skb)": *\{')
_SECTIONS = frozenset(
    {"common", "kernel", "userspace", "tracking", "skb-tracking", "skb-drop", "skb", "startup", "ovs", "nft", "ct", "packet", "dev", "ns"}
)  # fmt: skip
PREFIX = "SKB_DROP_REASON_"


def _event(value: Any) -> bool:
    if not isinstance(value, dict) or not value.keys() <= _SECTIONS | {"sk-rst", "sock", "user"}:
        return False
    kernel = value.get("kernel")
    return "startup" in value or (isinstance(kernel, dict) and isinstance(kernel.get("symbol"), str))


def _section(value: dict[str, Any], *names: str) -> dict[str, Any]:
    """A section by its first name that is there: in the event, else inside its ``skb``."""
    skb = value.get("skb")
    for place in (value, skb if isinstance(skb, dict) else {}):
        for name in names:
            found = place.get(name)
            if isinstance(found, dict):
                return found
    return {}


def _step(value: dict[str, Any], line: int) -> tuple[str, SkbStep] | None:
    kernel = value.get("kernel")
    if not isinstance(kernel, dict) or kernel.get("probe_type") == "kretprobe":
        return None
    track = _section(value, "skb-tracking")
    if not track:
        whole = value.get("tracking")
        track = whole["skb"] if isinstance(whole, dict) and isinstance(whole.get("skb"), dict) else {}
    packet = _section(value, "packet")
    dev, ns, meta = _section(value, "dev"), _section(value, "ns"), _section(value, "meta")
    reason = str(_section(value, "skb-drop").get("drop_reason", ""))
    if reason and not reason.isdigit() and not reason.startswith("SKB_"):
        reason = PREFIX + reason
    return _packet(track), SkbStep(
        func=str(kernel["symbol"]).rpartition(":")[2],
        line=line,
        netns=number(ns.get("netns", ns.get("inum"))),
        ifindex=number(dev.get("ifindex")) or None,
        dev=str(dev.get("name") or ""),
        len=number(meta.get("len", packet.get("len"))),
        mark=number(meta.get("mark")),
        tuple=_headers(value) or _raw(packet.get("packet", packet.get("data"))),
        reason=reason,
    )


def _packet(track: dict[str, Any]) -> str:
    """retis' own name of a packet: when and at which buffer it was first seen."""
    head, seen = number(track.get("orig_head")), number(track.get("timestamp"))
    return f"{seen or 0:x}-{head or 0:x}" if track else ""


def _headers(value: dict[str, Any]) -> str:
    ip = _section(value, "ip")
    if not ip:
        return ""
    ports = _section(value, "udp", "tcp")
    return tuple_text(
        str(ip.get("saddr", "")),
        str(ip.get("daddr", "")),
        ports.get("sport"),
        ports.get("dport"),
        number(ip.get("protocol")),
    )


def _raw(data: Any) -> str:
    """The tuple of a captured Ethernet frame, in base64."""
    try:
        frame = base64.b64decode(data, validate=True) if isinstance(data, str) else b""
    except (binascii.Error, ValueError):
        return ""
    at = 12
    while frame[at : at + 2] in (b"\x81\x00", b"\x88\xa8"):
        at += 4
    ip = frame[at + 2 :]
    if frame[at : at + 2] == b"\x08\x00" and len(ip) >= 20:
        proto, ends = ip[9], (ip[(ip[0] & 15) * 4 :])
        src, dst = (str(ipaddress.IPv4Address(ip[i : i + 4])) for i in (12, 16))
    elif frame[at : at + 2] == b"\x86\xdd" and len(ip) >= 40:
        proto, ends = ip[6], ip[40:]
        src, dst = (str(ipaddress.IPv6Address(ip[i : i + 16])) for i in (8, 24))
    else:
        return ""
    sport, dport = struct.unpack_from(">HH", ends) if proto in (6, 17, 132) and len(ends) >= 4 else (0, 0)
    return tuple_text(src, dst, sport, dport, proto)


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    return read_lines(lines, i, context, _step, _event)


FORMAT = LineFormat("retis", _START, _read, priority=14)
