"""tcpdump text: with and without ``-n``, ``-e``, ``-v`` (two lines a packet), ``-i any`` (device and direction)."""

from __future__ import annotations

import re

from deadhop.evidence.fields import dotted_port, fqdn, integer, is_ip, syslog_time
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.packets import ArpPacket, CapturedPacket, DnsSummary, Icmp, QuotedPacket
from deadhop.model.record import Record

_TIME = r"(?:(?P<date>\d{4}-\d\d-\d\d )?(?P<time>\d\d:\d\d:\d\d\.\d+|\d+\.\d{6}) )?"
_HEAD = re.compile(
    rf"^\s*{_TIME}(?:(?P<dev>[a-zA-Z][\w.@-]*)\s+(?P<dir>In|Out|B|M|P)\s+)?"
    r"(?:(?:ifindex \d+ )?(?P<esrc>[0-9a-f]{2}(?::[0-9a-f]{2}){5}) (?:\(oui [^)]*\) )?> (?P<edst>[0-9a-f]{2}(?::[0-9a-f]{2}){5}|Broadcast)(?: \(oui [^)]*\))?, ethertype (?P<etype>[^,]+)(?: \(0x[0-9a-f]+\))?, length \d+: )?"
    r"(?P<ip>IP6?)?\s?(?P<opts>\((?:tos|flowlabel|class|hlim)[^\n]*?(?:length|payload length:?) \d+(?:, bad cksum[^)]*)?(?:, options \([^)]*\))?\))?\s*(?P<rest>.*)$"
)
_PAIR = re.compile(r"^\s*(?P<src>[\w.:-]+) > (?P<dst>[\w.:-]+?): (?P<what>.*)$")
_ICMP = re.compile(
    r"ICMP6?,? (?P<host>\S+)? ?(?P<kind>unreachable|udp port \S+ unreachable|tcp port \S+ unreachable|protocol \d+ unreachable|echo request|echo reply|time exceeded in-transit|ip reassembly time exceeded|redirect)"
)
_FRAG = re.compile(r"unreachable - need to frag \(mtu (?P<mtu>\d+)\)|packet too big, mtu (?P<mtu6>\d+)", re.I)
_FLAGS = re.compile(r"Flags \[(?P<flags>[^\]]*)\]")
_MSS = re.compile(r"\bmss (\d+)")
_LENGTH = re.compile(r"\blength (\d+)\s*(?:$|[:)])")
_DNS_Q = re.compile(
    r"^(?P<id>\d+)(?P<op>[+%*]*)(?: \[[^\]]*\])* (?P<type>[A-Z0-9]+)\? (?P<name>\S+) \((?P<size>\d+)\)"
)
_DNS_A = re.compile(
    r"^(?P<id>\d+)(?P<rcode> ?(?:NXDomain|ServFail|Refused|FormErr|NotImp|YXDomain|NotAuth))?(?P<flags>[*|$-]*) (?:q: (?P<qt>[A-Z0-9]+)\? (?P<name>\S+) )?(?P<an>\d+)/\d+/\d+(?P<rest>.*?)\((?P<size>\d+)\)"
)
_ID = re.compile(r"\bid (\d+)")
_OPTS = re.compile(r"(?:ttl|hlim) (?P<ttl>\d+)")
_OFFSET = re.compile(r"offset (\d+), flags \[([^\]]*)\]")
_ARP = re.compile(
    r"^\s*(?:\d\d:\d\d:\d\d\.\d+ )?(?:(?P<dev>[a-zA-Z][\w.@-]*)\s+(?:In|Out|B)\s+)?(?:.*ethertype ARP[^:]*: )?ARP, .*?(?P<op>Request who-has|Reply) (?P<target>[\d.]+)(?: \([^)]*\))?(?:,? tell (?P<sender>[\d.]+)| is-at (?P<mac>[0-9a-f:]+))?"
)
_START = re.compile(
    r"^\s*(?:\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d\.\d+ |^\s*IP6? |^\s*[a-zA-Z][\w.@-]*\s+(?:In|Out)\s+IP6? |^\s*[\w.:-]+ > [\w.:-]+: (?:Flags|UDP|ICMP|\d+)|ethertype IPv|^\s*ARP, |^tcpdump: "
)
_RCODE = {"NXDomain": "NXDOMAIN", "ServFail": "SERVFAIL", "Refused": "REFUSED", "FormErr": "FORMERR"}


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    line = lines.text[i]
    if line.startswith("tcpdump: ") or re.match(
        r"^\s*(?:listening on|dropped privs|reading from file|\d+ packets? (?:captured|received|dropped))",
        line,
    ):
        return i + 1, []
    if arp := _ARP.match(line):
        operation = "request" if "who-has" in arp["op"] else "reply"
        return i + 1, [
            ArpPacket(
                source=lines.source(i),
                where=context.where,
                dev=arp["dev"] or "",
                operation=operation,
                target=arp["target"],
                sender=arp["sender"] or "",
                mac=arp["mac"] or "",
            )
        ]
    head = _HEAD.match(line)
    if head is None:
        return i, []
    rest, end = head["rest"], i
    opts = head["opts"] or ""
    if not rest and opts and i + 1 < len(lines.text):
        rest, end = lines.text[i + 1], i + 1
    pair = _PAIR.match(rest)
    if pair is None or not (head["ip"] or head["time"] or "Flags [" in rest or "ICMP" in rest):
        return i, []
    src, sport = dotted_port(pair["src"])
    dst, dport = dotted_port(pair["dst"])
    if not (is_ip(src) and is_ip(dst)) and not (head["time"] and head["ip"]):
        return i, []
    quoted_line = ""
    if end + 1 < len(lines.text) and "ICMP" in pair["what"] and re.match(r"^\s+IP6? ", lines.text[end + 1]):
        end += 1
        quoted_line = lines.text[end]
        following = _HEAD.match(lines.text[end + 1]) if end + 1 < len(lines.text) else None
        if following and not following["time"] and _PAIR.match(lines.text[end + 1]):
            end += 1
            quoted_line += " " + lines.text[end]
    what = pair["what"]
    offset = _OFFSET.search(opts)
    ttl = _OPTS.search(opts)
    total = (
        re.search(
            r"(?:payload )?length:? (\d+)",
            opts.rsplit("length", 1)[0] + "length" + opts.rsplit("length", 1)[-1],
        )
        if opts
        else None
    )
    length = int(total[1]) + (40 if "payload" in opts else 0) if total else None
    flags = _FLAGS.search(what)
    payload = _LENGTH.search(what)
    mss = _MSS.search(what)
    icmp = _icmp(what, quoted_line)
    dns = None if flags or icmp else _dns(what)
    proto = "tcp" if flags else "icmp" if icmp else "udp" if dns or "UDP" in what or sport else ""
    if proto == "" and (found := re.search(r"proto:? (\w+)", opts)):
        proto = found[1].lower()
    record = CapturedPacket(
        source=lines.source(i, end),
        where=context.where,
        time=_when(head),
        dev=head["dev"] or _device(context),
        direction=(head["dir"] or "").lower(),
        eth_src=head["esrc"] or "",
        eth_dst=head["edst"] or "",
        src=src,
        dst=dst,
        proto=proto,
        sport=sport,
        dport=dport,
        length=length,
        payload=int(payload[1]) if payload else dns.size if dns else None,
        ttl=int(ttl["ttl"]) if ttl else None,
        df=("DF" in offset[2]) if offset else None,
        id=int(ident[1]) if (ident := _ID.search(opts)) else None,
        more_fragments="+" in offset[2] if offset else False,
        fragment_offset=int(offset[1]) if offset else 0,
        tcp_flags=flags["flags"] if flags else "",
        mss=int(mss[1]) if mss else None,
        bad_checksum="bad udp cksum" in what or ("cksum" in what and "incorrect" in what and "-> 0x" in what),
        icmp=icmp,
        dns=dns,
    )
    return end + 1, [record]


