"""The kernel's martian lines and the lines of netfilter's LOG and TRACE targets, with any log prefix.

Other kernel messages are in the catalogue (``messages``).
"""

from __future__ import annotations

import re

from deadhop.evidence.fields import integer, is_ip, rfc3339, syslog_time
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.kernel import MartianSource, NetfilterLog
from deadhop.model.observed.policy import Flow, FlowEnd
from deadhop.model.record import Record

_MARTIAN = re.compile(r"martian source (?P<dst>[\d.]+) from (?P<src>[\d.]+),? on dev (?P<dev>\S+)")
_DESTINATION = re.compile(r"martian destination (?P<dst>[\d.]+) from (?P<src>[\d.]+),? dev (?P<dev>\S+)")
_HEADER = re.compile(r"ll header: (?:[0-9a-f]{8}: )?(?P<hex>(?:[0-9a-f]{2}[ :]){13}[0-9a-f]{2})")
_NETFILTER = re.compile(r"\bIN=(?P<in>\S*) OUT=(?P<out>\S*) .*?SRC=(?P<src>\S+) DST=(?P<dst>\S+)")
_TRACE = re.compile(r"TRACE: (?P<rule>\w+:[\w.-]+:\w+:\d*)")
_PREFIX = re.compile(r"(?:\]|kernel:|^)\s*(?P<prefix>(?:\[[A-Z][A-Za-z _-]*\])?[^\[\]]*?)\s*IN=")

#: Calico's tunnel devices; a node's own address on one is the first of a block of 64 (Calico IPAM, blockSize 26).
_TUNNELS = frozenset({"vxlan.calico", "vxlan-v6.calico", "tunl0", "wireguard.cali"})


def _denial(log: NetfilterLog) -> list[Record]:
    """What Calico logs is a verdict on a connection (felix, LogPrefix): a flow, by the devices into a pod or out of one."""
    if not log.prefix.startswith("calico-packet"):
        return []
    direction = (
        "INGRESS" if log.out_dev.startswith("cali") else "EGRESS" if log.in_dev.startswith("cali") else ""
    )
    tail = log.src.rpartition(".")[2]
    own = log.in_dev in _TUNNELS and tail.isdigit() and int(tail) % 64 == 0
    return [
        Flow(
            source=log.source, where=log.where, time=log.time, src=FlowEnd(ip=log.src, port=log.sport, identity="remote-node" if own else ""),
            dst=FlowEnd(ip=log.dst, port=log.dport), event=f"policy-verdict {direction}".strip(), verdict="DROPPED", proto=log.proto.upper(),
            direction=direction, drop_reason="Policy denied",
        )
    ]  # fmt: skip


def _time(line: str, context: Context) -> float | None:
    head = line[:48]
    return rfc3339(head) or syslog_time(head, context.year)


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    line = lines.text[i]
    match = _MARTIAN.search(line) or _DESTINATION.search(line)
    if match and is_ip(match["dst"]) and is_ip(match["src"]):
        after = i + 1
        header = _HEADER.search(lines.text[after]) if after < len(lines.text) else None
        octets = re.split(r"[ :]", header["hex"]) if header else []
        record = MartianSource(
            source=lines.source(i, i + 1 if header else None),
            where=context.where,
            time=_time(line, context),
            dst=match["dst"],
            src=match["src"],
            dev=match["dev"].rstrip(",."),
            ll_dst=":".join(octets[:6]),
            ll_src=":".join(octets[6:12]),
            ethertype=int("".join(octets[12:14]), 16) if len(octets) >= 14 else None,
        )
        return after + bool(header), [record]
    if match := _NETFILTER.search(line):
        words = dict(w.partition("=")[::2] for w in line.split() if "=" in w)
        trace, prefix = _TRACE.search(line), _PREFIX.search(line)
        log = NetfilterLog(
            source=lines.source(i),
            where=context.where,
            time=_time(line, context),
            prefix=prefix["prefix"].strip() if prefix else "",
            rule=trace["rule"] if trace else "",
            in_dev=match["in"],
            out_dev=match["out"],
            src=match["src"],
            dst=match["dst"],
            proto=words.get("PROTO", "").lower(),
            sport=integer(words.get("SPT")),
            dport=integer(words.get("DPT")),
        )
        return i + 1, [log, *_denial(log)]
    return i, []


FORMAT = LineFormat(
    "kernel-log", re.compile(r"martian (?:source|destination) |\bIN=\S* OUT=\S* "), _read, priority=15
)
