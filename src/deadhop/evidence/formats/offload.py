"""Offload settings of a device (``ethtool -k``, ``ethtool -K`` lines) and short notes of a run with one on or off."""

from __future__ import annotations

import re

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.node import Offload, Throughput
from deadhop.model.record import Record

_FEATURE = re.compile(
    r"^\s*(?P<name>(?:tx|rx)-[\w-]+|(?:generic|tcp)-(?:segmentation|receive)-offload|tx-udp_tnl[\w-]*|scatter-gather|large-receive-offload): (?P<value>on|off)(?P<fixed> \[fixed\])?"
)
_SET = re.compile(r"ethtool\s+(?:-K|--offload)\s+(?P<dev>\S+)\s+(?P<rest>(?:[\w-]+ (?:on|off)\s*)+)")
_NOTE = re.compile(
    r"^\s*(?:MTU (?P<mtu>\d+)[ ,]+)?(?P<name>tx|tso|gso|gro|rx|checksum(?:ming)?|offload(?:ing)?)[ :=]+(?P<value>on|off)\b[^.]{0,30}$",
    re.I,
)
_IPERF = re.compile(r"^\[ *(?:\d+|SUM|ID)\].*?(?P<rate>[\d.]+) (?P<unit>[KMG]?)bits/sec(?:\s+(?P<retr>\d+))?")
_UNIT = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9}


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    line = lines.text[i]
    source = lines.source(i)
    if match := _SET.search(line):
        pairs = re.findall(r"([\w-]+) (on|off)", match["rest"])
        return i + 1, [
            Offload(
                source=source,
                where=context.where,
                dev=match["dev"],
                feature=name,
                on=value == "on",
                changed=True,
            )
            for name, value in pairs
        ]
    if match := _FEATURE.match(line):
        dev = next(
            (
                a
                for a in (context.command.argv[1:] if context.command and context.ran("ethtool") else ())
                if not a.startswith("-")
            ),
            "",
        )
        return i + 1, [
            Offload(
                source=source, where=context.where, dev=dev, feature=match["name"], on=match["value"] == "on"
            )
        ]
    if match := _NOTE.match(line):
        return i + 1, [
            Offload(
                source=source,
                where=context.where,
                feature=match["name"].lower(),
                on=match["value"].lower() == "on",
                note=True,
            )
        ]
    if match := _IPERF.match(line):
        rate = float(match["rate"]) * _UNIT[match["unit"]]
        return i + 1, [
            Throughput(
                source=source,
                where=context.where,
                bits=rate,
                retransmits=int(match["retr"]) if match["retr"] else None,
            )
        ]
    return i, []


FORMAT = LineFormat(
    "offload",
    re.compile(
        r"ethtool|offload|^\s*(?:MTU \d+ )?(?:tx|tso|gso|gro|rx)[ :=]+(?:on|off)|bits/sec|: (?:on|off)(?: \[|$)"
    ),
    _read,
    priority=45,
)
