"""Frames that are no Ethernet II, as tcpdump and tshark print them: a switch's spanning tree, LLDP, CDP, slow protocols.

``-e`` puts the addresses in front; without it STP, LLDP and CDP lines begin with the protocol's name (tcpdump print-llc.c,
print-stp.c, print-lldp.c, print-cdp.c).
"""

from __future__ import annotations

import re

from deadhop.evidence.fields import syslog_time
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.packets import SwitchFrame
from deadhop.model.record import Record

_MAC = r"[0-9a-fA-F]{2}(?:[:.-]?[0-9a-fA-F]{2}){5}"
_TIME = r"(?:(?P<time>\d\d:\d\d:\d\d\.\d+) )?"
_LINK = re.compile(
    rf"^\s*{_TIME}(?:(?P<dev>[a-zA-Z][\w.@-]*)\s+(?:In|Out|B|M|P)\s+)?(?P<src>{_MAC}) (?:\(oui [^)]*\) )?> (?P<dst>{_MAC})(?: \(oui [^)]*\))?,? (?P<rest>.*)$"
)
_BARE = re.compile(
    rf"^\s*{_TIME}(?:(?P<dev>[a-zA-Z][\w.@-]*)\s+(?:In|Out|B|M|P)\s+)?(?P<rest>(?:STP 802\.1|LLDP,|CDPv\d|LACPv\d|UDLD|VTPv\d|DTPv\d|802\.3,? ?LLC).*)$"
)
_COOKED = re.compile(
    rf"^\s*\d*\s*(?:[\d.]+\s+)?(?P<src>{_MAC}|\w+_[0-9a-f]{{2}}(?::[0-9a-f]{{2}}){{2}})\s*(?:→|->)\s*(?P<dst>{_MAC}|Spanning-tree[\w()-]*|LLDP_Multicast|Slow-Protocols|CDP/VTP/\S+|PVST\+)\s+(?P<rest>(?:STP|LLDP|LACP|CDP|LLC|LOOP)\b.*)$"
)
_KINDS = (
    ("stp", re.compile(r"\bSTP\b|PVST|Spanning")),
    ("lldp", re.compile(r"\bLLDP\b|0x88cc")),
    ("cdp", re.compile(r"\bCDP")),
    ("lacp", re.compile(r"\bLACP|Slow Protocols|0x8809")),
    ("loop", re.compile(r"\bLoopback, |\bLOOP\b|0x9000")),
    ("llc", re.compile(r"\bLLC\b|\b802\.3\b")),
)


def _kind(rest: str) -> str:
    return next((name for name, pattern in _KINDS if pattern.search(rest)), "")


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    line = lines.text[i]
    match = _LINK.match(line) or _BARE.match(line) or _COOKED.match(line)
    kind = _kind(match["rest"]) if match else ""
    if match is None or not kind:
        return i, []
    named = match.groupdict()
    frame = SwitchFrame(
        source=lines.source(i),
        where=context.where,
        time=syslog_time(f"Jan 1 {named['time']}") if named.get("time") else None,
        dev=named.get("dev") or "",
        src=named.get("src") or "",
        dst=(named.get("dst") or "").lower(),
        kind=kind,
    )
    i += 1
    while i < len(lines.text) and lines.text[i][:1] in (" ", "\t") and re.match(r"^\s+(?:message-age|root-id|bridge-id|CIST|0x[0-9a-f]{4}:|\w[\w -]* TLV)", lines.text[i]):  # fmt: skip
        i += 1
    return i, [frame]


FORMAT = LineFormat(
    "switch-frames",
    re.compile(
        rf"^\s*(?:\d\d:\d\d:\d\d\.\d+ )?(?:[a-zA-Z][\w.@-]*\s+(?:In|Out|B|M|P)\s+)?(?:{_MAC} .*\b(?:LLC|STP|LLDP|LACP|CDP|Loopback|802\.3)|STP 802\.1|LLDP,|CDPv|LACPv|UDLD|802\.3)|(?:→|->).*\b(?:STP|LLDP|LACP|CDP|LOOP)\b"
    ),
    _read,
    priority=21,
)