def _when(head: re.Match[str]) -> float | None:
    if not head["time"]:
        return None
    if ":" not in head["time"]:
        return float(head["time"])
    return syslog_time(f"Jan 1 {head['time']}")


def _device(context: Context) -> str:
    argv = context.command.argv if context.command and context.command.program == "tcpdump" else ()
    for k, word in enumerate(argv[:-1]):
        if re.match(r"^-\w*i$", word):
            return "" if argv[k + 1] == "any" else argv[k + 1]
    return ""


def _icmp(what: str, quoted: str) -> Icmp | None:
    if not what.startswith(("ICMP", "ICMP6")):
        return None
    v6 = what.startswith("ICMP6")
    inner = _quoted(quoted)
    if found := _FRAG.search(what):
        if v6 or found["mtu6"]:
            return Icmp(type=2, mtu=integer(found["mtu6"] or found["mtu"]), v6=True, quoted=inner)
        return Icmp(type=3, code=4, mtu=int(found["mtu"]), quoted=inner)
    if "reassembly time exceeded" in what:
        return Icmp(type=11, code=1, quoted=inner)
    if "time exceeded" in what:
        return Icmp(type=11, code=0, quoted=inner)
    if "echo request" in what:
        return Icmp(type=128 if v6 else 8, v6=v6)
    if "echo reply" in what:
        return Icmp(type=129 if v6 else 0, v6=v6)
    if "port" in what and "unreachable" in what:
        return Icmp(type=3, code=3, quoted=inner)
    if "admin prohibited" in what:
        return Icmp(type=3, code=13 if "filter" in what else 10, quoted=inner)
    if "host" in what and "unreachable" in what:
        return Icmp(type=3, code=1, quoted=inner)
    if "unreachable" in what:
        return Icmp(type=3, code=0, quoted=inner)
    if "redirect" in what:
        return Icmp(type=5)
    return Icmp(type=255)


def _quoted(text: str) -> QuotedPacket | None:
    if not text:
        return None
    pair = re.search(r"([\w.:-]+) > ([\w.:-]+?): ?(.*)$", text)
    if not pair:
        return None
    src, sport = dotted_port(pair[1])
    dst, dport = dotted_port(pair[2])
    proto = re.search(r"proto (\w+)", text)
    length = re.search(r"length (\d+)\)", text)
    return QuotedPacket(
        src=src, dst=dst, sport=sport, dport=dport, proto=proto[1].lower() if proto else ("udp" if sport else ""),
        length=int(length[1]) if length else None, df=("[DF]" in text) if "flags [" in text else None,
    )  # fmt: skip


def _dns(what: str) -> DnsSummary | None:
    what = re.sub(r"^\[[^\]]*udp[^\]]*\] ", "", what)
    if match := _DNS_Q.match(what):
        return DnsSummary(
            id=int(match["id"]),
            qtype=match["type"],
            qname=fqdn(match["name"]),
            size=int(match["size"]),
            edns="au]" in what,
        )
    if match := _DNS_A.match(what):
        return DnsSummary(
            id=int(match["id"]), response=True, qtype=match["qt"] or "", qname=fqdn(match["name"] or ""), answers=int(match["an"]),
            rcode=_RCODE.get((match["rcode"] or "").strip(), (match["rcode"] or "").strip().upper() or "NOERROR"),
            truncated="|" in match["flags"], size=int(match["size"]),
        )  # fmt: skip
    return None


FORMAT = LineFormat("tcpdump", _START, _read, priority=22)
