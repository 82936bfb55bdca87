"""DNS answers of hubble's flow JSON (``hubble observe -o json`` or ``jsonpb``) as the rows that CoreDNS lines give."""

from __future__ import annotations

import msgspec

_RCODES = {0: b"NOERROR", 1: b"FORMERR", 2: b"SERVFAIL", 3: b"NXDOMAIN", 4: b"NOTIMP", 5: b"REFUSED"}


class _Dns(msgspec.Struct):
    query: str = ""
    qtypes: list[str] = []
    rcode: int = 0


class _L7(msgspec.Struct):
    type: str = ""
    latency_ns: int | str = 0
    dns: _Dns | None = None


class _End(msgspec.Struct):
    namespace: str = ""
    pod_name: str = ""


class _Ip(msgspec.Struct):
    source: str = ""
    destination: str = ""


class _L4(msgspec.Struct):
    TCP: msgspec.Raw | None = None


class _Flow(msgspec.Struct):
    l7: _L7 | None = None
    source: _End = msgspec.field(default_factory=_End)
    destination: _End = msgspec.field(default_factory=_End)
    IP: _Ip = msgspec.field(default_factory=_Ip)
    l4: _L4 = msgspec.field(default_factory=_L4)


class _Line(msgspec.Struct):
    flow: _Flow | None = None
    l7: _L7 | None = None


_line = msgspec.json.Decoder(_Line)
_bare = msgspec.json.Decoder(_Flow)


def hubble_rows(block: bytes) -> list[tuple[bytes, bytes, bytes, bytes, bytes, bytes]]:
    """One row for each answer; lines that are no flow, and flows without a DNS answer, are passed over.

    The client of an answer is the flow's destination.
    """
    rows = []
    for line in block.split(b"\n"):
        if b'"dns"' not in line:
            continue
        try:
            flow = _line.decode(line).flow or _bare.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        l7 = flow.l7
        if l7 is None or l7.dns is None or l7.type != "RESPONSE":
            continue
        end = flow.destination
        client = f"{end.namespace}/{end.pod_name}" if end.pod_name else flow.IP.destination
        transport = b"tcp" if flow.l4.TCP is not None else b"udp"
        rcode = _RCODES.get(l7.dns.rcode, b"RCODE%d" % l7.dns.rcode)
        try:
            seconds = b"%.9f" % (int(l7.latency_ns) / 1e9)
        except ValueError:
            seconds = b"0"
        name = l7.dns.query.encode()
        for qtype in l7.dns.qtypes or [""]:
            rows.append((client.encode(), qtype.encode(), name, transport, rcode, seconds))
    return rows
