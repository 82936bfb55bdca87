"""CoreDNS ``log`` lines, ``plugin/errors`` lines and the loop detector.

Shape (plugin/log, ``{common}``): ``[INFO] 10.0.0.1:4711 - 123 "A IN example.org. udp 29 false 512" NOERROR
qr,rd,ra 54 0.002s``; ``- - 0 2.0s`` where no answer was written. A prefix (pod name, time) may stand before.
"""

from __future__ import annotations

import re

from deadhop.evidence.fields import duration, fqdn, rfc3339
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.dns import DnsQuery, DnsServerError
from deadhop.model.observed.message import Message
from deadhop.model.record import Record, Source

_CLIENT = re.compile(r"(?:^|[\s\]])(\[?[0-9a-fA-F:.]+\]?:\d+) - (\d+) $")
_STAMP = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?Z?")
_TRANSPORTS = frozenset({"udp", "tcp", "https", "tls", "grpc", "quic"})
_ERROR = re.compile(
    r"(?:\[ERROR\] |E\S* )?plugin/errors: (?P<code>\d+) (?P<name>\S+) (?P<type>[A-Z0-9]+): (?P<error>.*)$"
)
_LOOP = re.compile(
    r"plugin/loop: (?:Loop \((?P<via>[^)]*)\) detected|Seen \"HINFO IN (?P<name>\S+)\"[^\n]*loop detected|.*loop detected)"
)
_SERVER = re.compile(
    r"(?P<kind>read|write) (?:udp|tcp) (?P<local>\S+?)->(?P<up>\S+?): (?P<what>.*)$|dial (?:udp|tcp) (?P<up2>\S+?): (?P<what2>.*)$"
)
_START = re.compile(
    r" - (?:\[[^\]]*\] )?\d+ \"[A-Z0-9]+ [A-Z]+ |plugin/errors: |plugin/loop: |CoreDNS-\d|plugin/(?:forward|reload|health|ready|kubernetes): "
)
_VERSION = re.compile(r"CoreDNS-(\d[\w.]+)")


def error_class(text: str) -> str:
    """The class of a Go resolver error's text (see :class:`DnsServerError`)."""
    lowered = text.lower()
    for word, name in (
        ("i/o timeout", "timeout"),
        ("connection refused", "refused"),
        ("overflow", "overflow"),
        ("unpack", "overflow"),
        ("buffer size too small", "overflow"),
        ("no route to host", "unreachable"),
        ("network is unreachable", "unreachable"),
        ("no upstream host", "no-servers"),
        ("no healthy upstream", "no-servers"),
        ("unreachable backend", "no-servers"),
        ("context deadline", "timeout"),
        ("connection reset", "reset"),
        ("eof", "reset"),
    ):
        if word in lowered:
            return name
    return "other"


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    records: list[Record] = []
    text = lines.text
    start = i
    while i < len(text):
        record = _query(lines, i, context) or _other(lines, i, context)
        if record is None:
            break
        records.append(record)
        i += 1
    return (i, records) if records else (start, [])


def _query(lines: Lines, i: int, context: Context) -> DnsQuery | None:
    """One ``log`` line, taken apart at its quotes: this is the hot path of long logs."""
    line = lines.text[i]
    opening = line.find('"')
    closing = line.find('" ', opening + 1)
    if opening < 0 or closing < 0:
        return None
    asked = line[opening + 1 : closing].split(" ")
    told = line[closing + 2 :].split()
    if len(asked) != 7 or len(told) < 4 or asked[3] not in _TRANSPORTS:
        return None
    match = _CLIENT.search(line, 0, opening)
    seconds = told[3]
    if match is None or not (asked[4].isdigit() and asked[6].isdigit() and told[2].isdigit()):
        return None
    client, _, port = match[1].rpartition(":")
    prefix = line[: match.start(1)]
    where = context.where
    return DnsQuery(
        source=Source(lines.file, lines.first + i),
        where=where,
        time=_time(prefix) if len(prefix) > 12 else None,
        client=client.strip("[]"),
        client_port=int(port),
        id=int(match[2]),
        qname=asked[2].rstrip(".").lower(),
        qtype=asked[0],
        transport=asked[3],
        size=int(asked[4]),
        bufsize=int(asked[6]),
        rcode="" if told[0] == "-" else told[0],
        flags=tuple(told[1].split(",")) if told[1] != "-" else (),
        answer_size=int(told[2]),
        duration=_seconds(seconds),
        server=_pod(prefix) if "coredns" in prefix else "",
    )


def _seconds(text: str) -> float | None:
    try:
        return float(text[:-1]) if text[-1] == "s" and text[-2] != "m" else duration(text)
    except ValueError:
        return duration(text)


def _time(prefix: str) -> float | None:
    stamp = _STAMP.search(prefix)
    return rfc3339(stamp[0]) if stamp else None


def _pod(prefix: str) -> str:
    match = re.search(r"(coredns-[\w-]+)", prefix)
    return match[1] if match else ""


def _other(lines: Lines, i: int, context: Context) -> Record | None:
    line = lines.text[i]
    if match := _ERROR.search(line):
        server = _SERVER.search(match["error"])
        return DnsServerError(
            source=lines.source(i),
            where=context.where,
            qname=fqdn(match["name"]),
            qtype=match["type"],
            error=error_class(match["error"]),
            upstream=(server["up"] or server["up2"] or "") if server else "",
            local=(server["local"] or "") if server else "",
            text=match["error"].strip(),
        )
    if match := _LOOP.search(line):
        return DnsServerError(
            source=lines.source(i), where=context.where, qname=fqdn(match["name"] or ""), qtype="HINFO", error="loop",
            upstream=(match["via"] or ""), text=line.strip(),
        )  # fmt: skip
    if match := _VERSION.search(line):
        return Message(
            source=lines.source(i),
            emitter="coredns",
            kind="coredns-version",
            fields=(("version", match[1]),),
            text=line.strip(),
        )
    if re.search(
        r"plugin/(forward|reload|health|ready|kubernetes): |^\s*linux/\w+, go\d|\[INFO\] linux/\w+, go", line
    ):
        return Message(source=lines.source(i), emitter="coredns", kind="coredns-note", text=line.strip())
    return None


FORMAT = LineFormat("coredns-log", _START, _read, priority=20)
