"""What DNS servers and forwarders other than current CoreDNS complain about: kube-dns (SkyDNS), dnsmasq, old CoreDNS.

SkyDNS: ``skydns: failure to forward request "read udp A->B: i/o timeout"``. dnsmasq: ``nameserver A refused to do a
recursive query``. CoreDNS up to 1.2: ``[ERROR] 2 name. A: unreachable backend: …`` without the plugin's name.
"""

from __future__ import annotations

import re
from typing import Any

from deadhop.evidence.fields import fqdn
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.evidence.formats.coredns_log import error_class
from deadhop.model.observed.dns import DnsServerError
from deadhop.model.record import Record

_SKYDNS = re.compile(
    r"skydns: (?:failure to (?:forward|return) (?:request|stub)\S*|error from backend:?) \"?(?P<error>[^\"]*)"
)
_OLD = re.compile(r"\[ERROR(?:\]|) (?P<code>\d+) (?P<name>\S+) (?P<type>[A-Z0-9]+): (?P<error>.+?)\]?$")
_DNSMASQ_REFUSED = re.compile(r"dnsmasq\[\d+\]: nameserver (?P<up>\S+) refused to do a recursive query")
_DNSMASQ_LOOP = re.compile(
    r"dnsmasq\[\d+\]: (?:detected DNS forwarding loop|ignoring nameserver (?P<up>\S+) - (?:local interface|DNS forwarding loop))"
)
_DNSMASQ_BUSY = re.compile(r"dnsmasq\[\d+\]: Maximum number of concurrent DNS queries reached")
_DNSMASQ_SHRUNK = re.compile(
    r"dnsmasq\[\d+\]: reducing DNS packet size for nameserver (?P<up>\S+) to (?P<size>\d+)"
)
_PAIR = re.compile(
    r"(?:read|write) (?:udp|tcp) (?P<local>\S+?)->(?P<up>\S+?): |dial (?:udp|tcp)\S* (?P<up2>\S+?): "
)
_START = re.compile(r"skydns: |\[ERROR\]? \d+ \S+ [A-Z0-9]+: |dnsmasq\[\d+\]: ")


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    line = lines.text[i]
    common: dict[str, Any] = {"source": lines.source(i), "where": context.where}
    if (match := _SKYDNS.search(line)) or (match := _OLD.search(line)):
        said = match.groupdict()
        pair = _PAIR.search(match["error"])
        return i + 1, [
            DnsServerError(
                **common, qname=fqdn(said.get("name") or ""), qtype=said.get("type") or "", error=error_class(match["error"]),
                upstream=(pair["up"] or pair["up2"] or "").strip('"') if pair else "", local=(pair["local"] or "") if pair else "", text=match["error"].strip(),
            )
        ]  # fmt: skip
    for pattern, error in (
        (_DNSMASQ_REFUSED, "refused"),
        (_DNSMASQ_LOOP, "loop"),
        (_DNSMASQ_BUSY, "overload"),
        (_DNSMASQ_SHRUNK, "shrunk"),
    ):
        if match := pattern.search(line):
            return i + 1, [
                DnsServerError(
                    **common, error=error, upstream=match.groupdict().get("up") or "", text=line.strip()[:300]
                )
            ]
    return i, []


FORMAT = LineFormat("dns-server-log", _START, _read, priority=30)
