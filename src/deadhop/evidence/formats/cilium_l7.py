"""L7 lines of ``cilium-dbg monitor``: requests and responses of the proxies, with their verdict.

``<- Request dns from ID ([LABELS]) to ID ([LABELS]), identity A->B, verdict Forwarded DNS Query: NAME TYPE`` and the response
with TTL, Answer and CNAMEs (cilium pkg/monitor/logrecord.go DumpInfo).
"""

from __future__ import annotations

import re

from deadhop.evidence.fields import fqdn, integer, is_ip
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.policy import DnsFlow, Flow, FlowEnd
from deadhop.model.record import Record

_LINE = re.compile(
    r"^\s*(?:->|<-) (?P<kind>Request|Response) (?P<proto>\w+) (?:from|to) (?P<one>\d+) \((?P<labels1>.*?)\) (?:to|from) (?P<two>\d+) \((?P<labels2>.*?)\), "
    r"identity (?P<src>[\w-]+)->(?P<dst>[\w-]+), verdict (?P<verdict>\w+)(?P<rest>.*)$"
)
_DNS = re.compile(r"^ DNS [\w ]+?: (?P<name>\S+) (?P<types>[A-Z0-9,]+)(?P<rest>.*)$")
_TTL = re.compile(r"\bTTL: (\d+)")
_ANSWER = re.compile(r"\bAnswer: '(?P<ips>[^']*)'")
_CNAMES = re.compile(r"\bCNAMEs?: '?(?P<names>[\w.,\- ]+)")
_RCODE = re.compile(
    r"\bR[Cc]ode: ?(\w+)|\b(NXDOMAIN|SERVFAIL|REFUSED|Non-Existent Domain|Server Failure|Query Refused)\b"
)
_RCODES = {"Non-Existent Domain": "NXDOMAIN", "Server Failure": "SERVFAIL", "Query Refused": "REFUSED"}
_VERDICTS = {
    "denied": "DROPPED",
    "forwarded": "FORWARDED",
    "error": "ERROR",
    "audit": "AUDIT",
    "redirected": "REDIRECTED",
}


def _labels(text: str) -> tuple[str, ...]:
    return tuple(text.strip("[]").split())


def _end(identity: str, labels: tuple[str, ...]) -> FlowEnd:
    return FlowEnd(identity=identity, labels=labels)


def _dns(rest: str, response: bool) -> DnsFlow | None:
    match = _DNS.match(rest)
    if match is None:
        return None
    told = match["rest"]
    ttl, ips, names, rcode = (
        _TTL.search(told),
        _ANSWER.search(told),
        _CNAMES.search(told),
        _RCODE.search(told),
    )
    code = (rcode[1] or rcode[2]) if rcode else "NOERROR"
    return DnsFlow(
        qname=fqdn(match["name"]),
        qtypes=tuple(t for t in match["types"].split(",") if t),
        response=response,
        rcode=_RCODES.get(code, code.upper()) if response else "",
        ips=tuple(ip for ip in re.split(r"[,\s]+", ips["ips"]) if is_ip(ip)) if ips else (),
        cnames=tuple(fqdn(n) for n in re.split(r"[,\s]+", names["names"]) if "." in n) if names else (),
        ttl=integer(ttl[1]) if ttl else None,
        source="proxy",
    )


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    match = _LINE.match(lines.text[i])
    if match is None:
        return i, []
    response = match["kind"] == "Response"
    one, two = _labels(match["labels1"]), _labels(match["labels2"])
    src_labels, dst_labels = (two, one) if response else (one, two)
    verdict = _VERDICTS.get(match["verdict"].lower(), match["verdict"].upper())
    flow = Flow(
        source=lines.source(i),
        where=context.where,
        src=_end(match["src"], src_labels),
        dst=_end(match["dst"], dst_labels),
        reply=response,
        event=f"{match['proto']}-{match['kind'].lower()} proxy",
        verdict=verdict,
        proto="",
        drop_reason="Policy denied" if verdict == "DROPPED" else "",
        summary=match["rest"].strip(),
        dns=_dns(match["rest"], response) if match["proto"] == "dns" else None,
    )
    return i + 1, [flow]


FORMAT = LineFormat(
    "cilium-l7", re.compile(r"^\s*(?:->|<-) (?:Request|Response) \w+ (?:from|to) \d+ \("), _read, priority=17
)
