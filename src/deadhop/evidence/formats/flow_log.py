"""Flow logs of a cloud network: who spoke to whom, and whether security groups and network ACLs let it pass.

AWS writes one flow a line, in the order of its default format or in that of a header line (VPC Flow Logs, "flow log
records"); Azure writes tuples ``TIME,SRC,DST,SPORT,DPORT,T|U,I|O,A|D`` (NSG flow logs); GCP writes JSON with
``rule_details`` (VPC firewall rules logging).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from deadhop.evidence.fields import integer, is_ip
from deadhop.evidence.format import Context, LineFormat, Lines, Locate, ValueFormat
from deadhop.model.observed.kube import mapping
from deadhop.model.observed.node import CloudFlow
from deadhop.model.record import Record

#: Version 2, the default format.
_DEFAULT = ("version", "account-id", "interface-id", "srcaddr", "dstaddr", "srcport", "dstport", "protocol", "packets", "bytes", "start", "end", "action", "log-status")  # fmt: skip
_LINE = re.compile(r"(?<![\w.])\d \d{12} eni-\w+ (?:\S+ ){9}(?:ACCEPT|REJECT) (?:OK|NODATA|SKIPDATA)\b")
_HEADER = re.compile(r"\bsrc_?addr\b.*\baction\b|\baction\b.*\bsrc_?addr\b", re.I)
_AZURE = re.compile(
    r"\d{10},(?P<src>[\d.]+),(?P<dst>[\d.]+),(?P<sport>\d+),(?P<dport>\d+),(?P<proto>[TU]),[IO],(?P<action>[AD])\b"
)
_SPLIT = re.compile(r"[\s,|]+")


def _cells(line: str) -> list[str]:
    return [c.strip('"') for c in _SPLIT.split(line.strip().strip("|")) if c]


def _flow(lines: Lines, i: int, context: Context, told: dict[str, str]) -> CloudFlow | None:
    src, dst = told.get("srcaddr", ""), told.get("dstaddr", "")
    if not is_ip(src) or not is_ip(dst) or told.get("action") not in ("ACCEPT", "REJECT"):
        return None
    return CloudFlow(
        source=lines.source(i), where=context.where, device=told.get("interface-id", ""), src=src, dst=dst,
        sport=integer(told.get("srcport")), dport=integer(told.get("dstport")), protocol=integer(told.get("protocol")),
        packets=integer(told.get("packets")), size=integer(told.get("bytes")), accepted=told["action"] == "ACCEPT",
    )  # fmt: skip


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    line = lines.text[i]
    if match := _LINE.search(line):
        flow = _flow(lines, i, context, dict(zip(_DEFAULT, match[0].split(" "), strict=False)))
        return (i + 1, [flow]) if flow else (i, [])
    if match := _AZURE.search(line):
        return i + 1, [
            CloudFlow(
                source=lines.source(i), where=context.where, src=match["src"], dst=match["dst"], sport=integer(match["sport"]),
                dport=integer(match["dport"]), protocol=6 if match["proto"] == "T" else 17, accepted=match["action"] == "A",
            )
        ]  # fmt: skip
    if not _HEADER.search(line):
        return i, []
    names = [c.lower().replace("_", "-") for c in _cells(line)]
    records: list[Record] = []
    k = i + 1
    while k < len(lines.text):
        if re.fullmatch(r"[\s|+-]+", lines.text[k]):
            k += 1
            continue
        cells = _cells(lines.text[k])
        row = (
            _flow(lines, k, context, dict(zip(names, cells, strict=False)))
            if len(cells) == len(names)
            else None
        )
        if row is None:
            break
        records.append(row)
        k += 1
    return (k, records) if records else (i, [])


def _payload(value: Any) -> dict[str, Any]:
    payload = mapping(value, "jsonPayload") or (value if isinstance(value, dict) else {})
    known = isinstance(payload.get("connection"), dict) and isinstance(payload.get("rule_details"), dict)
    return payload if known else {}


def _value(value: Any, locate: Locate, context: Context) -> Iterable[Record]:
    payload = _payload(value)
    pair = mapping(payload, "connection")
    src, dst = str(pair.get("src_ip", "")), str(pair.get("dest_ip", ""))
    if is_ip(src) and is_ip(dst):
        yield CloudFlow(
            source=locate(), where=context.where, src=src, dst=dst, sport=integer(str(pair.get("src_port", ""))),
            dport=integer(str(pair.get("dest_port", ""))), protocol=integer(str(pair.get("protocol", ""))),
            accepted=str(payload.get("disposition", "")).upper() == "ALLOWED",
        )  # fmt: skip


FORMATS = (
    LineFormat("cloud-flow-log", re.compile(f"{_LINE.pattern}|{_AZURE.pattern}|(?i:{_HEADER.pattern})"), _read, priority=18),
    ValueFormat("cloud-flow-log-json", lambda v: bool(_payload(v)), _value, priority=13),
)  # fmt: skip
