"""``hubble observe``: the compact text of every release since 0.6, and flow JSON (``-o json``, ``-o jsonpb``)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from deadhop.evidence.fields import fqdn, host_port, integer, is_ip, rfc3339, syslog_time
from deadhop.evidence.format import Context, LineFormat, Lines, Locate, ValueFormat
from deadhop.model.observed.policy import DnsFlow, Flow, FlowEnd
from deadhop.model.record import Record

_VERDICT = "FORWARDED|DROPPED|ERROR|AUDIT(?:ED)?|REDIRECTED|TRACED|TRANSLATED|DENIED|ALLOWED"
_LINE = re.compile(
    r"^\s*(?:(?P<time>[A-Z][a-z]{2} +\d+ \d\d:\d\d:\d\d(?:\.\d+)?|\d{4}-\d\d-\d\dT\S+?)(?: \[(?P<node>[^\]]+)\])?: )?"
    r"(?P<left>\S+?)(?: \((?P<lid>[^)]*)\))? (?P<arrow>->|<-|<>) (?P<right>\S+?)(?: \((?P<rid>[^)]*)\))? "
    rf"(?P<event>\S.*?) (?P<verdict>{_VERDICT})(?: \((?P<summary>.*)\))?\s*$"
)
#: What a line without its time (cut off by whoever pasted it) must show to be one: an event or an identity of Cilium.
_OWN = re.compile(
    r"^(?:policy-verdict:|Policy denied|to-(?:endpoint|stack|overlay|host|proxy|network)|from-\w+$|(?:dns|http|kafka)-"
    r"(?:request|response)|(?:pre|post)-xlate-)|\b[A-Z][\w ]+ (?:dropped|not found|not supported)$"
)
_START = re.compile(
    r" (?:->|<-|<>) \S+.* (?:FORWARDED|DROPPED|ERROR|AUDIT(?:ED)?|REDIRECTED|TRACED|TRANSLATED|DENIED|ALLOWED)\b"
)
_QUERY = re.compile(r"^DNS Query (?P<name>\S+) (?P<types>\S+)$")
_ANSWER = re.compile(
    r"^DNS Answer (?P<told>.*?)\s*(?:TTL: (?P<ttl>\d+) )?\((?P<source>\w+) (?P<name>\S+) (?P<types>\S+)\)"
    r"(?P<more>(?: CNAMEs: \"[^\"]*\")?)$"
)
_RCODE = re.compile(r"RCode: (?P<text>[A-Z][\w -]*)")
_QUOTED = re.compile(r"(?P<cname>CNAMEs: )?\"(?P<list>[^\"]*)\"")
_RCODES = {
    "Format Error": "FORMERR",
    "Server Failure": "SERVFAIL",
    "Non-Existent Domain": "NXDOMAIN",
    "Not Implemented": "NOTIMP",
    "Query Refused": "REFUSED",
}


def _time(text: str | None, year: int | None) -> float | None:
    if not text:
        return None
    return rfc3339(text) if text[:1].isdigit() else syslog_time(text, year)


_DNS = re.compile(r"(?=.*[a-zA-Z])[\w-]+(?:\.[\w-]+)+\.?")


def _end(text: str, identity: str | None) -> FlowEnd:
    name = re.sub(r"\([\w-]+\)$", "", text)
    host, port = host_port(name)
    ident = (identity or "").removeprefix("ID:")
    if is_ip(host) and "." in ident and not is_ip(ident) and _DNS.fullmatch(ident):
        # The name by which the proxy learned the address, beside it.
        return FlowEnd(name=ident.lower().rstrip("."), ip=host, port=port)
    return FlowEnd(
        name="" if is_ip(host) else host, ip=host if is_ip(host) else "", port=port, identity=ident
    )


def _dns(summary: str) -> DnsFlow | None:
    if match := _QUERY.match(summary):
        return DnsFlow(qname=fqdn(match["name"]), qtypes=tuple(match["types"].split(",")))
    match = _ANSWER.match(summary)
    if not match:
        return None
    told = match["told"] + match["more"]
    rcode = _RCODE.search(told)
    ips: tuple[str, ...] = ()
    cnames: tuple[str, ...] = ()
    for quoted in _QUOTED.finditer(told):
        values = tuple(v for v in quoted["list"].split(",") if v)
        if quoted["cname"]:
            cnames = tuple(fqdn(v) for v in values)
        else:
            ips = values
    return DnsFlow(
        qname=fqdn(match["name"]),
        qtypes=tuple(match["types"].split(",")),
        response=True,
        rcode=_RCODES.get(rcode["text"].strip(), "OTHER") if rcode else "NOERROR",
        ips=ips,
        cnames=cnames,
        ttl=integer(match["ttl"]),
        source=match["source"].lower(),
    )


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    records: list[Record] = []
    text = lines.text
    start = i
    while (
        i < len(text) and (match := _LINE.match(text[i])) and (match["time"] or _OWN.search(match["event"]))
    ):
        reply = {"->": False, "<-": True}.get(match["arrow"])
        left, right = _end(match["left"], match["lid"]), _end(match["right"], match["rid"])
        src, dst = (right, left) if reply else (left, right)
        summary = match["summary"] or ""
        event = match["event"]
        verdict = match["verdict"]
        when = match["time"]
        proto = summary.split(" ")[0] if summary.startswith(("TCP", "UDP", "ICMP", "SCTP")) else ""
        flags = summary.partition("Flags: ")[2]
        records.append(
            Flow(
                source=lines.source(i),
                where=context.where,
                time=_time(when, context.year),
                node=match["node"] or "",
                src=src,
                dst=dst,
                reply=reply,
                event=event,
                verdict="DROPPED" if verdict == "DENIED" else verdict,
                proto=proto,
                tcp_flags=flags,
                direction="EGRESS" if "EGRESS" in event else "INGRESS" if "INGRESS" in event else "",
                drop_reason=event if verdict == "DROPPED" else "",
                summary=summary,
                dns=_dns(summary) if summary.startswith("DNS ") else None,
            )
        )
        i += 1
    return (i, records) if records else (start, [])


def _match(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    flow = value.get("flow", value)
    return (
        isinstance(flow, dict)
        and "verdict" in flow
        and bool(flow.keys() & {"IP", "l4", "l7", "source", "Type"})
    )


def _json_end(flow: dict[str, Any], side: str) -> FlowEnd:
    end = flow.get(side)
    end = end if isinstance(end, dict) else {}
    ip = flow.get("IP")
    l4 = flow.get("l4")
    port = None
    if isinstance(l4, dict):
        for value in l4.values():
            if isinstance(value, dict):
                port = integer(str(value.get(f"{side}_port", "")))
    names = flow.get(f"{side}_names")
    labels = tuple(str(label) for label in end.get("labels") or () if isinstance(label, str))
    pod = str(end.get("pod_name") or "")
    name = (
        f"{end.get('namespace', '')}/{pod}"
        if pod
        else (",".join(map(str, names)) if isinstance(names, list) else "")
    )
    reserved = next((label.partition(":")[2] for label in labels if label.startswith("reserved:")), "")
    return FlowEnd(
        name=name,
        ip=str(ip.get(side, "")) if isinstance(ip, dict) else "",
        port=port,
        identity=reserved or str(end.get("identity", "")),
        labels=labels,
    )


def _read_json(value: Any, locate: Locate, context: Context) -> Iterable[Record]:
    flow = value.get("flow", value)
    l7 = flow.get("l7")
    l4 = flow.get("l4")
    dns = l7.get("dns") if isinstance(l7, dict) else None
    when = str(flow.get("time") or value.get("time") or "")
    tcp = l4.get("TCP") if isinstance(l4, dict) else None
    flags = tcp.get("flags") if isinstance(tcp, dict) else None
    reply = flow.get("is_reply")
    if isinstance(reply, dict):
        reply = bool(reply.get("value", False))
    kind = l7.get("type") if isinstance(l7, dict) else ""
    yield Flow(
        source=locate(),
        where=context.where,
        time=rfc3339(when) if when else None,
        node=str(flow.get("node_name") or value.get("node_name") or ""),
        src=_json_end(flow, "source"),
        dst=_json_end(flow, "destination"),
        reply=reply if isinstance(reply, bool) else None,
        event=f"dns-{str(kind).lower()} proxy"
        if isinstance(dns, dict)
        else str(flow.get("event_type", {}).get("type", ""))
        if isinstance(flow.get("event_type"), dict)
        else "",
        verdict=str(flow.get("verdict", "")),
        proto=next(iter(l4), "") if isinstance(l4, dict) else "",
        tcp_flags=", ".join(k for k, v in flags.items() if v is True) if isinstance(flags, dict) else "",
        direction=str(flow.get("traffic_direction", "")),
        drop_reason=str(flow.get("drop_reason_desc") or flow.get("drop_reason") or ""),
        summary=str(flow.get("Summary", "")) or _frame(flow),
        dns=_json_dns(dns, str(kind)) if isinstance(dns, dict) else None,
    )


def _frame(flow: dict[str, Any]) -> str:
    """The link-layer addresses of a frame that holds no IP packet."""
    ends = flow.get("ethernet")
    if not isinstance(ends, dict) or flow.get("IP"):
        return ""
    return f"{ends.get('source', '')} -> {ends.get('destination', '')}"


def _json_dns(dns: dict[str, Any], kind: str) -> DnsFlow:
    codes = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}
    rcode = integer(str(dns.get("rcode", 0)), 0) or 0
    return DnsFlow(
        qname=fqdn(str(dns.get("query", ""))),
        qtypes=tuple(str(t) for t in dns.get("qtypes") or ()),
        response=kind == "RESPONSE",
        rcode=codes.get(rcode, str(rcode)) if kind == "RESPONSE" else "",
        ips=tuple(str(ip) for ip in dns.get("ips") or ()),
        cnames=tuple(fqdn(str(c)) for c in dns.get("cnames") or ()),
        ttl=integer(str(dns.get("ttl", ""))),
        source=str(dns.get("observation_source", "")),
    )


FORMATS = (
    LineFormat("hubble-compact", _START, _read, priority=15),
    ValueFormat("hubble-json", _match, _read_json, priority=10),
)
