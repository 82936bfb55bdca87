"""Observed failures, read off the records: one rule per kind of record, in one table."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from deadhop.model.finding import Symptom
from deadhop.model.observed.dns import DnsLookup, DnsQuery, DnsServerError
from deadhop.model.observed.http import DialFailure, HttpExchange, LocalReply
from deadhop.model.observed.kernel import MartianSource
from deadhop.model.observed.kube import ProbeFailure
from deadhop.model.observed.mesh import EnvoyAccess
from deadhop.model.observed.packets import CapturedPacket, SkbTrace
from deadhop.model.observed.policy import CiliumEvent, Flow
from deadhop.model.record import Record

#: A connection or a probe that came to nothing: not healthy, whatever else is.
FAILED = frozenset(
    {"connect-timeout", "connect-refused", "connect-reset", "connect-failure", "probe-failure"}
)
#: Symptoms of one kind and subject are reported once.
Found = tuple[str, str, str] | None


def _probe(r: ProbeFailure) -> Found:
    return "probe-failure", r.pod or r.ip, f"{r.probe} probe failed: {r.error}"


def _query(r: DnsQuery) -> Found:
    if r.rcode in ("SERVFAIL", "REFUSED") or not r.rcode:
        return "dns-failure", r.qname, f"{r.qtype} {r.qname} from {r.client}: {r.rcode or 'no answer'}"
    return None


def _lookup(r: DnsLookup) -> Found:
    return ("dns-failure", r.qname, f"{r.tool} {r.qname}: {r.status}") if r.failed else None


def _server(r: DnsServerError) -> Found:
    return "dns-failure", r.qname or r.upstream, f"DNS server: {r.error} {r.upstream or r.text}".strip()


def _dial(r: DialFailure) -> Found:
    kind = {"timeout": "connect-timeout", "refused": "connect-refused", "reset": "connect-reset"}.get(r.error)
    if r.error in ("no-such-host", "unresolved"):
        kind = "dns-failure"
    return kind or "connect-failure", r.target or r.host or r.ip, f"{r.error}: {r.target or r.host}"


def _http(r: HttpExchange) -> Found:
    if r.error:
        kind = {
            "timeout": "connect-timeout",
            "refused": "connect-refused",
            "reset": "connect-reset",
            "unresolved": "dns-failure",
        }.get(r.error)
        return kind or "connect-failure", r.url or r.host, f"{r.tool}: {r.error}"
    if r.status and r.status >= 400:
        return ("http-5xx" if r.status >= 500 else "http-4xx"), r.url or r.host, f"{r.tool} got {r.status}"
    return None


def _reply(r: LocalReply) -> Found:
    return "http-5xx", "", f"Envoy's own reply: {r.reset_reason or r.text}"


def _access(r: EnvoyAccess) -> Found:
    if r.flags and (r.status >= 400 or r.status == 0):
        return (
            ("http-5xx" if r.status >= 500 else "http-4xx" if r.status else "connect-reset"),
            r.authority or r.downstream_local,
            f"{r.status} {','.join(sorted(r.flags))} {r.details}",
        )
    return None


def _flow(r: Flow) -> Found:
    if r.denied:
        return (
            "policy-denied",
            f"{r.src.name or r.src.ip} -> {r.dst.name or r.dst.ip}:{r.dst.port or ''}",
            r.summary or r.event,
        )
    return None


def _cilium(r: CiliumEvent) -> Found:
    if r.verdict != "DROPPED":
        return None
    return (
        "policy-denied" if "olicy" in r.reason else "datapath-drop",
        f"{r.src} -> {r.dst}:{r.dport or ''}",
        r.reason,
    )


def _martian(r: MartianSource) -> Found:
    return "kernel-drop", r.dev, f"martian source {r.dst} from {r.src} on {r.dev}"


def _packet(r: CapturedPacket) -> Found:
    if r.icmp and r.icmp.too_big:
        return (
            "packet-too-big",
            f"{r.src} -> {r.dst}",
            f"ICMP says the packet does not fit (mtu {r.icmp.mtu})",
        )
    if r.dns and r.dns.response and r.dns.rcode in ("ServFail", "Refused", "SERVFAIL", "REFUSED"):
        return "dns-failure", r.dns.qname, f"{r.dns.rcode} from {r.src}"
    return None


def _skb(r: SkbTrace) -> Found:
    last = r.steps[-1]
    for step in r.steps:
        if step.func in ("__icmp_send", "icmp_send", "icmp6_send", "icmp_ndo_send"):
            return (
                "kernel-drop",
                step.func,
                f"the kernel answers with ICMP behind {r.steps[max(0, r.steps.index(step) - 1)].func}",
            )
    if last.func.startswith("kfree_skb") and last.func != "kfree_skbmem":
        return "kernel-drop", last.func, f"the kernel frees the packet ({last.reason or 'no reason given'})"
    return None


RULES: dict[type[Record], Callable[..., Found]] = {
    ProbeFailure: _probe, DnsQuery: _query, DnsLookup: _lookup, DnsServerError: _server, DialFailure: _dial,
    HttpExchange: _http, LocalReply: _reply, EnvoyAccess: _access, Flow: _flow, CiliumEvent: _cilium,
    MartianSource: _martian, CapturedPacket: _packet, SkbTrace: _skb,
}  # fmt: skip


def observe(records: Iterable[Record]) -> tuple[Symptom, ...]:
    """The symptoms in the records, in their order, each kind and subject once."""
    found: dict[tuple[str, str], Symptom] = {}
    for record in records:
        rule = RULES.get(type(record))
        result = rule(record) if rule else None
        if result:
            kind, subject, text = result
            found.setdefault(
                (kind, subject),
                Symptom(kind=kind, subject=subject, text=text, source=record.source, records=(record,)),
            )
    return tuple(found.values())
