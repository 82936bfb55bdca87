"""``tshark -T fields -e …``: one packet a line, its columns named by the command (Wireshark display filter reference)."""

from __future__ import annotations

import re
from typing import Any

from deadhop.evidence.asked import option
from deadhop.evidence.fields import fqdn, integer, is_ip, rfc3339, tabbed
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.http import HttpExchange
from deadhop.model.observed.message import Message
from deadhop.model.observed.packets import CapturedPacket, DnsSummary, Icmp
from deadhop.model.record import Record

_TYPES = {1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV", 64: "SVCB", 65: "HTTPS", 255: "ANY"}  # fmt: skip
_RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}
_FLAGS = (("syn", "S"), ("fin", "F"), ("reset", "R"), ("push", "P"), ("ack", "."))
_YES = frozenset({"1", "True", "true", "Set"})


def _names(argv: tuple[str, ...]) -> list[str]:
    return [argv[i + 1] for i, word in enumerate(argv[:-1]) if word == "-e"]


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    command = context.command
    if command is None or command.program != "tshark" or option(command.argv, "-T") != "fields":
        return i, []
    names = _names(command.argv)
    separator = next((w.partition("separator=")[2] for w in command.argv if "separator=" in w), "\t") or "\t"
    separator = {"/t": "\t", "/s": " "}.get(separator, separator)
    records: list[Record] = []
    start = i
    while i < len(lines.text) and lines.text[i].strip():
        cells = tabbed(lines.text[i]) if separator == "\t" else lines.text[i].split(separator)
        if len(cells) == 1 and separator == "\t":
            cells = lines.text[i].split()
        if not names or not 1 < len(cells) <= len(names):
            break
        told = {n: c.strip().strip('"') for n, c in zip(names, cells, strict=False) if c.strip()}
        if told.get(names[0]) == names[0]:  # -E header=y
            i += 1
            continue
        packet, response = _packet(lines, i, context, told), _response(lines, i, context, told)
        if packet is None and not response:
            break
        records += [*([packet] if packet else []), *response, *_tls(lines, i, context, told)]
        i += 1
    return (i, records) if records else (start, [])


def _response(lines: Lines, i: int, context: Context, told: dict[str, str]) -> list[Record]:
    """An HTTP/1 response with the codings that it names; the values of a header that stands twice are joined by commas."""
    status, codings = integer(told.get("http.response.code")), told.get("http.transfer_encoding")
    if status is None or not codings:  # two responses in one frame give two codes
        return []
    return [
        HttpExchange(
            source=lines.source(i), where=context.where, tool="capture", method="", status=status, headers=(("transfer-encoding", codings),),
        )
    ]  # fmt: skip


def _tls(lines: Lines, i: int, context: Context, told: dict[str, str]) -> list[Record]:
    """The name in a TLS hello, and an alert (``ssl.`` before Wireshark 3)."""
    ends = (("src", _one(told, "ip.src", "ipv6.src")), ("dst", _one(told, "ip.dst", "ipv6.dst")))
    fields = {
        ("sni", "tls-hello"): _one(
            told, "tls.handshake.extensions_server_name", "ssl.handshake.extensions_server_name"
        ),
        ("code", "tls-alert"): _one(told, "tls.alert_message.desc", "ssl.alert_message.desc"),
    }
    return [
        Message(
            source=lines.source(i), where=context.where, emitter="tls", kind=kind, fields=((name, value), *ends), text=lines.text[i].strip()
        )
        for (name, kind), value in fields.items()
        if value
    ]  # fmt: skip


def _one(told: dict[str, str], *names: str) -> str:
    return next((told[n].split(",")[0] for n in names if told.get(n)), "")


def _packet(lines: Lines, i: int, context: Context, told: dict[str, str]) -> CapturedPacket | None:
    src, dst = _one(told, "ip.src", "ipv6.src"), _one(told, "ip.dst", "ipv6.dst")
    if not (is_ip(src) or is_ip(dst)):
        return None
    proto = "tcp" if any(n.startswith("tcp.") for n in told) else "udp" if any(n.startswith(("udp.", "dns.")) for n in told) else ""  # fmt: skip
    dns = _dns(told)
    sport = integer(_one(told, "udp.srcport", "tcp.srcport"))
    dport = integer(_one(told, "udp.dstport", "tcp.dstport"))
    if dns is not None:
        sport, dport = (sport or 53, dport) if dns.response else (sport, dport or 53)
    mtu = integer(_one(told, "icmp.mtu"))
    kind = integer(_one(told, "icmp.type"))
    extra: dict[str, Any] = {}
    if kind is not None:
        extra["icmp"] = Icmp(type=kind, code=integer(_one(told, "icmp.code"), 0) or 0, mtu=mtu)
    df = _one(told, "ip.flags.df")
    datagram = integer(_one(told, "udp.length"))
    when = _one(told, "frame.time_epoch", "frame.time_relative")
    return CapturedPacket(
        source=lines.source(i),
        where=context.where,
        time=_seconds(when) if when else rfc3339(_one(told, "frame.time_utc", "frame.time")),
        src=src,
        dst=dst,
        proto=proto,
        sport=sport,
        dport=dport,
        length=integer(_one(told, "ip.len")),
        payload=integer(_one(told, "tcp.len")) if datagram is None else max(0, datagram - 8),
        ttl=integer(_one(told, "ip.ttl")),
        df=(df in _YES) if df else None,
        tcp_flags=_flags(told),
        mss=integer(_one(told, "tcp.options.mss_val")),
        dns=dns,
        **extra,
    )


def _seconds(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\d{1,12}(?:\.\d+)?", text) else None


def _flags(told: dict[str, str]) -> str:
    bits = integer(_one(told, "tcp.flags"))
    if bits is not None:
        return "".join(letter for bit, letter in ((2, "S"), (1, "F"), (4, "R"), (8, "P"), (16, ".")) if bits & bit)  # fmt: skip
    drawn = told.get("tcp.flags.str", "")[
        -5:
    ]  # a letter or a dot for each bit, the lowest last (packet-tcp.c)
    if drawn:
        return "".join(as_said for letter, as_said in (("S", "S"), ("F", "F"), ("R", "R"), ("P", "P"), ("A", ".")) if letter in drawn)  # fmt: skip
    return "".join(letter for name, letter in _FLAGS if _one(told, f"tcp.flags.{name}") in _YES)


def _dns(told: dict[str, str]) -> DnsSummary | None:
    name = _one(told, "dns.qry.name", "dns.resp.name")
    if not name:
        return None
    rcode = integer(_one(told, "dns.flags.rcode"))
    answered = [n for n in ("dns.a", "dns.aaaa", "dns.cname", "dns.resp.name") if told.get(n)]
    response = _one(told, "dns.flags.response") in _YES or rcode is not None or bool(answered)
    kind = integer(_one(told, "dns.qry.type"))
    count = integer(_one(told, "dns.count.answers"))
    shown = sum(len(told[n].split(",")) for n in ("dns.a", "dns.aaaa") if told.get(n))
    asked = {"dns.a", "dns.aaaa"} & told.keys()
    return DnsSummary(
        id=integer(_one(told, "dns.id")),
        response=response,
        qtype=_TYPES.get(kind, str(kind)) if kind is not None else "",
        qname=fqdn(name),
        rcode=(_RCODES.get(rcode, str(rcode)) if rcode is not None else "NOERROR") if response else "",
        answers=count if count is not None else (shown if asked else None) if response else None,
        truncated=_one(told, "dns.flags.truncated") in _YES,
    )


FORMAT = LineFormat("tshark-fields", re.compile(r"\S"), _read, priority=3)
