"""``xtables-monitor --trace``: which rules of iptables-nft a traced packet met (xtables-monitor(8)).

A packet's line begins with ``PACKET:``; its rules follow as ``TRACE: FAMILY ID TABLE:CHAIN:rule:HANDLE:VERDICT``, the end of
a chain as ``return:`` or ``policy:VERDICT``.
"""

from __future__ import annotations

import re
from typing import Any

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.firewall import FirewallTrace
from deadhop.model.record import Record

_TRACE = re.compile(
    r"^\s*TRACE: (?:2|10) (?P<id>[0-9a-f]{1,8}) (?P<table>\w+):(?P<chain>[\w.-]+):(?P<step>rule|return|policy):(?:0x[0-9a-f]+:)?(?P<verdict>[\w.-]*)"
)
_PACKET = re.compile(r"^\s*PACKET: (?:2|10) (?P<id>[0-9a-f]{1,8}) ")
_START = re.compile(r"^\s*(?:TRACE|PACKET): (?:2|10) [0-9a-f]{1,8} ")
_WORDS = {"IN": "in_dev", "OUT": "out_dev", "SRC": "src", "DST": "dst", "DPT": "dport"}


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    records: list[Record] = []
    packet: dict[str, Any] = {}
    seen = ""
    while i < len(lines.text):
        line = lines.text[i]
        if match := _PACKET.match(line):
            pairs = (w.partition("=")[::2] for w in line.split() if "=" in w)
            packet, seen = {_WORDS[k]: v for k, v in pairs if k in _WORDS}, match["id"]
        elif match := _TRACE.match(line):
            records.append(
                FirewallTrace(
                    source=lines.source(i), where=context.where, table=match["table"], chain=match["chain"], step=match["step"],
                    verdict=match["verdict"].lower(), text=line.strip(), **(packet if seen == match["id"] else {}),
                )
            )  # fmt: skip
        else:
            break
        i += 1
    return i, records


FORMAT = LineFormat("xtables-monitor", _START, _read, priority=14)
