"""tshark: the summary line of each packet, and the lines that grep leaves of ``-V``."""

from __future__ import annotations

import re

import msgspec

from deadhop.evidence.fields import fqdn, integer, is_ip
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.packets import CapturedPacket, DnsSummary, Icmp, QuotedPacket
from deadhop.model.record import Record

_SUMMARY = re.compile(
    r"^\s*(?:\d+\s+)?(?P<time>(?:\d{4}-\d\d-\d\d )?[\d:]+\.\d{3,9})\s+(?P<src>[\da-fA-F.:]+)\s+(?:→|->)\s+(?P<dst>[\da-fA-F.:]+)\s+(?P<proto>[A-Z][\w./-]*)\s+(?P<length>\d+)\s+(?P<info>\S.*)$"
)
_PORTS = re.compile(r"(?P<sport>\d+) (?:→|->) (?P<dport>\d+) \[(?P<flags>[A-Z, ]+)\]")
_UDP = re.compile(r"(?P<sport>\d+) (?:→|->) (?P<dport>\d+) Len=(?P<size>\d+)")
_MSS = re.compile(r"\bMSS=(\d+)")
_SIZE = re.compile(r"\bLen=(\d+)")
_DNS = re.compile(
    r"^Standard query (?P<response>response )?0x(?P<id>[0-9a-f]{1,4}) (?P<rcode>No such name |Server failure |Refused |Format error )?(?P<type>[A-Z0-9]+) (?P<name>\S+)(?P<rest>.*)$"
)
_RCODES = {
    "No such name": "NXDOMAIN",
    "Server failure": "SERVFAIL",
    "Refused": "REFUSED",
    "Format error": "FORMERR",
}
_FLAGS = {"SYN": "S", "FIN": "F", "RST": "R", "PSH": "P", "ACK": ".", "URG": "U", "ECE": "E", "CWR": "W"}
#: Wireshark's names of ICMP messages (packet-icmp.c, packet-icmpv6.c): type and code.
_ICMP = (
    ("Fragmentation needed", 3, 4), ("Time-to-live exceeded (Fragment reassembly", 11, 1), ("Time-to-live exceeded", 11, 0), ("Port unreachable", 3, 3),
    ("Communication administratively filtered", 3, 13), ("Host administratively prohibited", 3, 10), ("Host unreachable", 3, 1), ("Network unreachable", 3, 0), ("Destination unreachable", 3, 0),
    ("Echo (ping) request", 8, 0), ("Echo (ping) reply", 0, 0), ("Redirect", 5, 0),
)  # fmt: skip
_MTU = re.compile(r"^\s*MTU(?: of next hop)?: (?P<mtu>\d{2,5})\s*$")
_DETAIL = re.compile(
    r"^\s+(?P<key>Total Length|Flags|Protocol|Source Port|Destination Port|[01.]+ .*= Flags): ?(?P<value>.*)$"
)


