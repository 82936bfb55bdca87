"""What the answers of many servers, transports and places say together. Pure.

A fault is something that a client meets now; a risk is what it meets where a link on the way is smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby

import msgspec

from deadhop.dns.probe import Tried

MTUS = {
    1500: "Ethernet",
    1450: "VXLAN over Ethernet",
    1400: "WireGuard, IPsec, GRE or a VPN",
    1280: "the least of IPv6",
}
"""Links that pods meet (RFC 7348, RFC 8200 section 5)."""
UDP_HEADERS = {4: 28, 6: 48}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """``kind`` is stable; ``severity`` is ``fault``, ``risk`` or ``note``; ``server`` empty where several are meant."""

    kind: str
    severity: str
    name: str
    type: str
    text: str
    server: str = ""
    where: str = "here"


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """An answer against an MTU: octets of DNS message and of the IP packet, and what becomes of it."""

    name: str
    type: str
    server: str
    message: int
    packet: int
    mtu: int
    link: str
    outcome: str


def outcome(tried: Tried) -> str:
    """An rcode, NODATA for an answer without records, or the error."""
    if tried.error:
        return tried.error
    if tried.rcode == "NOERROR" and not tried.records and not tried.truncated:
        return "NODATA"
    return tried.rcode


def judge(results: Sequence[Tried]) -> list[Finding]:
    """Every finding, faults first."""
    found: list[Finding] = []
    for (name, rtype), same in _grouped(results, lambda t: (t.name, t.type)):
        found += _between(name, rtype, same)
        for (server, where), one in _grouped(same, lambda t: (t.server, t.where)):
            found += [
                Finding(
                    kind=kind, severity=severity, name=name, type=rtype, text=text, server=server, where=where
                )
                for kind, severity, text in _of_one(one)
            ]
    return sorted(found, key=lambda f: ("fault", "risk", "note").index(f.severity))


def _grouped(
    results: Iterable[Tried], key: Callable[[Tried], tuple[str, str]]
) -> list[tuple[tuple[str, str], list[Tried]]]:
    found: dict[tuple[str, str], list[Tried]] = {}
    for tried in results:
        found.setdefault(key(tried), []).append(tried)
    return list(found.items())


def _of_one(results: list[Tried]) -> Iterator[tuple[str, str, str]]:
    """(kind, severity, text) of one server, asked from one place."""
    answered = [t for t in results if not t.error]
    if not answered:
        errors = sorted({t.error for t in results})
        yield "server-silent", "fault", f"no answer by {_ways(results)}: {', '.join(errors)}"
        return
    tcp = next((t for t in results if t.transport == "tcp"), None)
    full = max((t.size for t in answered if not t.truncated), default=0)
    for tried in results:
        if tried.error and tried.transport == "udp":
            packet = full + UDP_HEADERS[_version(tried.server)]
            why = (
                f"; the whole answer is {full} octets, a packet of {packet}: a link with a smaller MTU drops it"
                if (full > 512 and tried.edns and full <= tried.edns)
                else ""
            )
            yield (
                "udp-lost",
                "fault",
                f"{tried.error} by {tried.way}, while {_ways(answered)} is answered{why}",
            )
        elif not tried.error and tried.tries > 1:
            yield "needed-retry", "note", f"{tried.way} was answered at try {tried.tries} only"
        limit = max(512, tried.edns or 0)
        if not tried.error and tried.transport == "udp" and tried.size > limit:
            yield (
                "oversize-without-tc",
                "fault",
                (
                    f"{tried.way}: an answer of {tried.size} octets to a client that takes {limit}"
                    + ("" if tried.truncated else ", without TC: clients cut it off or give up")
                ),
            )
        if tried.fragment:
            yield (
                "fragmented",
                "risk",
                (
                    f"{tried.way}: the answer came in fragments of at most {tried.fragment} octets; what drops fragments loses it"
                ),
            )
    if tcp is not None and tcp.error:
        cut = [t for t in answered if t.truncated]
        if cut:
            yield (
                "truncated-without-tcp",
                "fault",
                (
                    f"{_ways(cut)} is truncated, and TCP is not answered ({tcp.error}): clients never get the whole answer"
                ),
            )
        else:
            yield (
                "tcp-silent",
                "risk",
                f"TCP is not answered ({tcp.error}): an answer that does not fit UDP is lost",
            )
    rcodes = {outcome(t) for t in answered if not t.truncated}
    if len(rcodes) > 1:
        told = ", ".join(f"{t.way}: {outcome(t)}" for t in answered if not t.truncated)
        yield "transports-differ", "fault", f"the answer depends on the transport ({told})"
    biggest = max(
        (t for t in answered if t.transport == "udp" and not t.truncated), key=lambda t: t.size, default=None
    )
    if biggest is not None:
        packet = biggest.size + UDP_HEADERS[_version(biggest.server)]
        broken = [mtu for mtu in MTUS if packet > mtu]
        if broken:
            df = {True: "with DF set, so it is dropped", False: "without DF, so it is fragmented",
                  None: "dropped if DF is set, else fragmented"}[biggest.df]  # fmt: skip
            yield (
                "exceeds-mtu",
                "risk",
                (
                    f"{biggest.way}: an answer of {biggest.size} octets is a packet of {packet}, {df} at an MTU of {broken[0]}"
                    + (" or less" if broken[0] != 1280 else "")
                ),
            )


def _between(name: str, rtype: str, results: list[Tried]) -> Iterator[Finding]:
    """What servers, or places, tell differently."""

    def told(one: list[Tried]) -> tuple[str, tuple[str, ...]] | None:
        whole = [t for t in one if not t.error and not t.truncated]
        best = max(whole, key=lambda t: len(t.records), default=None)
        return (outcome(best), best.records) if best is not None else None

    for where, there in groupby(sorted(results, key=lambda t: t.where), key=lambda t: t.where):
        by_server = {s: told(one) for (s, _), one in _grouped(there, lambda t: (t.server, ""))}
        known = {s: t for s, t in by_server.items() if t is not None}
        if len({t[0] for t in known.values()}) > 1:
            said = ", ".join(f"{s} says {t[0]}" for s, t in known.items())
            yield Finding(kind="servers-differ", severity="fault", name=name, type=rtype, where=where,
                          text=f"{said}: which one a client hears is chance, and the first that answers ends the search")  # fmt: skip
        elif len({t[1] for t in known.values()}) > 1:
            said = "; ".join(f"{s}: {_few(t[1])}" for s, t in known.items())
            yield Finding(kind="servers-differ", severity="fault", name=name, type=rtype, where=where,
                          text=f"the servers hold different records: {said}")  # fmt: skip
        if known and {t[0] for t in known.values()} <= {"SERVFAIL", "REFUSED", "NXDOMAIN", "NODATA"}:
            word = sorted({t[0] for t in known.values()})
            yield Finding(kind="no-records", severity="fault", name=name, type=rtype, where=where,
                          text=f"no server has it: {', '.join(word)}")  # fmt: skip
    for server, same in _grouped(results, lambda t: (t.server, "")):
        by_place = {w: told(one) for (w, _), one in _grouped(same, lambda t: (t.where, ""))}
        if len(by_place) > 1 and len(set(by_place.values())) > 1:
            said = ", ".join(
                f"{w}: {t[0] + ' ' + _few(t[1]) if t else 'no answer'}" for w, t in by_place.items()
            )
            yield Finding(kind="places-differ", severity="fault", name=name, type=rtype, server=server[0],
                          where="", text=f"the answer depends on where one asks: {said}")  # fmt: skip


def fits(results: Sequence[Tried]) -> list[Fit]:
    """The largest UDP answer of each server against each MTU."""
    found: list[Fit] = []
    for (name, rtype), same in _grouped(results, lambda t: (t.name, t.type)):
        for (server, _), one in _grouped(same, lambda t: (t.server, "")):
            whole = [t for t in one if not t.error and not t.truncated]
            udp = max((t for t in whole if t.transport == "udp"), key=lambda t: t.size, default=None)
            # Lost by UDP and there by TCP: judge what UDP would have carried.
            lost = [t for t in one if t.error and t.transport == "udp" and t.edns]
            size = max((t.size for t in whole if any(t.size <= (w.edns or 0) for w in lost)), default=0)
            size, df = max((size, None), (udp.size, udp.df) if udp else (0, None), key=lambda p: p[0])
            packet = size + UDP_HEADERS[_version(server)]
            for mtu, link in MTUS.items() if size else ():
                verdict = "fits"
                if packet > mtu:
                    verdict = {
                        True: "dropped (DF)",
                        False: "fragmented",
                        None: "dropped if DF, else fragmented",
                    }[df]
                found.append(Fit(name=name, type=rtype, server=server, message=size, packet=packet,
                                 mtu=mtu, link=link, outcome=verdict))  # fmt: skip
    return found


def without_edns(results: Sequence[Tried]) -> list[str]:
    """What a client without EDNS (glibc, musl and dig +noedns) gets from each server, in words."""
    lines: list[str] = []
    for (server, where), one in _grouped(results, lambda t: (t.server, t.where)):
        for (name, rtype), same in _grouped(one, lambda t: (t.name, t.type)):
            plain = next((t for t in same if t.transport == "udp" and t.edns is None), None)
            tcp = next((t for t in same if t.transport == "tcp"), None)
            if plain is None:
                continue
            head = f"{name} {rtype} from {server}" + (f" in {where}" if where != "here" else "")
            if plain.error:
                lines.append(f"{head}: {plain.error}")
            elif plain.truncated:
                after = (
                    "TCP was not asked"
                    if tcp is None
                    else (
                        f"then TCP fails ({tcp.error})"
                        if tcp.error
                        else f"then {outcome(tcp)} over TCP ({tcp.size} octets)"
                    )
                )
                kept = f"{len(plain.records)} records and " if plain.records else ""
                lines.append(
                    f"{head}: {kept}TC in {plain.size} octets, {after}; musl before 1.2.4 does not go to TCP"
                )
            else:
                lines.append(f"{head}: {outcome(plain)} in {plain.size} octets")
    return lines


def _version(server: str) -> int:
    return 6 if server.count(":") > 1 else 4


def _ways(results: Iterable[Tried]) -> str:
    return ", ".join(dict.fromkeys(str(t.way) for t in results))


def _few(records: tuple[str, ...]) -> str:
    return (
        ", ".join(records[:3]) + (f" and {len(records) - 3} more" if len(records) > 3 else "")
        if records
        else "nothing"
    )
