"""CoreDNS ``log`` lines, ``plugin/errors`` lines and the loop detector.

Shape (plugin/log, ``{common}``): ``[INFO] 10.0.0.1:4711 - 123 "A IN example.org. udp 29 false 512" NOERROR
qr,rd,ra 54 0.002s``; ``- - 0 2.0s`` where no answer was written. A prefix (pod name, time) may stand before.
"""

from __future__ import annotations

import re

from deadhop.evidence.fields import duration, fqdn, host_port, rfc3339
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.dns import DnsQuery, DnsServerError
from deadhop.model.observed.message import Message
from deadhop.model.record import Record

_QUERY = re.compile(
    r"^(?P<prefix>.*?)(?:\[INFO\] )?(?P<client>\[?[0-9a-fA-F:.]+\]?:\d+) - (?:\[[^\]]*\] )?(?P<id>\d+) "
    r"\"(?P<type>[A-Z0-9]+) (?P<class>[A-Z]+) (?P<name>\S+) (?P<proto>udp|tcp|https|tls|grpc|quic) (?P<size>\d+) (?P<do>true|false) (?P<buf>\d+)\" "
    r"(?P<rcode>[A-Z]+|-) (?P<flags>[a-z,]+|-) (?P<rsize>\d+) (?P<dur>[\d.]+m?s)"
)
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
        line = text[i]
        match = _QUERY.search(line) if '" ' in line else None
        if match:
            client, port = host_port(match["client"])
            rcode = match["rcode"]
            records.append(
                DnsQuery(
                    source=lines.source(i),
                    where=context.where,
                    time=rfc3339(match["prefix"].strip("[] ")) if match["prefix"] else None,
                    client=client,
                    client_port=port,
                    id=int(match["id"]),
                    qname=fqdn(match["name"]),
                    qtype=match["type"],
                    transport=match["proto"],
                    size=int(match["size"]),
                    bufsize=int(match["buf"]),
                    rcode="" if rcode == "-" else rcode,
                    flags=tuple(match["flags"].split(",")) if match["flags"] != "-" else (),
                    answer_size=int(match["rsize"]),
                    duration=duration(match["dur"]),
                    server=_pod(match["prefix"]),
                )
            )
        elif record := _other(lines, i, context):
            records.append(record)
        else:
            break
        i += 1
    return (i, records) if records else (start, [])


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