def _icmp(proto: str, info: str) -> Icmp | None:
    if proto == "ICMPv6":
        return Icmp(type=2, v6=True) if info.startswith("Packet Too Big") else Icmp(type=255, v6=True)
    if proto != "ICMP":
        return None
    kind, code = next(((t, c) for words, t, c in _ICMP if words in info), (255, 0))
    return Icmp(type=kind, code=code)


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    match = _SUMMARY.match(lines.text[i])
    if match is None or not (is_ip(match["src"]) and is_ip(match["dst"])):
        return i, []
    info, proto = match["info"], match["proto"]
    ends, plain = _PORTS.search(info), _UDP.search(info)
    frame = int(match["length"])
    record = CapturedPacket(
        source=lines.source(i),
        where=context.where,
        time=float(match["time"]) if re.fullmatch(r"[\d.]+", match["time"]) and match["time"].count(".") == 1 else None,
        dev=_device(context),
        src=match["src"],
        dst=match["dst"],
        proto="tcp" if ends or proto in ("TCP", "HTTP") or proto.startswith("TLS") else "icmp" if proto.startswith("ICMP") else "udp" if plain or proto == "DNS" else proto.lower(),
        length=max(0, frame - 14),
        icmp=_icmp(proto, info),
        dns=_dns(info, frame) if proto == "DNS" else None,
    )  # fmt: skip
    if ends:
        flags = "".join(_FLAGS.get(f.strip(), "") for f in ends["flags"].split(","))
        record = msgspec.structs.replace(
            record, sport=int(ends["sport"]), dport=int(ends["dport"]), tcp_flags=flags.replace(".", "") + "." * ("." in flags),
            mss=int(m[1]) if (m := _MSS.search(info)) else None, payload=int(m[1]) if (m := _SIZE.search(info)) else None,
        )  # fmt: skip
    elif plain:
        record = msgspec.structs.replace(
            record, sport=int(plain["sport"]), dport=int(plain["dport"]), payload=int(plain["size"])
        )
    elif record.dns:
        port = {"dport": 53} if not record.dns.response else {"sport": 53}
        record = msgspec.structs.replace(record, **port)
    return i + 1, [record]


def _device(context: Context) -> str:
    argv = context.command.argv if context.command and context.ran("tshark") else ()
    return next(
        (argv[k + 1] for k, w in enumerate(argv[:-1]) if re.match(r"^-\w*i$", w) and argv[k + 1] != "any"), ""
    )


def _dns(info: str, frame: int) -> DnsSummary | None:
    match = _DNS.match(info)
    if match is None:
        return None
    words = match["rest"].split()
    response = bool(match["response"])
    return DnsSummary(
        id=int(match["id"], 16), response=response, qtype=match["type"], qname=fqdn(match["name"]), edns="OPT" in words if not response else None,
        rcode=(_RCODES.get((match["rcode"] or "").strip(), "NOERROR") if response else ""),
        answers=sum(1 for w in words if w in ("A", "AAAA", "TXT", "SRV", "CNAME", "MX", "NS", "PTR")) if response else None,
        size=max(0, frame - 42),
    )  # fmt: skip


def _read_detail(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    """What ``-V`` says of an ICMP error, cut down by grep: the next hop's MTU and then the packet that is quoted."""
    run = context.command
    if run is None or "tshark" not in run.line or "-V" not in run.argv:
        return i, []
    start, mtu = i, None
    quoted: dict[str, str] = {}
    while i < len(lines.text):
        line = lines.text[i]
        if match := _MTU.match(line):
            mtu = int(match["mtu"])
        elif match := _DETAIL.match(line):
            if mtu is not None:
                key = "Flags" if match["key"].endswith("Flags") else match["key"]
                quoted.setdefault(key, match["value"])
        else:
            break
        i += 1
    if mtu is None:
        return start, []
    proto = re.search(r"\b(UDP|TCP|ICMP)\b", quoted.get("Protocol", ""))
    inner = QuotedPacket(
        proto=proto[1].lower() if proto else "", length=integer(quoted.get("Total Length")), sport=integer(quoted.get("Source Port")),
        dport=integer(quoted.get("Destination Port")), df="Don't fragment" in quoted["Flags"] if "Flags" in quoted else None,
    )  # fmt: skip
    return i, [
        CapturedPacket(source=lines.source(start, i - 1), where=context.where, proto="icmp", icmp=Icmp(type=3, code=4, mtu=mtu, quoted=inner))
    ]  # fmt: skip


FORMATS = (
    LineFormat("tshark", re.compile(r"^\s*(?:\d+\s+)?[\d:. -]*\d\.\d{3,9}\s+\S+\s+(?:→|->)\s"), _read, priority=20),
    LineFormat("tshark-detail", re.compile(r"^\s+(?:Total Length|Flags|Protocol|Source Port|MTU)|^\s*MTU(?: of next hop)?: \d|^\s+[01. ]+= Flags"), _read_detail, priority=12),
)  # fmt: skip
