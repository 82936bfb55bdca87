"""Packet listings of hardware firewalls: FortiGate ``diagnose sniffer packet`` and Cisco ASA ``show capture``.

FortiGate writes ``SECONDS [DEVICE in|out] A.PORT -> B.PORT: syn SEQ ack ACK`` (FortiOS, verbosity 1 to 4); ASA writes
``N: TIME A.PORT > B.PORT: S SEQ:SEQ(0) win W`` (Cisco ASA CLI, capture).
"""

from __future__ import annotations

import re

from deadhop.evidence.fields import is_ip
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.packets import CapturedPacket
from deadhop.model.record import Record

_END = r"\d{1,3}(?:\.\d{1,3}){3}"
_FORTI = re.compile(
    rf"^\s*\d+\.\d{{6}} (?:(?P<dev>\S+) (?P<dir>in|out) )?(?P<src>{_END})(?:\.(?P<sport>\d{{1,5}}))? -> (?P<dst>{_END})(?:\.(?P<dport>\d{{1,5}}))?: (?P<what>(?:syn|fin|rst|psh|ack|udp|icmp)\b.*)$"
)
_ASA = re.compile(
    rf"^\s*\d+: \d\d:\d\d:\d\d\.\d+\s+(?:802\.1Q vlan#\d+ P\d\s+)?(?P<src>{_END})(?:\.(?P<sport>\d{{1,5}}))? > (?P<dst>{_END})(?:\.(?P<dport>\d{{1,5}}))?:\s+(?P<what>(?:[SFRP.]{{1,4}} |udp|icmp).*)$"
)
_WORDS = (("syn", "S"), ("fin", "F"), ("rst", "R"), ("psh", "P"), ("ack", "."))


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    match = _FORTI.match(lines.text[i]) or _ASA.match(lines.text[i])
    if match is None or not is_ip(match["src"]) or not is_ip(match["dst"]):
        return i, []
    named, what = match.groupdict(), match["what"]
    proto = next((p for p in ("udp", "icmp") if what.startswith(p)), "tcp")
    flags = ""
    if proto == "tcp":
        first = what.split(" ")[0]
        flags = (
            "".join(f for word, f in _WORDS if re.search(rf"\b{word}\b", what)) if first.islower() else first
        )
        flags += "." if not first.islower() and " ack " in what and "." not in flags else ""
    return i + 1, [
        CapturedPacket(
            source=lines.source(i), where=context.where, dev=named.get("dev") or "", direction=(named.get("dir") or "").capitalize(),
            src=match["src"], dst=match["dst"], proto=proto, sport=int(match["sport"]) if match["sport"] else None,
            dport=int(match["dport"]) if match["dport"] else None, tcp_flags=flags,
        )
    ]  # fmt: skip


FORMAT = LineFormat(
    "firewall-capture", re.compile(rf"^\s*\d+(?:\.\d{{6}} |: \d\d:\d\d:\d\d\.\d).*{_END}"), _read, priority=20
)
