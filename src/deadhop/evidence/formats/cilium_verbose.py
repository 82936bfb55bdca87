"""``cilium-dbg monitor -v``: a dissected packet on several lines and its verdict; and ``cilium-dbg bpf metrics list``."""

from __future__ import annotations

import re

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.kernel import Counter
from deadhop.model.observed.policy import CiliumEvent
from deadhop.model.record import Record

_LAYER = re.compile(
    r"^\s*(?P<layer>Ethernet|IPv4|IPv6|TCP|UDP|ICMPv4|ICMPv6|LLC|SNAP|ARP|STP|VXLAN|Failed to decode layer.*)\s*\{(?P<rest>.*)$|^\s*Failed to decode layer: (?P<failed>.+)$"
)
_FIELD = re.compile(r"\b(?P<key>SrcMAC|DstMAC|EthernetType|SrcIP|DstIP|SrcPort|DstPort)=(?P<value>[^\s}(]+)")
_VERDICT = re.compile(
    r"^\s*CPU \d+: MARK (?P<mark>0x[0-9a-f]+) FROM (?P<ep>\d+) (?P<what>DROP|to-\S+|from-\S+)(?:: \d+ bytes)?,?(?: reason (?P<reason>[^,]+))?.*?(?:identity (?P<src>[\w-]+)->(?P<dst>[\w-]+))?\s*$"
)
_METRIC = re.compile(
    r"^\s*(?P<reason>[A-Z][\w :()/-]+?)\s{2,}(?P<way>INGRESS|EGRESS|SERVICE|UNKNOWN)\s+(?P<packets>\d+)\s+(?P<bytes>\d+)"
)


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    start, text = i, lines.text
    fields: dict[str, str] = {}
    layers: list[str] = []
    while i < len(text) and (match := _LAYER.match(text[i])):
        layers.append(match["layer"] or match["failed"])
        for field in _FIELD.finditer(text[i]):
            fields.setdefault(field["key"], field["value"])
        i += 1
    verdict = _VERDICT.match(text[i]) if i < len(text) else None
    if verdict is None:
        return start, []
    shown = " ".join(layers)
    frame = f"{fields.get('SrcMAC', '')} -> {fields.get('DstMAC', '')} {fields.get('EthernetType', '')}" if "SrcMAC" in fields else ""  # fmt: skip
    dropped = verdict["what"] == "DROP"
    return i + 1, [
        CiliumEvent(
            source=lines.source(start, i), where=context.where, verdict="DROPPED" if dropped else "FORWARDED", reason=(verdict["reason"] or "").strip() if dropped else "",
            src_identity=verdict["src"] or "", dst_identity=verdict["dst"] or "", src=fields.get("SrcIP", fields.get("SrcMAC", "")), dst=fields.get("DstIP", fields.get("DstMAC", "")),
            sport=_port(fields.get("SrcPort")), dport=_port(fields.get("DstPort")), endpoint=verdict["ep"],
            proto=next((layer.lower() for layer in layers if layer in ("TCP", "UDP")), ""), text=f"{shown} {frame}".strip(),
        )
    ]  # fmt: skip


def _port(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def _read_metric(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    """Rows of drops and forwards by reason; a row of forwards is no drop, and is called so."""
    if re.match(r"^\s*REASON\s+DIRECTION\s+PACKETS", lines.text[i]):
        return i + 1, []
    match = _METRIC.match(lines.text[i])
    if match is None:
        return i, []
    kind = "cilium_forward" if match["reason"] in ("Success", "Forwarded") else "cilium_drop"
    labels = (("reason", match["reason"]), ("direction", match["way"]))
    return i + 1, [
        Counter(
            source=lines.source(i),
            where=context.where,
            name=kind,
            value=float(match["packets"]),
            labels=labels,
        )
    ]


FORMATS = (
    LineFormat("cilium-verbose", re.compile(r"^\s*(?:Ethernet|IPv[46]|CPU \d+: MARK)\b"), _read, priority=18),
    LineFormat("cilium-metrics", re.compile(r"^\s*REASON\s+DIRECTION|^\s*[A-Z][\w :()/-]+?\s{2,}(?:INGRESS|EGRESS|SERVICE|UNKNOWN)\s+\d"), _read_metric, priority=19),
)  # fmt: skip
